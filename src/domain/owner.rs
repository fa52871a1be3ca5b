use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The account that owns an object: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// A name that cannot be an account's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an account's name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit")]
pub struct InvalidOwner;

impl Owner {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Owner {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=64).contains(&text.len())
            && text.bytes().all(|b| plain(b) || b"._-".contains(&b))
            && text.bytes().next().is_some_and(plain);
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidOwner) }
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidOwner;

    fn try_from(text: String) -> Result<Self, InvalidOwner> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an account may do beyond its own objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Admin,
}

/// Whose objects a query may see. No query can be written without one: what is outside of it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The objects of one account.
    Owner(Owner),
    /// Every account's objects: an admin, or the service itself.
    All,
}

impl Scope {
    #[must_use]
    pub fn covers(&self, owner: &Owner) -> bool {
        match self {
            Self::Owner(own) => own == owner,
            Self::All => true,
        }
    }
}
