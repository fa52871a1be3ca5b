//! Who is calling, and what they may do: tokens, passwords, sessions.

mod first;
mod lockout;
pub mod password;
mod remembered;
pub mod session;
pub mod token;

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::{ImagePattern, ImageRef, Owner, Permission, Permissions, Proof, Quota, Role, Scope, Timestamp, Token, User};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::objects::Kind;
use remembered::Remembered;

pub use first::{ADMIN, FirstAdmin, NewToken, TOKEN_FILE, ensure_admin, ensure_installation, issue_token};

/// The account on whose behalf a request comes, and how it has shown that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub owner: Owner,
    pub role: Role,
    /// What this very proof allows: never more than the account may.
    pub permissions: Permissions,
    /// Destinations that builds are limited to; empty: any.
    pub images: Vec<ImagePattern>,
    pub quota: Quota,
    pub proof: Proof,
    /// When the proof ends by itself.
    pub until: Option<Timestamp>,
}

impl Principal {
    fn of(user: &User, allowed: &Permissions, images: Vec<ImagePattern>, proof: Proof) -> Self {
        let permissions = allowed.and(&Permissions::of_role(user.role));
        Self { owner: user.name.clone(), role: user.role, permissions, images, quota: user.quota, proof, until: None }
    }

    fn until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    /// The account itself, not one of its tokens.
    #[must_use]
    pub fn in_person(user: &User, proof: Proof) -> Self {
        Self::of(user, &Permissions::of_role(user.role), Vec::new(), proof)
    }

    /// What this caller may see.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.permissions.has(Permission::Admin) { Scope::All } else { Scope::Owner(self.owner.clone()) }
    }

    /// Whether something with these rights can do no more than this caller. Who is here in person, or administers all accounts, can do all
    /// that can be done.
    #[must_use]
    pub fn covers(&self, permissions: &Permissions, images: &[ImagePattern]) -> bool {
        let all = !matches!(self.proof, Proof::Token { .. }) || self.permissions.has(Permission::Admin);
        (all || permissions.is_within(&self.permissions)) && self.covers_images(images)
    }

    /// Whether all of these destinations are among those that this caller is limited to.
    #[must_use]
    pub fn covers_images(&self, images: &[ImagePattern]) -> bool {
        let is_within = |image: &ImagePattern| self.images.iter().any(|own| image.is_within(own));
        self.images.is_empty() || (!images.is_empty() && images.iter().all(is_within))
    }

    /// The first of these destinations that this caller is not for.
    #[must_use]
    pub fn foreign_image<'a>(&self, images: &'a [ImageRef]) -> Option<&'a ImageRef> {
        images.iter().find(|image| !self.images.is_empty() && !self.images.iter().any(|pattern| pattern.matches(image)))
    }

    /// # Errors
    /// [`Error::Forbidden`] that names what is missing.
    pub fn must_have(&self, permission: Permission) -> Result<()> {
        if self.permissions.has(permission) {
            return Ok(());
        }
        let may = Permissions::of_role(self.role).has(permission);
        let who = if may { "this token" } else { "this account" };
        Err(Error::Forbidden { code: "missing_scope", detail: format!("{who} has not the scope {permission}") })
    }
}

/// What a request shows of itself.
pub enum Presented {
    /// The header `Authorization`.
    Authorization(SecretString),
    /// The value of the session's cookie.
    Cookie(SecretString),
}

impl Presented {
    /// Whether it is an account's password, which takes long to compare.
    #[must_use]
    pub fn is_password(&self) -> bool {
        matches!(self, Self::Authorization(header) if matches!(credential(header.expose_secret()), Some(Credential::Password { .. })))
    }
}

/// Tells who is behind a request.
pub struct Authenticator {
    store: Store,
    remembered: Remembered,
}

/// The word behind `Authorization:`.
enum Credential {
    Token(SecretString),
    Password { name: String, password: SecretString },
}

