//! What the service needs of a container engine, as small traits; [`docker`] fulfils them with bollard.
//!
//! The engine is never proxied: every request is built field by field from these types.
//! Dropping the future of any call stops what it does at the engine (a build in about 13 ms, a push in about 0.2 s).

pub mod containers;
#[allow(clippy::disallowed_types, reason = "the home of bollard")]
pub mod docker;
pub mod folders;
pub mod frames;
pub mod image_config;
mod ledger;
mod pass;
pub mod request;
pub mod ssh;
pub mod terminals;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use crate::domain::{
    BuildId, BuildSecret, BuilderKind, Credentials, Digest, ErrorKind, ImageRef, Layer, LogLine, NetworkMode, NodeId,
};

/// An uncompressed tar, streamed.
pub type ContextStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Why the engine did not do it: its own words, sorted by whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub kind: ErrorKind,
    /// Stable, in `snake_case`.
    pub code: &'static str,
    /// Verbatim.
    pub message: String,
    pub dockerfile_line: Option<u32>,
    /// Whether the same call may well succeed a little later (engine away, registry overloaded).
    pub transient: bool,
}

/// The code of an image that somebody else's removal of the very same image took away: done again, the build makes it again.
pub const VANISHED: &str = "image_vanished";

pub use ledger::Ledger;
pub use pass::{Allowance, Pass, RegistryAuth, Token, TokenWanted};

pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Who the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its own id, which is the node's id.
    pub node: NodeId,
    pub version: String,
    pub os: String,
    pub architecture: String,
    pub storage_driver: String,
    /// Registries that the engine talks to without TLS verification, as hosts or CIDRs, besides 127.0.0.0/8.
    pub insecure_registries: Vec<String>,
    /// Where it keeps images, on its own machine.
    pub data_root: Option<PathBuf>,
}

/// What BuildKit is told of a build, and the classic builder does not know.
#[derive(Clone, Default)]
pub struct BuildkitOnly {
    /// For `RUN --mount=type=secret`.
    pub secrets: Vec<BuildSecret>,
    /// Private keys for `RUN --mount=type=ssh`, which were seen to be readable.
    pub ssh: Vec<BuildSecret>,
    /// Images whose layers may be used as a cache, as `name@digest`.
    pub cache_from: Vec<String>,
    /// Whether the image tells how its layers were made.
    pub inline_cache: bool,
    /// Before the ids of cache mounts; the engine's own, which everybody shares, if there is none.
    pub mount_namespace: Option<String>,
    /// A name that the steps of this build have in their `/etc/hosts`. It keeps what they make apart from what the same steps made without
    /// that name: BuildKit takes it for a part of what a step is, but asks nobody who knows the step for the secrets that it was run with.
    pub apart: Option<String>,
}

/// Everything that the engine is told about a build.
#[derive(Clone)]
pub struct BuildRequest {
    pub id: BuildId,
    /// Path inside the context.
    pub dockerfile: String,
    /// Names of its build stages, as the builder shows them; none when there is but one. The engine does a step once for all who have it,
    /// and names it for all by the stage of whoever came first: others' names are not told.
    pub stages: Vec<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub target: Option<String>,
    pub platform: Option<String>,
    pub no_cache: bool,
    pub pull: bool,
    pub network: NetworkMode,
    pub memory_bytes: Option<u64>,
    pub milli_cpus: Option<u64>,
    /// For pulling base images; each is given only for its own host.
    pub credentials: Vec<Credentials>,
    /// Fetches the tokens for that, where the builder leaves it to us (BuildKit does).
    pub registries: Arc<dyn RegistryAuth>,
    pub builder: BuilderKind,
    pub buildkit: BuildkitOnly,
}

/// What a build makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    pub id: Digest,
    pub size_bytes: u64,
    /// Those that are short enough to be kept.
    pub labels: BTreeMap<String, String>,
    /// The newest of its layers, oldest first; at most [`crate::domain::limits::STEPS`].
    pub layers: Vec<Layer>,
}

/// Lines of the log as the engine tells them. A bounded channel: a slow reader slows the engine, memory stays flat.
pub type Lines = mpsc::Sender<LogLine>;

#[async_trait]
pub trait Engine: Send + Sync {
    /// Answers within 5 s or fails.
    async fn info(&self) -> Result<EngineInfo>;
    /// Which builder serves a build: classic when limits are asked for or the engine has no session, else BuildKit.
    async fn choose_builder(&self, limits: bool) -> Result<BuilderKind>;
}

#[async_trait]
pub trait Builder: Send + Sync {
    /// Builds the context and tags the image with [`crate::domain::local_tag`] of the id, and nothing else.
    /// Leaves no container or half-made image behind, also when it fails or is dropped.
    async fn build(&self, request: BuildRequest, context: ContextStream, lines: Lines) -> Result<BuiltImage>;
}

/// A whole engine.
pub trait ContainerEngine: Engine + Builder + Images + containers::Library {}

impl<T: Engine + Builder + Images + containers::Library> ContainerEngine for T {}

/// What is left of an image after our tag was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// The image went with its last tag.
    Removed,
    /// Another tag or a container keeps it.
    Kept,
    /// There was no such tag.
    Absent,
}

/// Publishes an image that is on the engine, under a name that it bears only meanwhile.
#[async_trait]
pub trait Publish: Send + Sync {
    /// Answers the digest that the destination's tag then names. One push to a destination at a time: the caller sees to it.
    ///
    /// # Errors
    /// The registry's or the engine's words.
    async fn publish(
        &self,
        image: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
        lines: &Lines,
    ) -> Result<Digest>;
}

#[async_trait]
pub trait Images: Send + Sync {
    /// The id of the image that a local tag or id names.
    async fn image_id(&self, reference: &str) -> Result<Option<Digest>>;
    /// Gives the image another tag, replacing the one that stood there.
    async fn tag(&self, image: &Digest, reference: &str) -> Result<()>;
    /// Removes one tag, and the image with it when nothing else names or uses it.
    async fn untag(&self, reference: &str) -> Result<Untagged>;
    /// Removes what builds have cached and no build has used for this long; answers how many bytes that were.
    async fn prune_cache(&self, unused_for: Duration) -> Result<u64>;
    /// Our own tags ([`crate::domain::local_tag`]) on this engine.
    async fn local_builds(&self) -> Result<Vec<BuildId>>;
    /// Every tag on this engine.
    async fn tags(&self) -> Result<Vec<String>>;
    /// Pushes the tag `image` and answers the digest that the registry took. `lines` gets progress.
    async fn push(&self, image: &ImageRef, pass: Option<&Pass>, lines: Lines) -> Result<Digest>;
    /// The digest that the tag names at the registry, asked by the engine; `None` when there is no such tag.
    async fn remote_digest(&self, image: &ImageRef, pass: Option<&Pass>) -> Result<Option<Digest>>;
}
