use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// What stands in a log where a known secret stood.
pub const REDACTED: &str = "[redacted]";

/// A user name and password for one registry host. `Debug` never shows the password.
#[derive(Clone)]
pub struct Credentials {
    host: String,
    username: String,
    password: SecretString,
}

impl Credentials {
    #[must_use]
    pub fn new(host: impl Into<String>, username: impl Into<String>, password: SecretString) -> Self {
        Self { host: host.into(), username: username.into(), password }
    }

    /// The registry host (with its port) that these may be sent to; nothing else ever gets them.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password in the clear, for the moment of one request.
    #[must_use]
    pub fn expose_password(&self) -> &str {
        self.password.expose_secret()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("host", &self.host).field("username", &self.username).finish_non_exhaustive()
    }
}
