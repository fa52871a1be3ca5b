use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

use super::Credentials;

/// A value that a client has sent for its build alone: a build secret, or a private key for ssh. `Debug` never shows it.
#[derive(Clone)]
pub struct BuildSecret {
    id: String,
    value: SecretSlice<u8>,
}

impl BuildSecret {
    #[must_use]
    pub fn new(id: impl Into<String>, value: SecretSlice<u8>) -> Self {
        Self { id: id.into(), value }
    }

    /// By which the Dockerfile asks for it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value in the clear, for the moment of one use.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.value.expose_secret()
    }
}

impl fmt::Debug for BuildSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// All that a build is given and nobody may read: sealed while it waits and runs, erased when it ends.
#[derive(Debug, Clone, Default)]
pub struct Entrusted {
    /// One registry host each.
    pub credentials: Vec<Credentials>,
    /// For `RUN --mount=type=secret`; each id once.
    pub secrets: Vec<BuildSecret>,
    /// Private keys for `RUN --mount=type=ssh`. Several of one id are served by one agent.
    pub ssh: Vec<BuildSecret>,
}

impl Entrusted {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty() && !self.has_secrets()
    }

    /// Whether there are build secrets or ssh keys.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || !self.ssh.is_empty()
    }
}

impl From<Vec<Credentials>> for Entrusted {
    fn from(credentials: Vec<Credentials>) -> Self {
        Self { credentials, ..Self::default() }
    }
}
