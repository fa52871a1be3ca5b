//! The containers of one node: known through one stream of events, and kept as their records say.
//!
//! ```text
//! records   runs and what they take, changed in one commit
//! seen      every container of the engine, fed by one list and one stream of events; lists never ask the engine
//! keeper    each live run has a task that brings it from the wish to its end, from whatever state it is found in
//! steps     what that task does in each state
//! ends      the last of them: how a run comes to its end
//! history   how much is kept of runs that are over
//! images    which image a run is made from, and who may use it
//! pulls     one pull for many runs of one image
//! places    networks and volumes
//! room      whether an owner may have one more run, volume or network
//! turns     how many runs of one owner are prepared at once
//! log       what a run's log has beside its container's output
//! sweep     containers, networks and volumes of ours that have no record
//! ```

mod ends;
mod history;
mod images;
mod keeper;
mod log;
mod names;
mod places;
mod pulls;
mod records;
mod room;
mod seen;
mod steps;
mod sweep;
mod turns;

use core::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::builds::Builds;
use crate::domain::NodeId;
use crate::engine::RegistryAuth;
use crate::engine::containers::Runtime;
use crate::store::Store;
use crate::vault::Vault;

pub use history::trim_once;
pub use images::PullWatch;
pub use keeper::keep;
pub use names::container_name;
pub use places::own_id;
pub use pulls::Pull;
pub use records::Records;
pub use seen::{Seen, Whose};
pub use steps::Fault;
pub use sweep::sweep_once;

/// What an operator says of containers.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// Where ports are published.
    pub publish_address: IpAddr,
    /// Ports of the host that may be published.
    pub host_ports: RangeInclusive<u16>,
    /// Folders of the host that admins may mount.
    pub bind_roots: Vec<PathBuf>,
    /// What nobody may mount.
    pub forbidden_sources: Vec<PathBuf>,
    /// How long a container has to end when it is asked to.
    pub grace: Duration,
    /// Runs of an app, and runs of an owner without one, that are kept; older ones go when they are over. At least 1.
    pub keep_runs: u64,
    /// How long a pull may tell nothing before it is given up.
    pub pull_silence: Duration,
    /// What tells our containers from those of another installation on the same engine.
    pub installation: String,
}

/// The containers of the engine that this process speaks with. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Runtime>,
    store: Store,
    vault: Arc<Vault>,
    registries: Arc<dyn RegistryAuth>,
    builds: Arc<Builds>,
    settings: FleetSettings,
    seen: seen::Cache,
    pulls: pulls::Pulls,
    turns: turns::Turns,
    /// Held while a network is made: the engine makes two of one name when it is asked twice at once.
    making: tokio::sync::Mutex<()>,
    node: Mutex<Option<NodeId>>,
}

impl Fleet {
    #[must_use]
    pub fn new(
        engine: Arc<dyn Runtime>,
        registries: Arc<dyn RegistryAuth>,
        vault: Arc<Vault>,
        builds: Arc<Builds>,
        settings: FleetSettings,
    ) -> Self {
        let store = builds.store().clone();
        let inner = Inner {
            engine,
            store,
            vault,
            registries,
            builds,
            settings,
            seen: seen::Cache::default(),
            pulls: pulls::Pulls::default(),
            turns: turns::Turns::default(),
            making: tokio::sync::Mutex::default(),
            node: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Runtime> {
        &self.inner.engine
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.inner.vault
    }

    #[must_use]
    pub fn builds(&self) -> &Arc<Builds> {
        &self.inner.builds
    }

    #[must_use]
    pub fn settings(&self) -> &FleetSettings {
        &self.inner.settings
    }

    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records(&self.inner.store)
    }

    /// The engine's id, once it has answered.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.inner.node.lock().expect("not poisoned, because nothing panics while it is held").clone()
    }

    fn set_node(&self, node: NodeId) {
        *self.inner.node.lock().expect("not poisoned, because nothing panics while it is held") = Some(node);
    }

    fn seen_cache(&self) -> &seen::Cache {
        &self.inner.seen
    }
}