impl Authenticator {
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, remembered: Remembered::default() }
    }

    /// A session, `Bearer TOKEN`, or `Basic` with the account's password, or with any user name and a token as password.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for everything else; [`Error::TooMany`] after too many wrong passwords;
    /// [`Error::Unavailable`] when the store cannot be asked.
    pub async fn principal(&self, presented: Option<&Presented>, address: IpAddr) -> Result<Arc<Principal>> {
        match presented {
            None => Err(Error::Unauthenticated),
            Some(Presented::Cookie(cookie)) => session::principal(&self.store, cookie).await.map(Arc::new),
            Some(Presented::Authorization(header)) => match credential(header.expose_secret()).ok_or(Error::Unauthenticated)? {
                Credential::Token(text) => self.by_token(&text).await,
                Credential::Password { name, password } => self.by_password(&name, password, address).await,
            },
        }
    }

    /// As [`Authenticator::principal`], for an answer that goes on: it does not count as a use of a session.
    ///
    /// # Errors
    /// As [`Authenticator::principal`].
    pub async fn still(&self, presented: Option<&Presented>, address: IpAddr) -> Result<Arc<Principal>> {
        match presented {
            Some(Presented::Cookie(cookie)) => {
                let (session, user) = session::live(&self.store, cookie).await?;
                Ok(Arc::new(Principal::in_person(&user, Proof::Session).until(Some(session.body.ends_at()))))
            }
            other => self.principal(other, address).await,
        }
    }

    async fn by_token(&self, text: &SecretString) -> Result<Arc<Principal>> {
        let id = token::id_of(text).ok_or(Error::Unauthenticated)?;
        let hash = token::hash(text);
        let generation = self.store.wakes().account_changes();
        if let Some(principal) = self.remembered.recall(&hash, generation) {
            return Ok(principal);
        }
        let token =
            self.store.object::<Token>(&Scope::All, Kind::Token, &id.to_string()).await?.ok_or(Error::Unauthenticated)?.body;
        let now = Timestamp::now();
        if token.hash != hash || token.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated);
        }
        let user = live_user(&self.store, &token.owner).await?;
        let proof = Proof::Token { id, name: token.name.clone() };
        let principal = Arc::new(Principal::of(&user, &token.scopes, token.images, proof).until(token.expires_at));
        first::note_use(&self.store, id, &token.owner, now).await;
        self.remembered.remember(hash, generation, &principal);
        Ok(principal)
    }

    async fn by_password(&self, name: &str, password: SecretString, address: IpAddr) -> Result<Arc<Principal>> {
        let key = self.remembered.disguise(name, &password);
        // Many requests with one password at the same time are one attempt, and not many that count as failed until they end.
        let _turn = self.remembered.turn(&key).await;
        let generation = self.store.wakes().account_changes();
        if let Some(principal) = self.remembered.recall(&key, generation) {
            return Ok(principal);
        }
        let user = log_in(&self.store, name, password, address).await?;
        let principal = Arc::new(Principal::in_person(&user, Proof::Password));
        self.remembered.remember(key, generation, &principal);
        Ok(principal)
    }
}

/// The account behind a name and its password.
///
/// # Errors
/// [`Error::Unauthenticated`] whether the name is unknown, disabled, or the password wrong, in the same time;
/// [`Error::TooMany`] after too many failures.
pub async fn log_in(store: &Store, name: &str, password: SecretString, address: IpAddr) -> Result<User> {
    let attempt = lockout::begin(store, name, address).await?;
    let user = match name.parse::<Owner>() {
        Ok(name) => store.object::<User>(&Scope::All, Kind::User, name.as_str()).await?.map(|object| object.body),
        Err(_) => None,
    };
    let right = password::verify(password, user.as_ref().and_then(|user| user.password.clone())).await?;
    let user = user.filter(|user| right && !user.disabled).ok_or(Error::Unauthenticated)?;
    lockout::succeeded(store, attempt).await?;
    Ok(user)
}

async fn live_user(store: &Store, name: &Owner) -> Result<User> {
    let user = store.object::<User>(&Scope::All, Kind::User, name.as_str()).await?.map(|object| object.body);
    user.filter(|user| !user.disabled).ok_or(Error::Unauthenticated)
}

fn credential(header: &str) -> Option<Credential> {
    let (scheme, value) = header.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(Credential::Token(SecretString::from(value.trim().to_owned()))),
        "basic" => {
            let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
            let (name, password) = text.split_once(':')?;
            let password = SecretString::from(password.to_owned());
            // A password that has a token's very checksum is one.
            Some(match token::id_of(&password) {
                Some(_) => Credential::Token(password),
                None => Credential::Password { name: name.to_owned(), password },
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_bearer_or_as_the_password_of_any_user() {
        let (_, token) = token::generate();
        let text = token.expose_secret();
        let basic = |plain: &str| format!("Basic {}", STANDARD.encode(plain));
        let seen = |header: &str| match credential(header) {
            Some(Credential::Token(token)) => format!("token {}", token.expose_secret()),
            Some(Credential::Password { name, password }) => format!("{name} {}", password.expose_secret()),
            None => "nothing".to_owned(),
        };
        assert_eq!(seen(&format!("bearer {text}")), format!("token {text}"));
        assert_eq!(seen(&basic(&format!("me:{text}"))), format!("token {text}"));
        assert_eq!(seen(&basic("ada:pass:word")), "ada pass:word");
        for bad in ["dw_x", "Basic !", "Digest dw_x", ""] {
            assert_eq!(seen(bad), "nothing", "{bad}");
        }
    }
}
