use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Accounts;
use crate::audit::head;
use crate::domain::{App, BuildId, Replay, Run, Scope, StoredRegistry, Webhook};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Write};
use crate::store::{Store, StoreError};
use crate::vault::Vault;

/// Builds that are looked at in one step; each may have some MiB of secrets.
const STEP: usize = 16;

/// What was sealed anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    pub registries: u64,
    pub builds: u64,
    /// Answers that are kept for an `Idempotency-Key`.
    pub answers: u64,
    /// Apps and runs with secret variables.
    pub variables: u64,
    pub webhooks: u64,
    /// Whether the audit's head was.
    pub audit: bool,
}

impl Accounts {
    /// Makes a new key and seals everything with it. The old one stays readable; a later pass of the janitor takes it away.
    ///
    /// # Errors
    /// [`Error::Conflict`] `key_not_ours` when the operator handed the key over and not a new one before it.
    pub async fn rotate_keys(&self) -> Result<(Resealed, String)> {
        if self.vault.is_file() {
            let vault = std::sync::Arc::clone(&self.vault);
            tokio::task::spawn_blocking(move || vault.rotate()).await.map_err(Error::internal)??;
        } else if self.vault.keys() < 2 {
            let detail = "the key was handed over by the operator: put a new one before it (NEW,OLD), restart, and rotate again";
            return Err(Error::Conflict { code: "key_not_ours", detail: detail.into() });
        }
        let resealed = reseal_once(&self.store, &self.vault).await?;
        Ok((resealed, self.vault.key_name()))
    }
}

/// Seals with the newest key whatever is sealed with another one.
///
/// # Errors
/// When the store cannot be asked, or a value does not open.
pub async fn reseal_once(store: &Store, vault: &Vault) -> Result<Resealed> {
    Ok(Resealed {
        registries: objects::<StoredRegistry>(store, vault).await?,
        builds: builds(store, vault).await?,
        answers: objects::<Replay>(store, vault).await?,
        variables: objects::<App>(store, vault).await? + objects::<Run>(store, vault).await?,
        webhooks: objects::<Webhook>(store, vault).await?,
        audit: head::reseal(store, vault).await?,
    })
}

/// An object that holds something sealed.
trait Sealed: Serialize + DeserializeOwned {
    const KIND: Kind;
    fn purpose(&self, id: &str) -> String;
    /// None when this one holds nothing secret.
    fn sealed(&mut self) -> Option<&mut String>;
}

impl Sealed for StoredRegistry {
    const KIND: Kind = Kind::Registry;

    fn purpose(&self, _id: &str) -> String {
        Self::purpose(&self.owner, &self.name)
    }

    fn sealed(&mut self) -> Option<&mut String> {
        Some(&mut self.sealed)
    }
}

impl Sealed for Webhook {
    const KIND: Kind = Kind::Webhook;

    fn purpose(&self, _id: &str) -> String {
        Self::purpose(&self.owner, self.id)
    }

    fn sealed(&mut self) -> Option<&mut String> {
        Some(&mut self.sealed)
    }
}

impl Sealed for Replay {
    const KIND: Kind = Kind::Replay;

    fn purpose(&self, id: &str) -> String {
        Self::purpose(id)
    }

    fn sealed(&mut self) -> Option<&mut String> {
        Some(&mut self.sealed)
    }
}

impl Sealed for App {
    const KIND: Kind = Kind::App;

    fn purpose(&self, _id: &str) -> String {
        Self::purpose(&self.owner, self.id)
    }

    fn sealed(&mut self) -> Option<&mut String> {
        self.sealed_env.as_mut()
    }
}

impl Sealed for Run {
    const KIND: Kind = Kind::Run;

    fn purpose(&self, _id: &str) -> String {
        Self::purpose(&self.owner, self.id)
    }

    fn sealed(&mut self) -> Option<&mut String> {
        self.sealed_env.as_mut()
    }
}

async fn objects<T: Sealed>(store: &Store, vault: &Vault) -> Result<u64> {
    let mut resealed = 0;
    for mut object in store.all_objects::<T>(&Scope::All, T::KIND).await? {
        let purpose = object.body.purpose(&object.id);
        let Some(slot) = object.body.sealed() else { continue };
        let sealed = STANDARD.decode(&slot).map_err(Error::internal)?;
        if vault.is_current(&sealed) {
            continue;
        }
        *slot = STANDARD.encode(vault.seal(&purpose, vault.open(&purpose, &sealed)?.expose_secret()));
        let expect = Expect::Revision(object.revision);
        match store.commit(&[Write::put(T::KIND, object.id, &object.owner, expect, &object.body).keep_as_it_is()]).await {
            Ok(()) => resealed += 1,
            // Somebody was faster, with the newest key.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(resealed)
}

async fn builds(store: &Store, vault: &Vault) -> Result<u64> {
    let mut resealed = 0;
    let mut after: Option<BuildId> = None;
    loop {
        let step = store.sealed(after, STEP).await?;
        for (id, owner, sealed) in &step {
            // The list names builds without credentials too.
            if !sealed.is_empty() && !vault.is_current(sealed) {
                let anew = vault.reseal_for_build(owner, *id, sealed)?;
                resealed += u64::from(store.reseal(*id, sealed, &anew).await?);
            }
        }
        match step.last() {
            Some((id, ..)) if step.len() == STEP => after = Some(*id),
            _ => return Ok(resealed),
        }
    }
}
