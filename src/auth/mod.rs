//! Who is calling, and the token of the first admin.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use crate::domain::{Owner, Role, Scope, Timestamp};
use crate::error::{Error, Result};
use crate::store::{Store, TokenRecord};

/// Scanners for leaked secrets know our tokens by this.
const PREFIX: &str = "dw_";
/// The name of the first admin.
pub const ADMIN: &str = "admin";
/// The file in the data folder that holds the first admin's token.
pub const TOKEN_FILE: &str = "admin-token";
/// How long an answer of the store about a token is used again.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Most tokens that are remembered at once.
const REMEMBERED_TOKENS: usize = 10_000;

/// The account on whose behalf a request comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub owner: Owner,
    pub role: Role,
}

impl Principal {
    /// What this caller may see.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.role {
            Role::Admin => Scope::All,
            Role::User => Scope::Owner(self.owner.clone()),
        }
    }
}

/// Tells who is behind an `Authorization` header.
pub struct Authenticator {
    store: Store,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Principal)>>,
}

impl Authenticator {
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, remembered: Mutex::default() }
    }

    /// `Bearer TOKEN`, or `Basic` with any user name and the token as password.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for everything else; [`Error::Unavailable`] when the store cannot be asked.
    pub async fn principal(&self, authorization: Option<&str>) -> Result<Principal> {
        let token = authorization.and_then(token_of).ok_or(Error::Unauthenticated)?;
        let hash = hash(&token);
        if let Some(principal) = self.recall(&hash) {
            return Ok(principal);
        }
        let record = self.store.token(&hash).await?.ok_or(Error::Unauthenticated)?;
        let principal = Principal { owner: record.owner, role: record.role };
        self.remember(hash, principal.clone());
        Ok(principal)
    }

    fn recall(&self, hash: &[u8; 32]) -> Option<Principal> {
        let remembered = self.remembered.lock().expect("not poisoned, because nothing panics while it is held");
        remembered.get(hash).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, principal)| principal.clone())
    }

    fn remember(&self, hash: [u8; 32], principal: Principal) {
        let mut remembered = self.remembered.lock().expect("not poisoned, because nothing panics while it is held");
        if remembered.len() >= REMEMBERED_TOKENS {
            remembered.clear();
        }
        remembered.insert(hash, (Instant::now(), principal));
    }
}

fn token_of(authorization: &str) -> Option<SecretString> {
    let (scheme, value) = authorization.split_once(' ')?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => value.trim().to_owned(),
        "basic" => String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?.split_once(':')?.1.to_owned(),
        _ => return None,
    };
    token.starts_with(PREFIX).then(|| SecretString::from(token))
}

/// Tokens are 256 random bits, so that a plain hash is as good as a slow one.
fn hash(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

/// Makes a token for an account. Its text is known only to the caller of this function.
///
/// # Errors
/// When the store does not take it.
pub async fn issue_token(store: &Store, owner: &Owner, role: Role, name: &str) -> Result<SecretString> {
    let token = random_token();
    let record = TokenRecord { owner: owner.clone(), role, name: name.into(), created_at: Timestamp::now() };
    store.put_token(&hash(&token), &record).await?;
    Ok(token)
}

fn random_token() -> SecretString {
    let bits: [u8; 32] = rand::random();
    SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
}

/// What a start found or made of the admin's token.
pub enum FirstAdmin {
    /// There were accounts already.
    Known,
    /// Made now and written to this file.
    Made { file: PathBuf, token: SecretString },
}

/// At the first start: an admin with a token, written with mode 0600 into the data folder. The file comes first, so that a
/// crash in between never leaves a token that nobody knows; a file that is there already is taken.
///
/// # Errors
/// When the file or the store cannot be written.
pub async fn ensure_admin(store: &Store, data_dir: &Path) -> anyhow::Result<FirstAdmin> {
    if store.has_tokens().await? {
        return Ok(FirstAdmin::Known);
    }
    let file = data_dir.join(TOKEN_FILE);
    let token = first_token(&file).with_context(|| format!("cannot make or read {}", file.display()))?;
    let owner = ADMIN.parse().expect("valid, because it is a constant of that form");
    let record = TokenRecord { owner, role: Role::Admin, name: "first start".into(), created_at: Timestamp::now() };
    store.put_token(&hash(&token), &record).await?;
    Ok(FirstAdmin::Made { file, token })
}

/// The token in the file, which is made when it is not there. Of several processes that start at once the first one's token
/// stays, and all of them take that.
fn first_token(path: &Path) -> anyhow::Result<SecretString> {
    if !path.exists() {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable by this account alone, as `tempfile` makes all its files; whole before it gets its name.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", random_token().expose_secret())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.error.into()),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(path)?;
    anyhow::ensure!(text.trim().starts_with(PREFIX), "it holds no token; remove it");
    Ok(SecretString::from(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_agree_on_one_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(TOKEN_FILE);
        let tokens: std::collections::HashSet<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| first_token(&path).expect("made or read"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").expose_secret().to_owned()).collect()
        });
        assert_eq!(tokens.len(), 1);
        std::fs::write(&path, "something else").expect("written");
        assert!(first_token(&path).is_err());
    }

    #[test]
    fn tokens_come_as_bearer_or_as_the_password_of_any_user() {
        let basic = format!("Basic {}", STANDARD.encode("me:dw_abc:d"));
        for (header, token) in [
            ("Bearer dw_x", Some("dw_x")),
            ("bearer dw_x", Some("dw_x")),
            (&basic, Some("dw_abc:d")),
            ("Bearer x", None),
            ("Basic !", None),
            ("dw_x", None),
            ("Digest dw_x", None),
        ] {
            assert_eq!(token_of(header).map(|t| t.expose_secret().to_owned()).as_deref(), token, "{header}");
        }
    }
}
