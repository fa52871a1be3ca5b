//! Accounts, and what is theirs beside their builds. Passwords and tokens stand here only as hashes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccountId, BuildId, ImagePattern, InvalidId, Owner, Permissions, Quota, Role, Timestamp};

/// A password as Argon2 keeps it, in the PHC string format; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Tells it from another account that had its name before; `None` for one that is older than this field.
    #[serde(default)]
    pub id: Option<AccountId>,
    pub name: Owner,
    pub role: Role,
    /// A disabled account cannot log in and its tokens do nothing; what it owns stays.
    pub disabled: bool,
    /// An account without a password is used by its tokens alone.
    pub password: Option<PasswordHash>,
    /// Grows whenever all sessions of the account are to end; a session remembers the one it began with.
    pub epoch: u64,
    pub quota: Quota,
    pub created_at: Timestamp,
}

impl User {
    /// An account that begins now.
    #[must_use]
    pub fn new(name: Owner, role: Role, password: Option<PasswordHash>, quota: Quota) -> Self {
        let (id, created_at) = (Some(AccountId::new()), Timestamp::now());
        Self { id, name, role, disabled: false, password, epoch: 0, quota, created_at }
    }
}

/// The id of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(Uuid);

impl TokenId {
    #[must_use]
    #[allow(clippy::new_without_default, reason = "every call makes another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = InvalidId;

    /// Accepts only the canonical form: 36 characters, lower case, hyphenated.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = Uuid::try_parse(text).ok().map(Self).filter(|id| id.to_string() == text);
        id.ok_or_else(|| InvalidId::new(text, "a token's id (a UUID in lower case, with hyphens)"))
    }
}

/// An account's token: what it is called and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub owner: Owner,
    pub name: String,
    /// SHA-256 of the token's text, in hexadecimal. The text has 192 random bits, so that a fast hash is enough.
    pub hash: String,
    pub scopes: Permissions,
    /// Only builds with destinations among these may be sent with it; empty: any.
    #[serde(default)]
    pub images: Vec<ImagePattern>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// A browser's session. Its id is the SHA-256 of the cookie's value, which is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub owner: Owner,
    /// [`User::epoch`] at the log-in.
    pub epoch: u64,
    pub created_at: Timestamp,
    /// To the minute.
    pub seen_at: Timestamp,
    /// From where it was begun.
    pub address: String,
}

impl Session {
    /// A session that nobody uses ends after this long.
    pub const IDLE: Duration = Duration::from_secs(12 * 3600);
    /// No session lasts longer.
    pub const ABSOLUTE: Duration = Duration::from_secs(7 * 24 * 3600);

    /// When it ends, if nobody uses it until then.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.created_at.plus(Self::ABSOLUTE).min(self.seen_at.plus(Self::IDLE))
    }
}

/// Credentials for a registry that an owner has stored. The password is sealed, bound to owner and name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRegistry {
    pub owner: Owner,
    pub name: String,
    /// Host and port, normalised as in an image reference.
    pub server: String,
    pub username: String,
    /// Base64 of the sealed credentials.
    pub sealed: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl StoredRegistry {
    /// Its id in the store. Names of accounts and registries hold no `/`, so that no two are taken for each other.
    #[must_use]
    pub fn id(owner: &Owner, name: &str) -> String {
        format!("{owner}/{name}")
    }

    /// What its credentials are sealed for.
    #[must_use]
    pub fn purpose(owner: &Owner, name: &str) -> String {
        format!("dockwright/registry/v1/{owner}/{name}")
    }
}

impl fmt::Debug for StoredRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRegistry").field("owner", &self.owner).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A request that may be sent again, by the key that came with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The id of what it makes, the same however often it is tried.
    pub build: BuildId,
    pub began_at: Timestamp,
    /// Base64 of what it was and how it was answered, sealed: an answer may show a new token.
    pub sealed: String,
}

impl Replay {
    /// What it is sealed for.
    #[must_use]
    pub fn purpose(id: &str) -> String {
        format!("dockwright/replay/v1/{id}")
    }
}

/// How a caller has shown who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Proof {
    Token { id: TokenId, name: String },
    Session,
    Password,
}
