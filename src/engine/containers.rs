//! What the service needs of an engine to run containers. Like everything at the engine: named field by field, never passed through.
//!
//! Ours are the containers, volumes and networks that carry our labels; an adapter sets those, and the defaults that no caller
//! can turn off (no capabilities but a short list, no new privileges, `init`, the `local` log driver, bounded processes, memory and CPU).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use secrecy::SecretString;
use tokio::sync::mpsc;

use super::Result;
pub use super::terminals::{Exec, ExecRequest, Terminals};
use crate::domain::{Credentials, Digest, Healthcheck, Protocol, RestartPolicy, Timestamp};

/// Label of everything that is ours: the installation that it belongs to, so that two may share an engine.
pub const INSTALLATION: &str = "dockwright.installation";
/// Label: the account that owns it.
pub const OWNER: &str = "dockwright.owner";
/// Label of a container: its run.
pub const RUN: &str = "dockwright.run";
/// Label of a container: its app, by name, for people.
pub const APP: &str = "dockwright.app";

/// Label of a container: what its image is called, for people; it is made from the image's id.
pub const IMAGE: &str = "dockwright.image";

/// A stream of what an engine tells, ended by dropping it.
pub type Told<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// A container that is to be made. Not `Debug`: its variables may be secret.
pub struct CreateContainer {
    pub name: String,
    /// The image's id, so that nothing can change between the look at it and the use.
    pub image: Digest,
    pub command: Vec<String>,
    pub entrypoint: Vec<String>,
    pub env: Vec<(String, SecretString)>,
    /// The owner's and our own.
    pub labels: BTreeMap<String, String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub hostname: String,
    pub tty: bool,
    pub read_only: bool,
    pub memory_bytes: u64,
    pub milli_cpus: u64,
    pub pids: u64,
    pub restart: RestartPolicy,
    pub healthcheck: Option<Healthcheck>,
    pub ports: Vec<PublishedPort>,
    pub mounts: Vec<EngineMount>,
    /// The engine's name of its network; none when absent.
    pub network: Option<String>,
    /// Other names of it in that network.
    pub aliases: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    pub container: u16,
    pub protocol: Protocol,
    pub address: IpAddr,
    /// First and last of the ports of the host from which the engine takes a free one; the same twice for a certain one.
    pub host: (u16, u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineMount {
    /// By the engine's name of the volume, which must exist.
    Volume {
        name: String,
        path: String,
        read_only: bool,
    },
    Bind {
        source: String,
        path: String,
        read_only: bool,
    },
}

/// What an engine calls the state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl ContainerState {
    pub const ALL: [Self; 7] =
        [Self::Created, Self::Running, Self::Paused, Self::Restarting, Self::Removing, Self::Exited, Self::Dead];

    /// The engine's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

/// A container in a list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    pub id: String,
    /// Without the slash.
    pub name: String,
    /// As it was named when the container was made.
    pub image: String,
    pub image_id: String,
    pub command: String,
    pub state: ContainerState,
    pub health: Option<Health>,
    pub labels: BTreeMap<String, String>,
    /// What is really published now.
    pub ports: Vec<OpenPort>,
    /// Engine names of its networks.
    pub networks: Vec<String>,
    /// Engine names of the volumes, or folders of the host, and where they are in it.
    pub mounts: Vec<(String, String)>,
    pub created_at: Timestamp,
}

/// A port of a container; published when it has an address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPort {
    pub container: u16,
    pub protocol: Protocol,
    pub host: Option<(IpAddr, u16)>,
}

/// One container as the engine has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetails {
    pub summary: ContainerSummary,
    pub exit_code: i64,
    pub oom_killed: bool,
    /// The engine's own word about why it could not start; empty when there is none. A command that is not there or must not be
    /// run is found out by the engine's init, after the start: `[FATAL tini (8)] exec x failed: No such file or directory`.
    pub error: String,
    /// When its process last started and ended; none when it never did.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// How often the engine has started it again by itself.
    pub restarts: u64,
    /// The last words of its healthcheck, the newest last: exit code and output.
    pub health_log: Vec<(i64, String)>,
    pub tty: bool,
    /// Names only: values may be secret.
    pub env_names: Vec<String>,
    /// Bytes written in its own layer, and of all its layers; only when they were asked for.
    pub size: Option<(u64, u64)>,
    /// Its address in each of its networks, by the engine's name.
    pub addresses: BTreeMap<String, String>,
}

/// Something has changed at the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    pub kind: EventKind,
    /// The engine's id (container) or name (volume, image), or the network's id.
    pub id: String,
    /// The engine's word: `start`, `die`, `destroy`, `health_status: healthy`, …
    pub action: String,
    /// Nanoseconds since the Unix epoch.
    pub nanos: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Container,
    Image,
    Volume,
    Network,
}

/// Which part of a container's output.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputRange {
    /// Only what is younger, in nanoseconds since the Unix epoch; the engine may give a little more.
    pub since_nanos: Option<i64>,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Go on until the container ends; all that it wrote is given then.
    pub follow: bool,
}

/// A line of a container's output, or a piece of one that is longer than [`crate::domain::limits::LOG_LINE_BYTES`].
/// From a container with a terminal everything is `stdout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// Nanoseconds since the Unix epoch, by the engine's clock.
    pub nanos: i64,
    pub stderr: bool,
    /// Without its newline; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// What a container uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    pub at: Timestamp,
    /// Thousandths of a CPU since the sample before.
    pub milli_cpus: u64,
    /// Without the page cache that can be given up.
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub pids: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// The processes of a container, as `ps` tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A difference between a container's file system and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub kind: FileChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    Modified,
    Added,
    Deleted,
}

