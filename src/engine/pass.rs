//! What an engine is given to show registries: no more than they ask for, so that the password behind a token stays here.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use super::Result;
use crate::domain::Credentials;

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
}
