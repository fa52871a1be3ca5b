//! What can be done with accounts and what is theirs: users, tokens, sessions, stored registries, keys.

mod keys;
mod registries;
mod removal;
mod tokens;
mod users;

use std::sync::Arc;

use crate::apps::Apps;
use crate::audit::Audit;
use crate::builds::Builds;
use crate::registry::RegistryClient;
use crate::store::Store;
use crate::vault::Vault;

pub use keys::{Resealed, reseal_once};
pub use registries::{RegistryCheck, RegistryInput};
pub use removal::{Fate, Removed};
pub use tokens::TokenInput;
pub use users::{UserChange, UserInput};

/// The use-cases of accounts.
pub struct Accounts {
    store: Store,
    vault: Arc<Vault>,
    builds: Arc<Builds>,
    apps: Arc<Apps>,
    registry: Arc<RegistryClient>,
    pub audit: Audit,
}

impl Accounts {
    #[must_use]
    pub fn new(
        store: Store,
        vault: Arc<Vault>,
        builds: Arc<Builds>,
        apps: Arc<Apps>,
        registry: Arc<RegistryClient>,
        audit: Audit,
    ) -> Self {
        Self { store, vault, builds, apps, registry, audit }
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}
