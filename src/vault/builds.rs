//! What a build is given, sealed as one value: its credentials, secrets and ssh keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Plain, Vault};
use crate::domain::{BuildId, BuildSecret, Entrusted, Owner};

/// The form with secrets. A build that has credentials alone is sealed as a list of them, as it always was.
#[derive(Serialize, Deserialize)]
struct PlainEntrusted {
    credentials: Vec<Plain>,
    secrets: Vec<PlainSecret>,
    ssh: Vec<PlainSecret>,
}

#[derive(Serialize, Deserialize)]
struct PlainSecret {
    id: String,
    /// In base64: a secret need not be text.
    value: String,
}

impl PlainSecret {
    fn all(secrets: &[BuildSecret]) -> Vec<Self> {
        secrets.iter().map(|one| Self { id: one.id().to_owned(), value: STANDARD.encode(one.expose()) }).collect()
    }

    fn opened(secrets: Vec<Self>) -> anyhow::Result<Vec<BuildSecret>> {
        secrets.into_iter().map(|one| Ok(BuildSecret::new(one.id, STANDARD.decode(one.value)?.into()))).collect()
    }
}

impl Vault {
    /// Encrypts what one build is given.
    #[must_use]
    pub fn seal_for_build(&self, owner: &Owner, id: BuildId, given: &Entrusted) -> Vec<u8> {
        let purpose = purpose(owner, id);
        if given.secrets.is_empty() && given.ssh.is_empty() {
            return self.seal_credentials(&purpose, &given.credentials);
        }
        let plain = PlainEntrusted {
            credentials: given.credentials.iter().map(Plain::of).collect(),
            secrets: PlainSecret::all(&given.secrets),
            ssh: PlainSecret::all(&given.ssh),
        };
        let plain = SecretString::from(serde_json::to_string(&plain).expect("strings serialise, because they are UTF-8"));
        self.seal(&purpose, plain.expose_secret().as_bytes())
    }

    /// # Errors
    /// As [`Vault::open`].
    pub fn open_for_build(&self, owner: &Owner, id: BuildId, sealed: &[u8]) -> anyhow::Result<Entrusted> {
        let plain = self.open(&purpose(owner, id), sealed)?;
        let json = plain.expose_secret();
        if json.starts_with(b"[") {
            let credentials: Vec<Plain> = serde_json::from_slice(json)?;
            return Ok(credentials.into_iter().map(Plain::opened).collect::<Vec<_>>().into());
        }
        let PlainEntrusted { credentials, secrets, ssh } = serde_json::from_slice(json)?;
        Ok(Entrusted {
            credentials: credentials.into_iter().map(Plain::opened).collect(),
            secrets: PlainSecret::opened(secrets)?,
            ssh: PlainSecret::opened(ssh)?,
        })
    }

    /// Seals what a build is given with the newest key.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn reseal_for_build(&self, owner: &Owner, id: BuildId, sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let purpose = purpose(owner, id);
        Ok(self.seal(&purpose, self.open(&purpose, sealed)?.expose_secret()))
    }
}

/// As it was named when there were but credentials: what earlier versions have sealed opens.
fn purpose(owner: &Owner, id: BuildId) -> String {
    format!("dockwright/build-credentials/v1/{owner}/{id}")
}
