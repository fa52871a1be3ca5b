use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::{ContainerSpec, EnvValue};

/// The values of secret variables, by name. It has no `Debug`, and its memory is overwritten when it goes.
#[derive(Clone, Default)]
pub struct SecretEnv(BTreeMap<String, SecretString>);

/// What was opened holds no secret variables. Says nothing of the text, which may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no JSON object of texts")]
pub struct InvalidSecretEnv;

impl SecretEnv {
    pub fn insert(&mut self, name: impl Into<String>, value: SecretString) {
        self.0.insert(name.into(), value);
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Everything that `spec` calls secret: what is new from here, what was kept from `before`. Whatever it does not name is left
    /// out.
    #[must_use]
    pub fn completed(mut self, spec: &ContainerSpec, before: &Self) -> Self {
        let secret = |name: &String| spec.env.get(name) == Some(&EnvValue::Secret);
        self.0.retain(|name, _| secret(name));
        for (name, value) in before.0.iter().filter(|(name, _)| secret(name)) {
            self.0.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    /// As it is sealed. The memory is overwritten when it goes.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let plain: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        // Room for the longest spelling of each character, for a buffer that moves leaves its bytes behind.
        let room = plain.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum::<usize>() + 2;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &plain).expect("writes, because texts go into memory");
        json
    }

    /// What [`SecretEnv::to_json`] has written.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidSecretEnv> {
        serde_json::from_slice(json).map(Self).map_err(|_| InvalidSecretEnv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sealed_and_opened_as_they_were() {
        let mut env = SecretEnv::default();
        env.insert("A", SecretString::from("\u{1}\"ä\n"));
        env.insert("B", SecretString::from(""));
        let json = env.to_json();
        assert!(json.capacity() >= json.len());
        let Ok(opened) = SecretEnv::from_json(&json) else { panic!("does not open") };
        assert_eq!(opened.names().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(opened.get("A").map(ExposeSecret::expose_secret), Some("\u{1}\"ä\n"));
        let error = SecretEnv::from_json(b"[\"canary\"]").err().expect("is no object");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
