//! Encryption of the few secrets that must be kept: XChaCha20-Poly1305 with the purpose, owner and id as associated data, so that a
//! sealed value moved to another row does not open.
//!
//! A sealed value names its key, so that several can be in force: new values get the first one, the others are
//! there until everything was sealed anew ([`Vault::rotate`], [`Vault::retire`]). A key file is read again when a value names a key
//! that this process does not know yet: another process may have rotated.

mod builds;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::Credentials;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const NAME_BYTES: usize = 4;
/// Every process reads the key file again within this time (the janitor has a pass for it).
const KNOWN_EVERYWHERE: std::time::Duration = std::time::Duration::from_secs(60);
/// The form of a sealed value: this byte, the key's name, the nonce, the text.
const FORM: u8 = 1;

/// What a key is called: the beginning of its hash.
type Name = [u8; NAME_BYTES];

struct SealingKey {
    name: Name,
    key: SecretBox<[u8; KEY_BYTES]>,
}

impl SealingKey {
    fn new(key: [u8; KEY_BYTES]) -> Self {
        let hash: [u8; 32] = Sha256::new_with_prefix(b"dockwright/key-name/v1").chain_update(key).finalize().into();
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&hash[..NAME_BYTES]);
        Self { name, key: SecretBox::new(Box::new(key)) }
    }

    fn random() -> Self {
        Self::new(rand::random())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|b| <[u8; KEY_BYTES]>::try_from(b).ok());
        bytes.map(Self::new).context("a key must be 32 bytes in base64 (make one with: openssl rand -base64 32)")
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key.expose_secret()))
    }
}

/// The keys in force, the one for new values first.
type Ring = Vec<Arc<SealingKey>>;

/// The keys, and what is done with them.
pub struct Vault {
    ring: RwLock<Ring>,
    /// Where the keys stand, unless an operator handed them over.
    file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    host: String,
    username: String,
    password: String,
}

impl Plain {
    fn of(credentials: &Credentials) -> Self {
        Self {
            host: credentials.host().to_owned(),
            username: credentials.username().to_owned(),
            password: credentials.expose_password().to_owned(),
        }
    }

    fn opened(self) -> Credentials {
        Credentials::new(self.host, self.username, SecretString::from(self.password))
    }
}

impl Vault {
    fn of(ring: Ring, file: Option<PathBuf>) -> Self {
        Self { ring: RwLock::new(ring), file }
    }

