//! Apps, and each time one runs.

use serde::{Deserialize, Serialize};

use super::{AppId, ContainerSpec, Digest, ErrorKind, NodeId, ObjectName, Owner, RunId, Timestamp};

/// A container that is described once and run many times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    pub owner: Owner,
    /// One of its owner's; no other app of the owner has it.
    pub name: ObjectName,
    pub spec: ContainerSpec,
    /// Base64 of the sealed values of its secret variables.
    pub sealed_env: Option<String>,
    /// Grows at each change of the spec or the name: a run of an older one needs a restart to follow.
    pub generation: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `pending → pulling → starting → running → exited`; `stopped` ends from any live state when somebody asked for it, `failed` when it never
/// ran or its container was lost. `exited` and `stopped` go back to `running` when their container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for a node, for its build, or for its turn.
    Pending,
    Pulling,
    Starting,
    Running,
    /// Its process ended by itself.
    Exited,
    Failed,
    /// Somebody ended it.
    Stopped,
}

impl RunState {
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Pulling, Self::Starting, Self::Running, Self::Exited, Self::Failed, Self::Stopped];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it still takes memory and CPU, or is about to.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Pulling | Self::Starting | Self::Running)
    }

    /// `R` while it runs or is about to, `F` when it has finished.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        if self.is_live() { "R" } else { "F" }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    pub kind: ErrorKind,
    /// Stable, in `snake_case`.
    pub code: String,
    /// Verbatim from the engine or the registry where it comes from them.
    pub message: String,
}

/// What the engine says of how a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i64,
    pub oom_killed: bool,
    pub at: Timestamp,
}

/// One container's life, from the wish for it to its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub owner: Owner,
    /// None for a container that was asked for directly.
    pub app: Option<RunOfApp>,
    /// As it was when the run was asked for.
    pub spec: ContainerSpec,
    /// Base64 of the sealed values of its secret variables.
    pub sealed_env: Option<String>,
    /// Whether the request that made it also made its build, whose log then stands before its own.
    #[serde(default)]
    pub built_here: bool,
    /// Name of stored credentials for pulling; without, those that the owner has stored for the image's registry.
    pub registry: Option<String>,
    /// The container's name, readable and random.
    pub name: String,
    pub state: RunState,
    /// Where its container is, from when a node has taken it.
    pub node: Option<NodeId>,
    /// What it was really made from.
    pub image_id: Option<Digest>,
    /// With its digest, where the registry told one.
    pub image: Option<String>,
    /// The engine's own id of the container; stays in the history when the container is gone.
    pub container: Option<String>,
    /// Whether the container was there and is not any more.
    pub removed: bool,
    /// How often it was started again, by the engine or at the engine, since somebody had it started.
    pub restarts: u64,
    /// The engine's own count of that when it was last looked at, which begins anew when the engine does.
    #[serde(default)]
    pub engine_restarts: u64,
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
    pub error: Option<RunError>,
    pub stop_requested: bool,
    /// How long it may take to end by itself, in milliseconds; the configured time when absent.
    #[serde(default)]
    pub stop_grace_ms: Option<u64>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOfApp {
    pub id: AppId,
    /// As it was called then.
    pub name: ObjectName,
    pub generation: u64,
}

impl Run {
    /// What its sealed variables are sealed for.
    #[must_use]
    pub fn purpose(owner: &Owner, id: RunId) -> String {
        format!("dockwright/run-env/v1/{owner}/{id}")
    }

    /// A node has taken it.
    pub fn taken(&mut self, node: &NodeId, state: RunState) {
        if self.state.is_live() {
            self.node = Some(node.clone());
            self.state = state;
        }
    }

    /// Its process runs, for the first time or again.
    pub fn runs(&mut self, at: Timestamp) {
        self.state = RunState::Running;
        self.started_at = Some(at);
        self.finished_at = None;
        self.exit_code = None;
        self.oom_killed = false;
        self.error = None;
        self.stop_requested = false;
        self.stop_grace_ms = None;
    }

    /// What the engine tells of its process: when that was started, and how often again. A start that is not the known one is counted.
    pub fn lives(&mut self, started_at: Option<Timestamp>, restarts: u64) {
        if started_at.is_none() || started_at == self.started_at {
            return;
        }
        self.restarts += match restarts.checked_sub(self.engine_restarts) {
            // Started by hand.
            Some(0) => 1,
            Some(more) => more,
            // The engine has begun to count anew.
            None => restarts + 1,
        };
        (self.engine_restarts, self.started_at) = (restarts, started_at);
    }

