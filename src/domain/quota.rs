use serde::{Deserialize, Serialize};

/// What an account may use at most; what is absent is bounded only by the service's own limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Builds that workers have in hands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds_running: Option<u64>,
    /// Builds that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds_queued: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads_per_minute: Option<u64>,
    /// Bytes of one upload, as it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_bytes: Option<u64>,
    /// Bytes of all stored Dockerfiles, contexts and blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Longest time of one build, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u64>,
    /// Bytes of memory of all containers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU of all containers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u64>,
    /// Beside the one called `default`, which everybody has; 4 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<u64>,
    /// Ports of the host that containers are published on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u64>,
}

impl Quota {
    /// Whether the store must look at it when a build is accepted, or has a number in hands to remember.
    #[must_use]
    pub const fn bounds_builds(&self) -> bool {
        self.builds_queued.is_some() || self.stored_bytes.is_some() || self.builds_running.is_some()
    }
}

/// What an account uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Usage {
    pub builds_running: u64,
    pub builds_queued: u64,
    pub builds: u64,
    pub stored_bytes: u64,
    pub uploads_this_minute: u64,
    /// Containers that exist, also ended ones.
    pub containers: u64,
    /// Of live containers, in bytes.
    pub memory_bytes: u64,
    pub milli_cpus: u64,
    /// Also those that a live run is about to make.
    pub volumes: u64,
    /// Beside the one called `default`.
    pub networks: u64,
    pub ports: u64,
}
