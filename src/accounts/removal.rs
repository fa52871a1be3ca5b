//! Taking an account away, and what it owns along with it or over to somebody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::de::IgnoredAny;

use super::Accounts;
use crate::apps::Owned;
use crate::auth::Principal;
use crate::domain::{BuildId, Owner, Scope, Session, StoredRegistry, Token, User, limits};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Write};
use crate::store::{ListQuery, StoreError};

/// What becomes of the objects of an account that is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Delete,
    Transfer(Owner),
}

/// What was removed or transferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub builds: u64,
    pub apps: Owned,
    pub registries: u64,
    pub tokens: u64,
}

impl Accounts {
    /// Removes an account. Can be repeated after a failure, and then goes on.
    ///
    /// # Errors
    /// [`Error::Conflict`] `last_admin`, or `owns_objects` (which tells how many) when no fate was named and it owns something.
    pub async fn remove_user(&self, caller: &Principal, name: &Owner, fate: Option<Fate>) -> Result<Removed> {
        self.user(name).await?;
        // Before anything is taken away from an admin that must stay.
        self.other_admin_guard(name).await?;
        let Some(fate) = fate else { return self.remove_bare(name).await };
        if let Fate::Transfer(to) = &fate {
            if to == name {
                return Err(Error::invalid("invalid_query", "objects", "names the account that is removed"));
            }
            let heir = self.store.object::<User>(&Scope::All, Kind::User, to.as_str()).await?;
            heir.ok_or_else(|| Error::invalid("invalid_query", "objects", format!("there is no account {to}")))?;
        }
        // From now on it makes nothing new.
        self.alter(name, false, |user| {
            user.disabled = true;
            user.epoch += 1;
        })
        .await?;
        let removed = Removed {
            // Before the builds, whose images they may be made of.
            apps: self.apps.settle(name, if let Fate::Transfer(heir) = &fate { Some(heir) } else { None }).await?,
            builds: self.settle_builds(caller, name, &fate).await?,
            registries: self.settle_registries(name, &fate).await?,
            tokens: self.drop_keys(name).await?,
        };
        self.drop_user(name).await?;
        Ok(removed)
    }

    async fn remove_bare(&self, name: &Owner) -> Result<Removed> {
        let scope = Scope::Owner(name.clone());
        let builds = self.builds_of(name, None).await?.len();
        let registries = self.store.all_objects::<StoredRegistry>(&scope, Kind::Registry).await?.len();
        let owned = self.apps.owned(name).await?;
        if builds + registries > 0 || !owned.is_nothing() {
            let many = if builds == limits::PAGE { "at least " } else { "" };
            let detail = format!(
                "{name} owns {many}{builds} builds, {registries} registries, {} apps, {} runs and {} volumes: say what becomes of them, with ?objects=delete or \
                 ?objects=transfer:NAME",
                owned.apps, owned.runs, owned.volumes
            );
            return Err(Error::Conflict { code: "owns_objects", detail });
        }
        // A default network and the names of images are nobody's loss.
        self.apps.settle(name, None).await?;
        let tokens = self.drop_keys(name).await?;
        self.drop_user(name).await?;
        Ok(Removed { tokens, ..Removed::default() })
    }

    async fn builds_of(&self, name: &Owner, before: Option<BuildId>) -> Result<Vec<crate::store::Stored>> {
        let query = ListQuery { before, ..ListQuery::of(Scope::Owner(name.clone())) };
        Ok(self.store.list(&query).await?.items)
    }

    async fn settle_builds(&self, caller: &Principal, name: &Owner, fate: &Fate) -> Result<u64> {
        let mut settled = 0;
        loop {
            let page = self.builds_of(name, None).await?;
            if page.is_empty() {
                return Ok(settled);
            }
            for build in page {
                match self.settle_build(caller, build.record.id, name, fate).await {
                    // Its owner was faster.
                    Ok(()) | Err(Error::NotFound(_)) => settled += 1,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn settle_build(&self, caller: &Principal, id: BuildId, name: &Owner, fate: &Fate) -> Result<()> {
        let Fate::Transfer(to) = fate else {
            self.builds.delete(caller, id, false).await?;
            return Ok(());
        };
        // A live build's credentials are its owner's own: it ends before it changes hands.
        self.builds.stop(caller, id).await?;
        self.builds.hand_over_context(id, to).await?;
        self.store.transfer(id, name, to).await?;
        Ok(())
    }

    async fn settle_registries(&self, name: &Owner, fate: &Fate) -> Result<u64> {
        let mut settled = 0;
        for object in self.store.all_objects::<StoredRegistry>(&Scope::Owner(name.clone()), Kind::Registry).await? {
            if let Fate::Transfer(to) = fate {
                self.hand_over(object.body, to).await?;
            }
            self.store.commit(&[Write::remove(Kind::Registry, object.id, Expect::Anything)]).await?;
            settled += 1;
        }
        Ok(settled)
    }

    /// Under its own name, or one that tells whose it was when the heir has one of that name.
    async fn hand_over(&self, stored: StoredRegistry, to: &Owner) -> Result<()> {
        let sealed = STANDARD.decode(&stored.sealed).map_err(Error::internal)?;
        let plain = self.vault.open(&StoredRegistry::purpose(&stored.owner, &stored.name), &sealed)?;
        for name in [stored.name.clone(), format!("{}-{}", stored.name, stored.owner)] {
            let sealed = STANDARD.encode(self.vault.seal(&StoredRegistry::purpose(to, &name), plain.expose_secret()));
            let id = StoredRegistry::id(to, &name);
            let moved = StoredRegistry { owner: to.clone(), name, sealed, ..stored.clone() };
            match self.store.commit(&[Write::put(Kind::Registry, id, to, Expect::Absent, &moved)]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        let detail = format!("{to} has registries named {} and {0}-{} already", stored.name, stored.owner);
        Err(Error::Conflict { code: "registry_exists", detail })
    }

    /// Tokens, sessions and webhooks go in any case, and what they have left; so do the rules of how long builds are kept.
    async fn drop_keys(&self, name: &Owner) -> Result<u64> {
        let scope = Scope::Owner(name.clone());
        let tokens = self.store.all_objects::<Token>(&scope, Kind::Token).await?;
        for token in &tokens {
            let gone = [Kind::Token, Kind::TokenUse].map(|kind| Write::remove(kind, &token.id, Expect::Anything));
            self.store.commit(&gone).await?;
        }
        for session in self.store.all_objects::<Session>(&scope, Kind::Session).await? {
            self.store.commit(&[Write::remove(Kind::Session, session.id, Expect::Anything)]).await?;
        }
        for kind in [Kind::Webhook, Kind::DueDelivery, Kind::Delivery, Kind::Retention] {
            for object in self.store.all_objects::<IgnoredAny>(&scope, kind).await? {
                self.store.commit(&[Write::remove(kind, object.id, Expect::Anything)]).await?;
            }
        }
        Ok(tokens.len() as u64)
    }

    async fn drop_user(&self, name: &Owner) -> Result<()> {
        let guard = self.other_admin_guard(name).await?;
        self.store.commit(&[Write::remove(Kind::User, name.as_str(), Expect::Anything), guard]).await?;
        // After the account, which could make new ones: nothing of it must show to another of its name.
        self.builds.drop_uploads(name).await
    }
}