    /// Its process has ended and the engine will not start it again.
    pub fn ended(&mut self, how: &Ended) {
        if !self.state.is_live() {
            return;
        }
        self.state = if self.stop_requested { RunState::Stopped } else { RunState::Exited };
        self.exit_code = Some(how.exit_code);
        self.oom_killed = how.oom_killed;
        // An engine may note the start of a very short process after its end.
        self.finished_at = Some(how.at).max(self.started_at);
    }

    /// Stopped before there was a process, or when nobody can tell how it ended.
    pub fn stopped(&mut self, at: Timestamp) {
        if self.state.is_live() {
            self.state = RunState::Stopped;
            self.finished_at = Some(at);
        }
    }

    pub fn failed(&mut self, error: RunError, at: Timestamp) {
        if self.state.is_live() {
            self.state = RunState::Failed;
            self.error = Some(error);
            self.finished_at = Some(at);
        }
    }

    /// Its container is gone. A live run whose container goes without our doing has failed by that.
    pub fn container_gone(&mut self, at: Timestamp) {
        self.removed = self.container.is_some();
        if self.stop_requested {
            self.stopped(at);
        } else {
            let message = "the container was removed from the engine by somebody else".to_owned();
            self.failed(RunError { kind: ErrorKind::Infra, code: "container_removed".into(), message }, at);
        }
    }
}

impl App {
    /// What its sealed variables are sealed for.
    #[must_use]
    pub fn purpose(owner: &Owner, id: AppId) -> String {
        format!("dockwright/app-env/v1/{owner}/{id}")
    }
}

/// A volume of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: ObjectName,
    pub owner: Owner,
    /// What the engine calls it.
    pub engine_name: String,
    pub node: NodeId,
    pub created_at: Timestamp,
}

/// A network of an owner; the same fields as a volume's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: ObjectName,
    pub owner: Owner,
    pub engine_name: String,
    pub node: NodeId,
    pub created_at: Timestamp,
}

/// An image that an owner has pulled: without such a record, nobody may use what somebody else's credentials brought here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    pub owner: Owner,
    /// Normalised.
    pub reference: String,
    pub image_id: Digest,
    pub node: NodeId,
    /// Whether credentials were needed (or at least sent) for it.
    pub private: bool,
    /// The name of ours by which the engine keeps it. Without one, the engine has it by its reference, for everybody.
    #[serde(default)]
    pub kept_as: Option<String>,
    /// Whether the engine has it by its reference because it was pulled here.
    #[serde(default)]
    pub brought: bool,
    /// The registry's digest that it was pulled by, when that was not by its tag.
    #[serde(default)]
    pub digest: Option<Digest>,
    pub pulled_at: Timestamp,
}

impl PulledImage {
    /// Its id in the store. Names of accounts hold no `/`.
    #[must_use]
    pub fn id(owner: &Owner, reference: &str) -> String {
        format!("{owner}/{reference}")
    }
}

/// What an owner's containers take, by run; written in the commit that changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    pub runs: std::collections::BTreeMap<String, Holding>,
}

/// What one run takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Zero when its container has ended.
    pub memory_bytes: u64,
    pub milli_cpus: u64,
    pub ports: u64,
    /// Those that it names: they are there, or will be.
    #[serde(default, skip_serializing_if = "std::collections::BTreeSet::is_empty")]
    pub volumes: std::collections::BTreeSet<ObjectName>,
}

impl Holdings {
    #[must_use]
    pub fn containers(&self) -> u64 {
        self.runs.len() as u64
    }

    #[must_use]
    pub fn sum(&self, part: impl Fn(&Holding) -> u64) -> u64 {
        self.runs.values().map(part).fold(0, u64::saturating_add)
    }
}

/// One entry of a run's own log: what the service did for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNote {
    pub at: Timestamp,
    pub text: String,
}

/// The part of a run's log that the engine does not have: what was done for it, and the end of its output when its container is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLog {
    pub notes: Vec<RunNote>,
    /// The end of the output, saved when the container went.
    pub saved: Vec<SavedLine>,
    /// Whether there was more output than was saved.
    pub clipped: bool,
}

/// A line of a container's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLine {
    /// Nanoseconds since the Unix epoch, by the engine's clock.
    pub nanos: i64,
    pub stderr: bool,
    pub text: String,
}
