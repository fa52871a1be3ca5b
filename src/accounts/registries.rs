use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::Accounts;
use crate::auth::Principal;
use crate::domain::{Credentials, ImageRef, Owner, Scope, StoredRegistry, Timestamp};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// Longest name of a stored registry.
const NAME: usize = 64;

/// Credentials that are to be kept.
pub struct RegistryInput {
    pub server: String,
    pub username: String,
    pub password: SecretString,
}

/// Whether a registry takes the credentials.
#[derive(Debug, Clone)]
pub struct RegistryCheck {
    pub ok: bool,
    /// A stable code, and the registry's own words, when it does not.
    pub error: Option<(String, String)>,
}

impl Accounts {
    /// Keeps credentials under a name; answers whether they are the first ones.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a field is not what it must be.
    pub async fn put_registry(&self, owner: &Owner, name: &str, input: RegistryInput) -> Result<(StoredRegistry, bool)> {
        check_name(name)?;
        let server = host(&input.server)?;
        for (field, empty) in [("username", input.username.is_empty()), ("password", is_empty(&input.password))] {
            if empty {
                return Err(Error::invalid("invalid_registry", field, "must not be empty"));
            }
        }
        let scope = Scope::Owner(owner.clone());
        let id = StoredRegistry::id(owner, name);
        let known = self.store.object::<StoredRegistry>(&scope, Kind::Registry, &id).await?;
        let now = Timestamp::now();
        let credentials = Credentials::new(&server, &input.username, input.password);
        let stored = StoredRegistry {
            owner: owner.clone(),
            name: name.to_owned(),
            server,
            username: input.username,
            sealed: STANDARD.encode(self.vault.seal_credentials(&StoredRegistry::purpose(owner, name), &[credentials])),
            created_at: known.as_ref().map_or(now, |known| known.body.created_at),
            updated_at: now,
        };
        self.store.commit(&[Write::put(Kind::Registry, id, owner, Expect::Anything, &stored)]).await?;
        Ok((stored, known.is_none()))
    }

    /// Whose registries a caller means when it names one: its own, or for an admin any account's.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn registry_owner(caller: &Principal, named: Option<Owner>) -> Result<Owner> {
        let owner = named.unwrap_or_else(|| caller.owner.clone());
        if caller.scope().covers(&owner) { Ok(owner) } else { Err(Error::NotFound("registry")) }
    }

    /// # Errors
    /// [`Error::NotFound`].
    pub async fn registry(&self, owner: &Owner, name: &str) -> Result<StoredRegistry> {
        let id = StoredRegistry::id(owner, name);
        let found = self.store.object(&Scope::Owner(owner.clone()), Kind::Registry, &id).await?;
        Ok(found.ok_or(Error::NotFound("registry"))?.body)
    }

    /// A page of what the caller may see, newest first; `owner` narrows it.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn registries(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Object<StoredRegistry>>, bool)> {
        Ok(self
            .store
            .objects(&ObjectQuery { scope: caller.scope(), kind: Kind::Registry, owner, parent: None, before, limit })
            .await?)
    }

    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_registry(&self, owner: &Owner, name: &str) -> Result<()> {
        self.registry(owner, name).await?;
        let id = StoredRegistry::id(owner, name);
        Ok(self.store.commit(&[Write::remove(Kind::Registry, id, Expect::Anything)]).await?)
    }

    /// Asks the registry whether it takes the credentials.
    ///
    /// # Errors
    /// [`Error::NotFound`]; a registry that says no, or nothing, is no error but the answer.
    pub async fn check_registry(&self, owner: &Owner, name: &str) -> Result<RegistryCheck> {
        let credentials = self.builds.stored_credentials(owner, name).await?.ok_or(Error::NotFound("registry"))?;
        Ok(match self.registry.log_in(&credentials).await {
            Ok(()) => RegistryCheck { ok: true, error: None },
            Err(refusal) => RegistryCheck { ok: false, error: Some((refusal.error.code.into(), refusal.error.message)) },
        })
    }
}

fn is_empty(secret: &SecretString) -> bool {
    use secrecy::ExposeSecret;
    secret.expose_secret().is_empty()
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid("invalid_registry", "name", format!("must have 1 to {NAME} of letters, digits, . _ -")))
}

/// Host and port as in an image reference.
fn host(server: &str) -> Result<String> {
    let told = |why: String| Error::invalid("invalid_registry", "server", why);
    if server.contains('/') {
        return Err(told(format!("{server:?} must be HOST or HOST:PORT, without a scheme or path")));
    }
    let image: ImageRef = format!("{server}/x").parse().map_err(|_| told(format!("{server:?} is no HOST or HOST:PORT")))?;
    // Without a dot or port Docker takes the first part of a name for a folder of its Hub.
    if image.path() != "x" && image.path() != "library/x" {
        return Err(told(format!("{server:?} is no HOST or HOST:PORT: a host has a dot or a port, or is localhost")));
    }
    Ok(image.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_as_in_an_image() {
        for (given, kept) in [("127.0.0.1:5000", "127.0.0.1:5000"), ("localhost", "localhost"), ("docker.io", "docker.io")] {
            assert_eq!(host(given).expect(given), kept);
        }
        for bad in ["", "team", "http://h:1", "h:1/path", "h:port", "h h:1"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
