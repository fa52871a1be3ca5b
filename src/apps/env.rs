//! Secret variables: sealed where they rest, for one app or run of one owner.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use super::Apps;
use crate::domain::SecretEnv;
use crate::error::{Error, Result};

impl Apps {
    pub(super) fn seal_env(&self, purpose: &str, env: &SecretEnv) -> Option<String> {
        (!env.is_empty()).then(|| STANDARD.encode(self.fleet.vault().seal(purpose, &env.to_json())))
    }

    pub(super) fn open_env(&self, purpose: &str, sealed: Option<&str>) -> Result<SecretEnv> {
        let Some(sealed) = sealed else { return Ok(SecretEnv::default()) };
        let plain = self.fleet.vault().open(purpose, &STANDARD.decode(sealed).map_err(Error::internal)?)?;
        SecretEnv::from_json(plain.expose_secret()).map_err(Error::internal)
    }
}
