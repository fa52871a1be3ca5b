//! The stages of a build, the places it publishes to, and how each can fail.

use serde::{Deserialize, Serialize};

use super::{BuildId, Digest, ImageRef, Timestamp, WorkerId};

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
    /// A younger build has pushed this tag: it was left alone.
    Superseded,
}

/// What a registry was sent of an image, in bytes, as far as the engine tells: to three digits, and without the layers that were there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub total: u64,
    pub done: u64,
}

/// One place that the image is published to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub image: ImageRef,
    pub state: DestinationState,
    pub digest: Option<Digest>,
    pub error: Option<BuildError>,
    /// How often the push was tried.
    #[serde(default)]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Transfer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The younger build that has the tag; `None` also when that is another owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<BuildId>,
    /// The build that this one repeats, when that had pushed the image already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<BuildId>,
}

impl Destination {
    /// As it is before anything was pushed there.
    #[must_use]
    pub const fn waiting(image: ImageRef) -> Self {
        Self {
            image,
            state: DestinationState::Waiting,
            digest: None,
            error: None,
            attempts: 0,
            bytes: None,
            started_at: None,
            finished_at: None,
            superseded_by: None,
            carried_from: None,
        }
    }

    /// A push begins.
    pub fn begin(&mut self, now: Timestamp) {
        *self = Self { attempts: self.attempts, ..Self::waiting(self.image.clone()) };
        self.state = DestinationState::Pushing;
        self.started_at = Some(now);
    }

    /// The push was given up, and is to be made again.
    pub fn put_off(&mut self) {
        *self = Self { attempts: self.attempts, ..Self::waiting(self.image.clone()) };
    }

    pub fn pushed(&mut self, digest: Digest, now: Timestamp) {
        self.state = DestinationState::Pushed;
        self.digest = Some(digest);
        self.error = None;
        self.finished_at = Some(now);
    }

    pub fn failed(&mut self, error: BuildError, now: Timestamp) {
        self.state = DestinationState::Failed;
        self.error = Some(error);
        self.finished_at = Some(now);
    }

    pub fn superseded(&mut self, by: Option<BuildId>, now: Timestamp) {
        self.state = DestinationState::Superseded;
        self.superseded_by = by;
        self.finished_at = Some(now);
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

impl ErrorKind {
    /// Whether trying again cannot help before somebody has changed something.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        matches!(self, Self::User | Self::Auth | Self::Limit)
    }
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
