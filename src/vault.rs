//! Encryption of the few secrets that must be kept: XChaCha20-Poly1305 with owner and id as associated data, so that a
//! sealed value moved to another row does not open.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};

use crate::domain::{BuildId, Credentials, Owner};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The key, and what is done with it.
pub struct Vault {
    key: SecretBox<[u8; KEY_BYTES]>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    host: String,
    username: String,
    password: String,
}

impl Vault {
    #[must_use]
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key: SecretBox::new(Box::new(key)) }
    }

    /// A key as an operator hands it over: 32 bytes in base64.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_base64(text: &SecretString) -> anyhow::Result<Self> {
        let bytes = STANDARD.decode(text.expose_secret().trim()).ok().and_then(|b| <[u8; KEY_BYTES]>::try_from(b).ok());
        bytes.map(Self::new).context("the key must be 32 bytes in base64 (make one with: openssl rand -base64 32)")
    }

    /// The key in the file, which is made with mode 0600 when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or made, holds no key, or others may read it.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        match std::fs::metadata(path) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
                bail!("{} may be read by others; run: chmod 600 {}", path.display(), path.display())
            }
            Ok(_) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                Self::from_base64(&SecretString::from(text)).with_context(|| path.display().to_string())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                make_key_file(path).with_context(|| format!("cannot make {}", path.display()))?;
                Self::from_file(path)
            }
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key.expose_secret()))
    }

    fn associated(owner: &Owner, id: BuildId) -> String {
        format!("dockwright/build-credentials/v1/{owner}/{id}")
    }

    /// Encrypts the credentials of one build.
    #[must_use]
    pub fn seal(&self, owner: &Owner, id: BuildId, credentials: &Credentials) -> Vec<u8> {
        let plain = Plain {
            host: credentials.host().to_owned(),
            username: credentials.username().to_owned(),
            password: credentials.expose_password().to_owned(),
        };
        let plain = SecretString::from(serde_json::to_string(&plain).expect("strings serialise, because they are UTF-8"));
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = Self::associated(owner, id);
        let payload = Payload { msg: plain.expose_secret().as_bytes(), aad: aad.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).expect("encryption fails only beyond 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`Vault::seal`] made for the same owner and build.
    ///
    /// # Errors
    /// When the key is another, the value was changed, or it belongs to another row.
    pub fn open(&self, owner: &Owner, id: BuildId, sealed: &[u8]) -> anyhow::Result<Credentials> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().context("the sealed credentials are cut short")?;
        let aad = Self::associated(owner, id);
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: aad.as_bytes() })
            .map_err(|_| anyhow::anyhow!("the sealed credentials do not open with this key, owner and build"))?;
        let plain: Plain = serde_json::from_slice(&plain)?;
        Ok(Credentials::new(plain.host, plain.username, SecretString::from(plain.password)))
    }
}

/// Makes a key, whole under another name first: a crash never leaves half of one. Of several processes that start at
/// once the first one's key stays, and all of them read that.
fn make_key_file(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let key: [u8; KEY_BYTES] = rand::random();
    // Readable by this account alone, as `tempfile` makes all its files.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e.error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_for_the_same_key_owner_and_build() {
        let vault = Vault::new([7; 32]);
        let (ada, bob): (Owner, Owner) = ("ada".parse().expect("valid"), "bob".parse().expect("valid"));
        let id = BuildId::new();
        let sealed = vault.seal(&ada, id, &Credentials::new("h:5000", "u", SecretString::from("canary")));
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        let opened = vault.open(&ada, id, &sealed).expect("opens");
        assert_eq!((opened.host(), opened.username(), opened.expose_password()), ("h:5000", "u", "canary"));
        assert!(!format!("{opened:?}").contains("canary"));
        assert!(vault.open(&bob, id, &sealed).is_err());
        assert!(vault.open(&ada, BuildId::new(), &sealed).is_err());
        assert!(Vault::new([8; 32]).open(&ada, id, &sealed).is_err());
    }

    #[test]
    fn the_key_file_is_private_and_stays() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        let first = Vault::from_file(&path).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let again = Vault::from_file(&path).expect("read");
        assert_eq!(first.key.expose_secret(), again.key.expose_secret());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Vault::from_file(&path).is_err());
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        let keys: std::collections::HashSet<[u8; KEY_BYTES]> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..16).map(|_| scope.spawn(|| *Vault::from_file(&path).expect("made or read").key.expose_secret())).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect()
        });
        assert_eq!(keys.len(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing but the key is left");
    }
}
