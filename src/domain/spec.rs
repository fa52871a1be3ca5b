use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ImageRef;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuilderKind {
    Buildkit,
    Classic,
}

/// What a client asked for: every option of a build, checked and normalised. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// Destinations in the order they were named; empty only when `push` is false.
    pub images: Vec<ImageRef>,
    /// The Dockerfile's path inside the context, `/`-separated and relative.
    pub dockerfile: String,
    /// Whether an uploaded `file` stands in for the Dockerfile inside the context.
    pub dockerfile_replaced: bool,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub target: Option<String>,
    pub platform: Option<String>,
    pub no_cache: bool,
    pub pull: bool,
    pub push: bool,
    pub network: NetworkMode,
    /// Bytes of memory for the steps of the build.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU for the steps of the build.
    pub milli_cpus: Option<u64>,
    /// Longest time from claim to end, in milliseconds.
    pub timeout_ms: u64,
    pub priority: Priority,
    /// The user name that came with the build; its password is sealed elsewhere.
    pub username: Option<String>,
    /// The registry host that the credentials are bound to.
    pub registry_host: Option<String>,
    /// Names of the stored registries whose credentials the build was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<String>,
    /// What belongs together: the builds of one project of an owner share caches, are kept by one rule and take each other's place.
    /// As it was named, else the repository of the first destination; empty when neither is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Images whose layers may be used as a cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<ImageRef>,
    /// Whether the image tells how its layers were made, so that it can be a cache itself.
    #[serde(default)]
    pub inline_cache: bool,
    /// No cache of any kind is used: neither of layers nor of cache mounts.
    #[serde(default)]
    pub cold: bool,
    /// Whether it ends the older live builds of its images and project.
    #[serde(default)]
    pub supersede: bool,
    /// Ids of the build secrets; their values are sealed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Ids of the forwarded ssh keys; they are sealed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<String>,
}

impl BuildSpec {
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Limits of memory or CPU are honoured only by the classic builder.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.memory_bytes.is_some() || self.milli_cpus.is_some()
    }

    /// Whether the build was given secrets or ssh keys: they are gone when it has ended, and must be sent again to build it again.
    #[must_use]
    pub fn needs_secrets(&self) -> bool {
        !self.secrets.is_empty() || !self.ssh.is_empty()
    }
}

/// The network of the build's `RUN` steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    #[default]
    Default,
    None,
}

/// −10 … 10; among the queued builds of one owner the higher goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "i8", into = "i8")]
pub struct Priority(i8);

impl Priority {
    pub const MIN: i8 = -10;
    pub const MAX: i8 = 10;

    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl TryFrom<i8> for Priority {
    type Error = String;

    fn try_from(value: i8) -> Result<Self, String> {
        if (Self::MIN..=Self::MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("must be a whole number from {} to {}", Self::MIN, Self::MAX))
        }
    }
}

impl From<Priority> for i8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}
