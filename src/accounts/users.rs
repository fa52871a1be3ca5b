use std::net::IpAddr;

use secrecy::SecretString;

use super::Accounts;
use crate::auth::{Principal, log_in, password};
use crate::domain::{Owner, Quota, Role, Scope, Timestamp, User};
use crate::error::{Error, Result};
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// How often a change is made anew when another came between.
const TRIES: usize = 20;
/// The object that every change which may take an admin away goes through, so that two at once cannot take the last two.
const ADMINS: &str = "admins";

/// An account that is to be made.
pub struct UserInput {
    pub name: Owner,
    pub password: Option<SecretString>,
    pub role: Role,
    pub quota: Quota,
}

/// What an admin changes of an account.
#[derive(Default)]
pub struct UserChange {
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    pub quota: Option<Quota>,
    pub password: Option<SecretString>,
    /// Needed where admins change their own.
    pub old_password: Option<SecretString>,
}

impl Accounts {
    /// # Errors
    /// [`Error::Conflict`] `user_exists`; [`Error::Invalid`] `weak_password`.
    pub async fn make_user(&self, input: UserInput) -> Result<User> {
        let password = match input.password {
            Some(text) => {
                password::check("password", &input.name, &text)?;
                Some(password::hash(text).await?)
            }
            None => None,
        };
        let UserInput { name, role, quota, .. } = input;
        let user = User::new(name, role, password, quota);
        match self.store.commit(&[Write::put(Kind::User, user.name.as_str(), &user.name, Expect::Absent, &user)]).await {
            Ok(()) => Ok(user),
            Err(StoreError::Conflict) => {
                Err(Error::Conflict { code: "user_exists", detail: format!("there is an account {} already", user.name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A page of accounts, newest first, and whether there are older ones.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn users(&self, before: Option<u64>, limit: usize) -> Result<(Vec<Object<User>>, bool)> {
        let query = ObjectQuery { scope: Scope::All, kind: Kind::User, owner: None, parent: None, before, limit };
        Ok(self.store.objects(&query).await?)
    }

    /// # Errors
    /// [`Error::NotFound`].
    pub async fn user(&self, name: &Owner) -> Result<Object<User>> {
        self.store.object(&Scope::All, Kind::User, name.as_str()).await?.ok_or(Error::NotFound("user"))
    }

    /// # Errors
    /// [`Error::Conflict`] `last_admin`; [`Error::Invalid`] `weak_password` or `wrong_password`; [`Error::TooMany`]; [`Error::NotFound`].
    pub async fn change_user(&self, caller: &Principal, from: IpAddr, name: &Owner, change: UserChange) -> Result<User> {
        let hash = match &change.password {
            Some(text) => {
                password::check("password", name, text)?;
                if caller.owner == *name {
                    self.must_know(name, from, change.old_password.as_ref()).await?;
                }
                Some(password::hash(text.clone()).await?)
            }
            None => None,
        };
        let keeps_admin = change.role != Some(Role::User) && change.disabled != Some(true);
        let user = self
            .alter(name, keeps_admin, |user| {
                user.role = change.role.unwrap_or(user.role);
                user.quota = change.quota.unwrap_or(user.quota);
                let disabled = change.disabled.unwrap_or(user.disabled);
                // Whoever comes back, or has a new password, begins with new sessions.
                if hash.is_some() || disabled != user.disabled {
                    user.epoch += 1;
                }
                user.disabled = disabled;
                user.password = hash.clone().or_else(|| user.password.take());
            })
            .await?;
        // The builds that wait go by it at once.
        if change.quota.is_some() {
            self.store.set_cap(name, user.quota.builds_running).await?;
        }
        Ok(user)
    }

    /// Changes the caller's own password; all its sessions end.
    ///
    /// # Errors
    /// [`Error::Invalid`] `wrong_password` or `weak_password`; [`Error::TooMany`] after too many wrong ones.
    pub async fn change_password(
        &self,
        name: &Owner,
        from: IpAddr,
        old: Option<&SecretString>,
        new: SecretString,
    ) -> Result<User> {
        password::check("new_password", name, &new)?;
        self.must_know(name, from, old).await?;
        let hash = password::hash(new).await?;
        self.alter(name, true, |user| {
            user.password = Some(hash.clone());
            user.epoch += 1;
        })
        .await
    }

    /// An account that has no password yet needs no old one. It is guessed no faster here than at a log-in.
    async fn must_know(&self, name: &Owner, from: IpAddr, old: Option<&SecretString>) -> Result<()> {
        if self.user(name).await?.body.password.is_none() {
            return Ok(());
        }
        let wrong = |why: &str| Error::invalid("wrong_password", "old_password", why);
        let old = old.ok_or_else(|| wrong("the present password is needed to change it"))?;
        match log_in(&self.store, name.as_str(), old.clone(), from).await {
            Ok(_) => Ok(()),
            Err(Error::Unauthenticated) => Err(wrong("is not the present password")),
            Err(error) => Err(error),
        }
    }

    /// Changes an account as it is now; `keeps_admin` is false when an admin may be lost by it.
    pub(super) async fn alter(&self, name: &Owner, keeps_admin: bool, change: impl Fn(&mut User)) -> Result<User> {
        for _ in 0..TRIES {
            let guard = if keeps_admin { None } else { Some(self.other_admin_guard(name).await?) };
            let object = self.user(name).await?;
            let mut user = object.body;
            change(&mut user);
            let mut writes = vec![Write::put(Kind::User, name.as_str(), name, Expect::Revision(object.revision), &user)];
            writes.extend(guard);
            match self.store.commit(&writes).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|()| user)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What goes along with a change that takes an admin away: another such change at the same time fails with it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `last_admin` when `name` is the only admin that is left.
    pub(super) async fn other_admin_guard(&self, name: &Owner) -> Result<Write> {
        let known = self.store.object::<Timestamp>(&Scope::All, Kind::Guard, ADMINS).await?;
        let expect = known.map_or(Expect::Absent, |object| Expect::Revision(object.revision));
        let users = self.store.all_objects::<User>(&Scope::All, Kind::User).await?;
        let is_admin = |user: &User| user.role == Role::Admin && !user.disabled;
        let left = users.iter().any(|object| object.body.name != *name && is_admin(&object.body));
        let counts = users.iter().any(|object| object.body.name == *name && is_admin(&object.body));
        if counts && !left {
            return Err(Error::Conflict { code: "last_admin", detail: format!("{name} is the last admin, and one is needed") });
        }
        Ok(Write::put(Kind::Guard, ADMINS, name, expect, &Timestamp::now()))
    }
}
