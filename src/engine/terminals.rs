//! What the service needs of an engine to run processes in containers.

use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Result;

/// A process that is to be started in a running container.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub user: Option<String>,
    pub tty: bool,
    /// Columns and rows.
    pub size: Option<(u16, u16)>,
}

/// A process in a container, with the ends of its terminal (or of its pipes, in the engine's frames: see
/// [`super::frames::FrameReader`]).
pub struct Exec {
    /// The engine's id of it.
    pub id: String,
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

#[async_trait]
pub trait Terminals: Send + Sync {
    /// Starts a process. A command that is not there is told by the engine in the output, and by exit code 126 or 127.
    ///
    /// # Errors
    /// `container_not_running`, `container_paused`, `container_not_found`.
    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Exec>;
    /// Nothing happens when it has ended.
    async fn resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()>;
    /// `None` while it runs.
    async fn exit_code(&self, exec: &str) -> Result<Option<i64>>;
    /// Ends the process and what it has started: dropping its ends does not. To be called for each, also when it has ended by
    /// itself: what it left in the background goes, too. Nothing happens when nothing is left.
    async fn end(&self, container: &str, exec: &str) -> Result<()>;
}
