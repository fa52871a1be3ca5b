//! The stages of a build, the places it publishes to, and how each can fail.

use serde::{Deserialize, Serialize};

use super::{Digest, ImageRef, Timestamp, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    Build,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// One stage of the work, with its own start and end and the worker that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: StageName,
    pub state: StageState,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub worker: Option<WorkerId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    Waiting,
    Pushing,
    Pushed,
    Failed,
}

/// One place that the image is published to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub image: ImageRef,
    pub state: DestinationState,
    pub digest: Option<Digest>,
    pub error: Option<BuildError>,
}

impl Destination {
    /// As it is before anything was pushed there.
    #[must_use]
    pub const fn waiting(image: ImageRef) -> Self {
        Self { image, state: DestinationState::Waiting, digest: None, error: None }
    }
}

/// Whose fault a failure is, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    User,
    Auth,
    Registry,
    Engine,
    Limit,
    Infra,
    Internal,
}

/// Why a build, or one of its destinations, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildError {
    pub stage: StageName,
    pub kind: ErrorKind,
    /// Stable, in `snake_case`.
    pub code: String,
    /// Verbatim from the engine or the registry where it comes from them.
    pub message: String,
    pub dockerfile_line: Option<u32>,
}
