//! Which service, and as whom: what is said on the command line, else what the environment says, else what `dockwright login`
//! keeps, else the service that was started in this folder.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::commands::Remote;
use crate::client::{Client, DEFAULT_URL};

/// The first admin's token of a service that was started in this folder.
const FIRST_TOKEN: &str = "dockwright-data/admin-token";

/// What `dockwright login` keeps. A token is sent to the address that it was given for, and to no other.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Logins {
    /// The address that is meant when none is said.
    pub current: Option<String>,
    tokens: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    token: String,
}

impl Logins {
    /// Those of the caller; none without a file.
    pub(super) fn read() -> anyhow::Result<Self> {
        let Some(file) = file() else { return Ok(Self::default()) };
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        // Its own error would quote the file, which holds tokens.
        serde_json::from_slice(&text).map_err(|_| anyhow::anyhow!("{} is not understood: log in again", file.display()))
    }

    pub(super) fn token(&self, url: &str) -> Option<SecretString> {
        self.tokens.get(url).map(|kept| SecretString::from(kept.token.clone()))
    }

    pub(super) fn keep(&mut self, url: &str, token: &SecretString) {
        self.tokens.insert(url.to_owned(), Kept { token: token.expose_secret().to_owned() });
        self.current = Some(url.to_owned());
    }

    /// False when there was none.
    pub(super) fn forget(&mut self, url: &str) -> bool {
        if self.current.as_deref() == Some(url) {
            self.current = None;
        }
        self.tokens.remove(url).is_some()
    }

    /// Replaces the file as a whole; nobody but the caller may read it. The path.
    pub(super) fn write(&self) -> anyhow::Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        let file = file().context("there is no home folder: set XDG_CONFIG_HOME")?;
        let folder = file.parent().context("the file has a folder")?;
        let written = || format!("cannot write {}", file.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(written)?;
        // Made with mode 0600.
        let mut new = tempfile::NamedTempFile::new_in(folder).with_context(written)?;
        new.write_all(serde_json::to_string_pretty(self)?.as_bytes()).with_context(written)?;
        new.persist(&file).with_context(written)?;
        Ok(file)
    }
}

/// `$XDG_CONFIG_HOME/dockwright/login.json`, or below `~/.config`.
fn file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    folder.map(|folder| folder.join("dockwright/login.json"))
}

/// An address in the form in which it is kept.
pub(super) fn clean(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// The service that is meant.
///
/// # Errors
/// When the logins are needed and cannot be read.
pub(super) fn url(remote: &Remote) -> anyhow::Result<String> {
    match &remote.url {
        Some(url) => Ok(clean(url).to_owned()),
        None => Ok(Logins::read()?.current.unwrap_or_else(|| DEFAULT_URL.to_owned())),
    }
}

/// Speaks to the service that is meant, as the one who is meant.
///
/// # Errors
/// When there is no token, or a file cannot be read.
pub(super) fn client(remote: &Remote) -> anyhow::Result<Client> {
    let url = url(remote)?;
    let token = match (&remote.token_file, std::env::var("DOCKWRIGHT_TOKEN")) {
        (Some(file), _) => read_token(file)?,
        (None, Ok(token)) => SecretString::from(token),
        (None, Err(_)) => match Logins::read()?.token(&url) {
            Some(token) => token,
            None if Path::new(FIRST_TOKEN).exists() => read_token(Path::new(FIRST_TOKEN))?,
            None => bail!("no token: use `dockwright login {url}`, set DOCKWRIGHT_TOKEN, or name a file with --token-file"),
        },
    };
    Client::new(&url, token, remote.ca_file.as_deref())
}

fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    Ok(SecretString::from(text.trim().to_owned()))
}
