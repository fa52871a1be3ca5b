//! A stored upload as the engine gets it: an uncompressed tar, written anew entry by entry while it is read.
//!
//! - `NAME.dockerignore` beside the Dockerfile, else `.dockerignore`, is applied. The Dockerfile is always sent, because the engine
//!   reads it from the context. Towards the classic builder `.dockerignore` is always sent too: that builder takes both out
//!   again, before any `COPY`, when the patterns exclude them (moby `builder/remotecontext`).
//! - Owner and group are root, as the Docker CLI sends them; modes, times and link targets are kept.
//! - For `docker build` hard links are files of their own. So when the file that others link to is left out, its bytes are sent
//!   under the name of the first link that is not, and further links point there.
//!
//! The reading runs in a blocking task and hands over chunks through a bounded channel: memory stays flat, and when the stream is
//! dropped the task ends at its next chunk or entry.

mod assemble;
mod plan;
pub(super) mod write;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::archive::ArchiveLimits;
use crate::domain::BuilderKind;

pub use write::TarWriter;

/// An uncompressed tar, in chunks of at most 256 KiB.
pub type ContextStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Chunks that wait between the reading and the sending side.
const CHUNKS: usize = 4;

/// What a context is made of.
#[derive(Debug, Clone)]
pub enum Source {
    /// A Dockerfile alone: the context holds it and nothing else.
    Dockerfile(Vec<u8>),
    /// A stored archive of any kind; `replacement` stands in for the Dockerfile inside.
    Archive { path: PathBuf, replacement: Option<Vec<u8>> },
    /// A kept manifest, with the root of the storage that has its blobs; `replacement` as above.
    Manifest { path: PathBuf, root: PathBuf, replacement: Option<Vec<u8>> },
}

/// How it is put together.
#[derive(Debug, Clone)]
pub struct Assemble {
    /// The Dockerfile's path inside the context.
    pub dockerfile: String,
    /// For whom: see the module's page.
    pub builder: BuilderKind,
    pub limits: ArchiveLimits,
}

/// Opens the context as a stream. A fault of the archive comes as an [`io::Error`] that holds a
/// [`super::ContextFault`]; all that was checked when the archive was received is checked again.
///
/// Must be called inside a Tokio runtime.
#[must_use]
pub fn open(source: Source, plan: Assemble) -> ContextStream {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut writer = TarWriter::new(sender);
        if let Err(error) = assemble::run(&source, &plan, &mut writer) {
            writer.fail(error);
        }
    });
    Box::pin(ReceiverStream::new(receiver).fuse())
}
