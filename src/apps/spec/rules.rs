use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::domain::Role;
use crate::domain::quantity::{Bytes, Cpus};

/// What an operator allows, and what stands where a request says nothing.
#[derive(Debug, Clone)]
pub struct SpecRules {
    /// The ports of the host that containers may have.
    pub host_ports: RangeInclusive<u16>,
    pub default_memory: Bytes,
    pub max_memory: Bytes,
    pub default_cpus: Cpus,
    pub max_cpus: Cpus,
    pub default_pids: u64,
    pub max_pids: u64,
    /// Folders of the host below which admins may mount; none by default.
    pub bind_roots: Vec<PathBuf>,
    /// Folders and sockets that nobody may mount, nor what holds them: the engine's socket, our own data.
    pub forbidden_sources: Vec<PathBuf>,
}

impl Default for SpecRules {
    /// For a machine of four CPUs or more.
    fn default() -> Self {
        Self {
            host_ports: 20_000..=29_999,
            default_memory: Bytes(512 << 20),
            max_memory: Bytes(4 << 30),
            default_cpus: Cpus(1000),
            max_cpus: Cpus(4000),
            default_pids: 256,
            max_pids: 4096,
            bind_roots: Vec::new(),
            forbidden_sources: Vec::new(),
        }
    }
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    User,
    /// May also use [`crate::domain::AdminOnly`].
    Admin,
}

impl From<Role> for Rights {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Admin => Self::Admin,
        }
    }
}
