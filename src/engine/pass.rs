//! What an engine is given to show registries: no more than they ask for, so that the password behind a token stays here.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use super::Result;
use crate::domain::{Credentials, RunImage};

/// What an engine shows one registry.
#[derive(Debug, Clone)]
pub enum Pass {
    /// For a registry that asks for the password itself.
    Password(Credentials),
    /// A token of that registry alone. The engine passes it on as it is (moby `distribution/registry.go`, `RegistryToken`).
    Token { host: String, token: SecretString },
}

impl Pass {
    /// The registry host that this may be shown to.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Password(credentials) => credentials.host(),
            Self::Token { host, .. } => host,
        }
    }
}

/// A token that an engine needs to pull a base image, as the registry has described it to the engine.
#[derive(Debug, Clone)]
pub struct TokenWanted {
    pub realm: String,
    pub service: String,
    pub scopes: Vec<String>,
}

/// A token and how long it is good for.
pub struct Token {
    pub text: SecretString,
    pub life: Duration,
}

/// How many pulls a registry still allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub remaining: u64,
    pub limit: Option<u64>,
    /// In which the limit counts.
    pub window: Option<Duration>,
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remaining)?;
        if let Some(limit) = self.limit {
            write!(f, " of {limit}")?;
        }
        f.write_str(" pulls")?;
        match self.window.map(|window| window.as_secs()) {
            Some(3600) => f.write_str(" in 1 hour")?,
            Some(seconds) if seconds > 0 && seconds % 3600 == 0 => write!(f, " in {} hours", seconds / 3600)?,
            Some(seconds) => write!(f, " in {seconds} s")?,
            None => {}
        }
        f.write_str(" are left")
    }
}

/// Asks registries in an engine's stead.
#[async_trait]
pub trait RegistryAuth: Send + Sync {
    /// Whether the registry asks an engine that pulls from it for these credentials, and may have them: an engine sends what it is given
    /// wherever it is told.
    ///
    /// # Errors
    /// `foreign_realm` when it may not; when the registry cannot be asked.
    async fn asks_for(&self, credentials: &Credentials) -> Result<bool>;

    /// A token for these credentials.
    ///
    /// # Errors
    /// `foreign_realm` when the realm is not the registry's own; what the token server says.
    async fn token(&self, credentials: &Credentials, wanted: &TokenWanted) -> Result<Token>;

    /// How many pulls of this image the registry still allows; `None` when it does not tell.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    async fn pulls_left(&self, image: &RunImage, credentials: Option<&Credentials>) -> Result<Option<Allowance>>;
}
