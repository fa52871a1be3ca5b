//! What the store takes and gives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{BuildId, BuildRecord, ContextKind, Fence, NodeId, Quota, Scope, Timestamp, WorkerId};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The caller's claim is over: another worker has the build, or the build is gone.
    #[error("the lease of this build was lost")]
    Lost,
    /// Refused by the rules of the domain (for example: the build has ended already).
    #[error("{0}")]
    Refused(String),
    /// The backend cannot be reached or did not answer in time; the write may or may not have happened and can be repeated.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// An expectation of a commit does not hold: somebody else was faster.
    #[error("it was changed meanwhile")]
    Conflict,
    /// An account would use more than it may; the name is that of the field of [`Quota`].
    #[error("quota {quota}: {used} of {limit} are used")]
    OverQuota { quota: &'static str, limit: u64, used: u64 },
    /// The disk below the store is full.
    #[error("the store's disk is full")]
    Full,
    /// A stored build that this version does not understand.
    #[error("a stored build cannot be read: {0}")]
    Unreadable(String),
    /// Another stored value that this version does not understand, or a fault of ours.
    #[error("the store failed: {0}")]
    Internal(String),
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A build as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub record: BuildRecord,
    /// Grows at every change of the record; what an `ETag` is made of.
    pub revision: u64,
    /// Number of the newest event.
    pub last_seq: u64,
    /// Fence of the newest claim; zero before the first.
    pub fence: Fence,
    /// Whether a claim is on it now.
    pub leased: bool,
    /// The number of its acceptance: the store gives a build that is accepted later a higher one, whatever a clock or an id says.
    pub order: u64,
}

impl Stored {
    /// By what builds are older or younger than each other: the number of the acceptance, a retry's being that of the build it repeats.
    #[must_use]
    pub fn age(&self) -> u64 {
        self.record.repeats_order.unwrap_or(self.order)
    }
}

/// All that is written when a build is accepted.
#[derive(Debug, Clone)]
pub struct NewBuild {
    pub record: BuildRecord,
    /// The Dockerfile's text, at most [`crate::domain::limits::DOCKERFILE_BYTES`].
    pub dockerfile: Vec<u8>,
    /// The credentials, encrypted; erased when the build ends.
    pub sealed: Option<Vec<u8>>,
    /// What its owner may use. Checked in the commit itself; how many may run is remembered for the claims to come.
    pub quota: Quota,
}

impl NewBuild {
    /// What it takes of its owner's room: its Dockerfile and context. Blobs, which several builds share, are counted beside.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let info = &self.record.context;
        let context = if info.kind == ContextKind::File { 0 } else { info.kept_bytes.unwrap_or(info.bytes) };
        self.dockerfile.len() as u64 + context
    }
}

/// A build in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// After the claim: state, attempt, worker and node are those of this claim.
    pub stored: Stored,
    pub fence: Fence,
    pub start: crate::domain::AttemptStart,
    pub sealed: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Continue,
    CancelRequested,
    Lost,
}

/// On whose behalf a record is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The worker that holds this claim.
    Lease(Fence),
    /// A caller who may see the scope.
    Scope(Scope),
}

/// What a lease that ran out came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    pub build: BuildId,
    pub lapse: crate::domain::Lapse,
}

/// A worker process that said lately that it is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub worker: WorkerId,
    pub node: NodeId,
    /// Builds it does at once.
    pub slots: u32,
    pub running: u32,
    /// Whether its engine answered last time.
    pub engine_ready: bool,
    /// Whether it takes no build because there is no room on its disk.
    #[serde(default)]
    pub disk_full: bool,
    /// Whether it takes no build until all that it has in hands have ended, to do one alone.
    #[serde(default)]
    pub clearing: bool,
    /// Engine version, for people.
    pub engine: String,
    pub seen_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStats {
    pub queued: u64,
    pub running: u64,
}

/// A build whose record this version cannot read holds up nobody: it leaves the queue with a lease of this length that nobody
/// has, unchanged, and with an error in the log. When the lease ends, whoever can read the record takes the build up as one whose worker
/// was lost; whoever cannot sets it aside again.
pub const SET_ASIDE: Duration = Duration::from_secs(600);

/// Whether a worker holds the build while it is changed.
pub type Leased = bool;
/// A rule of the domain, applied to a record inside a commit: the record, the store's time, whether it is leased.
pub type Change = std::sync::Arc<dyn Fn(&mut BuildRecord, Timestamp, Leased) -> Result<()> + Send + Sync>;