#[async_trait]
pub trait Containers: Send + Sync {
    /// Makes a container and answers the engine's id. Nothing runs yet. A volume that is not there is refused, not made.
    ///
    /// # Errors
    /// `name_taken`, `image_not_found`, `volume_not_found`, `mount_failed`, `memory_too_small`, `cpus_out_of_range`,
    /// `workdir_invalid`, and `container_invalid` for what else the engine finds wrong with it.
    async fn create(&self, request: CreateContainer) -> Result<String>;
    /// Nothing happens when it runs already.
    ///
    /// # Errors
    /// `port_taken`, `no_free_port` (none of a range), `network_not_found`, `user_not_found`, `command_failed_to_start` (but see
    /// [`ContainerDetails::error`]). As of every call with an id: `container_not_found`.
    async fn start(&self, id: &str) -> Result<()>;
    /// Asks its process to end, and ends it after `grace`. Nothing happens when it does not run.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()>;
    async fn restart(&self, id: &str, grace: Duration) -> Result<()>;
    /// Sends a signal by its name (`SIGKILL`); `container_not_running` when there is nobody to send it to.
    async fn kill(&self, id: &str, signal: &str) -> Result<()>;
    /// Removes it with its anonymous volumes; a running one only by force (`container_running`). False when there was none.
    /// It is gone when this answers, also when somebody else removes it at the same time.
    async fn remove(&self, id: &str, force: bool) -> Result<bool>;
    /// By the engine's id or name. `sizes` costs the engine a walk through its files.
    async fn inspect(&self, id: &str, sizes: bool) -> Result<Option<ContainerDetails>>;
    /// Every container on this engine, whoever made it, or the one with this id.
    async fn containers(&self, id: Option<&str>) -> Result<Vec<ContainerSummary>>;
    /// What changes from now on, or from `since` (nanoseconds since the Unix epoch) as far as the engine remembers. Ends with an error.
    async fn events(&self, since: Option<i64>) -> Result<Told<EngineEvent>>;
    /// Lines of the output, oldest first.
    async fn output(&self, id: &str, range: OutputRange) -> Result<Told<OutputLine>>;
    /// A sample about every second, until the container ends; none for one that does not run.
    async fn stats(&self, id: &str) -> Result<Told<Stats>>;
    async fn processes(&self, id: &str) -> Result<Processes>;
    async fn changes(&self, id: &str) -> Result<Vec<FileChange>>;
}

/// A volume as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVolume {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Bytes in it and how many containers use it; absent where the engine does not know.
    pub usage: Option<(u64, u64)>,
}

#[async_trait]
pub trait Volumes: Send + Sync {
    /// A volume of the `local` driver, without options. Nothing happens when it is there with the same [`INSTALLATION`];
    /// `name_taken` when it is there without.
    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;
    /// False when there was none. A volume in use is refused (`volume_in_use`).
    async fn remove_volume(&self, name: &str) -> Result<bool>;
    /// All with our label and this value; with `usage`, which costs the engine a walk through their files.
    async fn volumes(&self, label: (&str, &str), usage: bool) -> Result<Vec<EngineVolume>>;
}

/// A network as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineNetwork {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub subnet: Option<String>,
    /// Engine ids of the containers that run in it.
    pub containers: Vec<String>,
}

#[async_trait]
pub trait Networks: Send + Sync {
    /// A bridge network of its own. Nothing happens when it is there with the same [`INSTALLATION`]; `name_taken` when it is
    /// there without; `no_free_subnet` when the engine has given all it has.
    async fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;
    /// False when there was none. A network that running containers are in is refused (`network_in_use`).
    async fn remove_network(&self, name: &str) -> Result<bool>;
    /// All with our label and this value.
    async fn networks(&self, label: (&str, &str)) -> Result<Vec<EngineNetwork>>;
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer's short id; empty for the image as a whole.
    pub layer: String,
    /// The engine's words (`Downloading`, `Pull complete`).
    pub status: String,
    /// Bytes done and in all, where they are known.
    pub bytes: Option<(u64, u64)>,
}

/// An image as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineImage {
    pub id: Digest,
    pub tags: Vec<String>,
    /// `repository@sha256:…`
    pub digests: Vec<String>,
    pub size_bytes: u64,
    pub created_at: Timestamp,
}

#[async_trait]
pub trait Library: Send + Sync {
    /// Pulls one image by tag or digest. Dropping it stops the pull. A slow reader of `progress` gets the newest of each
    /// layer and holds nothing up. A registry that hangs is not given up by the engine: bring a watch of your own.
    ///
    /// # Errors
    /// `image_not_found`, `image_invalid`, `registry_auth`, `rate_limited`, `registry_unreachable`, `registry_tls`,
    /// `registry_error`, `platform_not_supported`, `disk_full`.
    async fn pull(&self, reference: &str, credentials: Option<&Credentials>, progress: mpsc::Sender<PullProgress>) -> Result<()>;
    /// By id, tag or `repository@digest`.
    async fn image(&self, reference: &str) -> Result<Option<EngineImage>>;
    async fn images(&self) -> Result<Vec<EngineImage>>;
    /// What the image says of its containers.
    async fn image_config(&self, id: &Digest) -> Result<Option<super::image_config::ImageConfig>>;
}

/// An engine that runs containers.
pub trait Runtime: super::ContainerEngine + Containers + Terminals + Volumes + Networks + Library {}

impl<T: super::ContainerEngine + Containers + Terminals + Volumes + Networks + Library> Runtime for T {}