    #[must_use]
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self::of(vec![Arc::new(SealingKey::new(key))], None)
    }

    /// Keys as an operator hands them over: 32 bytes in base64 each, the one for new values first, with commas or line ends between.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_base64(text: &SecretString) -> anyhow::Result<Self> {
        Ok(Self::of(parse_ring(text)?, None))
    }

    /// The keys in the file, which is made with mode 0600 when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or made, holds no key, or others may read it.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
            make_key_file(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self::of(read_key_file(path)?, Some(path.to_owned())))
    }

    fn ring(&self) -> Ring {
        self.ring.read().expect("not poisoned, because nothing panics while it is held").clone()
    }

    fn set_ring(&self, ring: Ring) {
        *self.ring.write().expect("not poisoned, because nothing panics while it is held") = ring;
    }

    /// Encrypts `plain` so that it opens only for the same purpose.
    #[must_use]
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let ring = self.ring();
        let key = ring.first().expect("there is a key, because a ring is never empty");
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: purpose.as_bytes() };
        let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload).expect("encryption fails only beyond 256 GiB");
        [&[FORM], key.name.as_slice(), &nonce, &sealed].concat()
    }

    /// Opens what [`Vault::seal`] made for the same purpose.
    ///
    /// # Errors
    /// When the key is not known, the value was changed, or it belongs to another row.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> anyhow::Result<SecretBox<Vec<u8>>> {
        let (name, rest) = split_name(sealed).context("the sealed value is cut short, or of another version")?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().context("the sealed value is cut short")?;
        let key = self.key(name)?;
        let plain = key
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: purpose.as_bytes() })
            .map_err(|_| anyhow::anyhow!("the sealed value does not open with its key, owner and id"))?;
        Ok(SecretBox::new(Box::new(plain)))
    }

    fn key(&self, name: Name) -> anyhow::Result<Arc<SealingKey>> {
        let find = |ring: Ring| ring.into_iter().find(|key| key.name == name);
        if let Some(key) = find(self.ring()) {
            return Ok(key);
        }
        if let Some(file) = &self.file {
            self.set_ring(read_key_file(file)?);
        }
        find(self.ring()).with_context(|| format!("the key {} that sealed it is not known here", hex::encode(name)))
    }

    /// Whether a value is sealed with the key for new values.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let newest = self.ring().first().map(|key| key.name);
        split_name(sealed).map(|(name, _)| name) == newest
    }

    /// The name of the key for new values.
    #[must_use]
    pub fn key_name(&self) -> String {
        self.ring().first().map(|key| hex::encode(key.name)).unwrap_or_default()
    }

    /// How many keys are in force.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.ring().len()
    }

    /// Whether the keys stand in a file that this service may write.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Puts a new key before the others, in the key file. What is sealed stays readable.
    ///
    /// # Errors
    /// When the keys do not stand in a file of this service, or it cannot be written.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let file =
            self.file.as_ref().context("the key was handed over by the operator, who puts a new one before it: NEW,OLD")?;
        let mut ring = read_key_file(file)?;
        ring.insert(0, Arc::new(SealingKey::random()));
        write_key_file(file, &ring)?;
        self.set_ring(ring);
        Ok(())
    }

    /// Reads the key file again, where there is one: another process may have put a new key there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn refresh(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            self.set_ring(read_key_file(file)?);
        }
        Ok(())
    }

    /// Whether every process has had the time to read the newest key from the file. Keys that were handed over stay.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn old_keys_may_go(&self) -> anyhow::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let changed = std::fs::metadata(file).and_then(|meta| meta.modified())?;
        Ok(changed.elapsed().is_ok_and(|age| age >= KNOWN_EVERYWHERE))
    }

    /// Takes all keys but the newest out of the key file: nothing is sealed with them any more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn retire(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            let mut ring = read_key_file(file)?;
            ring.truncate(1);
            write_key_file(file, &ring)?;
            self.set_ring(ring);
        }
        Ok(())
    }

    /// Encrypts credentials for a purpose.
    #[must_use]
    pub fn seal_credentials(&self, purpose: &str, credentials: &[Credentials]) -> Vec<u8> {
        let plain: Vec<Plain> = credentials.iter().map(Plain::of).collect();
        let plain = SecretString::from(serde_json::to_string(&plain).expect("strings serialise, because they are UTF-8"));
        self.seal(purpose, plain.expose_secret().as_bytes())
    }

    /// # Errors
    /// As [`Vault::open`].
    pub fn open_credentials(&self, purpose: &str, sealed: &[u8]) -> anyhow::Result<Vec<Credentials>> {
        let plain: Vec<Plain> = serde_json::from_slice(self.open(purpose, sealed)?.expose_secret())?;
        Ok(plain.into_iter().map(Plain::opened).collect())
    }
}

fn split_name(sealed: &[u8]) -> Option<(Name, &[u8])> {
    let (form, rest) = sealed.split_first()?;
    let (name, rest) = rest.split_first_chunk::<NAME_BYTES>()?;
    (*form == FORM).then_some((*name, rest))
}

fn parse_ring(text: &SecretString) -> anyhow::Result<Ring> {
    let keys = text.expose_secret().split([',', '\n']).map(str::trim).filter(|key| !key.is_empty());
    let ring = keys.map(|key| SealingKey::parse(key).map(Arc::new)).collect::<anyhow::Result<Ring>>()?;
    ensure!(!ring.is_empty(), "there is no key (make one with: openssl rand -base64 32)");
    Ok(ring)
}

fn read_key_file(path: &Path) -> anyhow::Result<Ring> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let meta = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    if meta.permissions().mode() & 0o077 != 0 {
        bail!("{shown} may be read by others; run: chmod 600 {shown}");
    }
    let text = SecretString::from(std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?);
    parse_ring(&text).with_context(|| shown.to_string())
}

/// The keys, whole under another name: a crash never leaves half of them. Readable by this account alone, as `tempfile` makes all its files.
fn staged(path: &Path, ring: &[Arc<SealingKey>]) -> anyhow::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for key in ring {
        writeln!(file, "{}", STANDARD.encode(key.key.expose_secret()))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Of several processes that start at once the first one's key stays, and all of them read that.
fn make_key_file(path: &Path) -> anyhow::Result<()> {
    match staged(path, &[Arc::new(SealingKey::random())])?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e.error.into()),
    }
}

fn write_key_file(path: &Path, ring: &[Arc<SealingKey>]) -> anyhow::Result<()> {
    staged(path, ring)?.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The name must be on the disk before anything is sealed with the key.
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests;
