//! What can be done with apps, runs, containers, volumes, networks and images: the rules of who may do what, and with how much.

mod app;
mod containers;
mod env;
mod images;
mod names;
mod networks;
mod output;
mod place;
mod removal;
mod runs;
pub mod spec;
mod terminal;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Principal;
use crate::domain::{Owner, Permission, Usage};
use crate::error::Error;
use crate::fleet::{Fault, Fleet};
use crate::store::Store;

pub use app::{AppState, NamedApp};
pub use containers::{ContainerFilter, ContainerInfo, Deed};
pub use images::{ImageInfo, ImageUse};
pub use names::PlaceNames;
pub use networks::NetworkInfo;
pub use output::{Line, Lines, OutputQuery};
pub use place::Place;
pub use removal::Owned;
pub use runs::{NewRun, RunFilter};
pub use terminal::{Attached, Hands, News, Parted, SIZE_MAX, Screen, TerminalPlace, TerminalRequest, Typed};
pub use volumes::VolumeInfo;

/// Types of the engine that answers are made of.
pub mod engine {
    pub use crate::engine::containers::{
        ContainerDetails, ContainerState, ContainerSummary, FileChange, FileChangeKind, Health, OpenPort, Processes, Stats,
    };
    pub use crate::fleet::{Seen, Whose};
}

/// The use-cases of this room.
pub struct Apps {
    fleet: Fleet,
    rules: spec::SpecRules,
    terminals: Arc<terminal::Sessions>,
}

impl Apps {
    /// `terminal_keep`: how long the process of a terminal waits for somebody to come back to it.
    #[must_use]
    pub fn new(fleet: Fleet, rules: spec::SpecRules, terminal_keep: Duration) -> Self {
        Self { fleet, rules, terminals: Arc::new(terminal::Sessions::new(terminal_keep)) }
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        self.fleet.store()
    }

    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    #[must_use]
    pub fn rules(&self) -> &spec::SpecRules {
        &self.rules
    }

    /// What an account uses, with what its containers take.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn usage(&self, owner: &Owner, usage: Usage) -> Result<Usage, Error> {
        let records = self.fleet.records();
        let held = records.holdings(owner).await?;
        Ok(Usage {
            containers: held.containers(),
            memory_bytes: held.sum(|run| run.memory_bytes),
            milli_cpus: held.sum(|run| run.milli_cpus),
            ports: held.sum(|run| run.ports),
            volumes: records.volumes(owner).await?,
            networks: records.networks(owner).await?,
            ..usage
        })
    }

    fn rights(caller: &Principal) -> spec::Rights {
        if caller.permissions.has(Permission::Admin) { spec::Rights::Admin } else { spec::Rights::User }
    }

    /// The one owner whose names are meant: the caller, or another one for an admin who names it.
    fn named_scope(caller: &Principal, owner: Option<&Owner>) -> Result<Owner, Error> {
        match owner {
            None => Ok(caller.owner.clone()),
            Some(owner) if caller.scope().covers(owner) => Ok(owner.clone()),
            Some(_) => Err(Error::NotFound("account")),
        }
    }
}

/// What the fleet says, as the service says it. The engine's words are shown as they are.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error.into(),
            Fault::Later(why) => Self::engine_away(why),
            Fault::Run(error) if error.code == "storage_full" => Self::StorageFull(error.message),
            Fault::Run(error) => Self::Engine { kind: error.kind, code: error.code, message: error.message },
        }
    }
}

impl From<crate::engine::EngineError> for Error {
    fn from(error: crate::engine::EngineError) -> Self {
        if error.transient && error.code == "engine_unavailable" {
            return Self::engine_away(error.message);
        }
        Self::Engine { kind: error.kind, code: error.code.to_owned(), message: error.message }
    }
}
