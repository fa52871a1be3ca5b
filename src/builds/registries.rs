//! The credentials that a build is given: its own, and those that its owner has stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Builds;
use super::options::Faults;
use crate::domain::{Credentials, Owner, Scope, StoredRegistry};
use crate::error::{Error, Result};
use crate::store::objects::Kind;

impl Builds {
    /// A stored registry of an owner, opened.
    ///
    /// # Errors
    /// When the store cannot be asked, or the key that sealed it is gone.
    pub async fn stored_credentials(&self, owner: &Owner, name: &str) -> Result<Option<Credentials>> {
        let scope = Scope::Owner(owner.clone());
        let id = StoredRegistry::id(owner, name);
        let Some(stored) = self.store.object::<StoredRegistry>(&scope, Kind::Registry, &id).await? else { return Ok(None) };
        let sealed = STANDARD.decode(&stored.body.sealed).map_err(Error::internal)?;
        Ok(self.vault.open_credentials(&StoredRegistry::purpose(owner, name), &sealed)?.into_iter().next())
    }

    /// The first of an owner's stored registries that is for this host.
    ///
    /// # Errors
    /// As [`Builds::stored_credentials`].
    pub async fn stored_for_host(&self, owner: &Owner, host: &str) -> Result<Option<Credentials>> {
        let scope = Scope::Owner(owner.clone());
        let all = self.store.all_objects::<StoredRegistry>(&scope, Kind::Registry).await?;
        match all.into_iter().find(|object| object.body.server == host) {
            Some(found) => self.stored_credentials(owner, &found.body.name).await,
            None => Ok(None),
        }
    }

    /// All of a build's credentials, at most one a host. They are the build's own from now on, whatever becomes of the stored ones.
    pub(super) async fn credentials(
        &self,
        owner: &Owner,
        names: &[String],
        own: Option<Credentials>,
        faults: &mut Faults,
    ) -> Result<Vec<Credentials>> {
        let mut all: Vec<Credentials> = own.into_iter().collect();
        for name in names {
            match self.stored_credentials(owner, name).await? {
                None => faults.add("registry_unknown", "registry", format!("there is no stored registry {name:?}")),
                Some(found) if all.iter().any(|known| known.host() == found.host()) => {
                    let told = format!("{name:?} is for {}, for which there are credentials already", found.host());
                    faults.add("credentials_ambiguous", "registry", told);
                }
                Some(found) => all.push(found),
            }
        }
        Ok(all)
    }
}
