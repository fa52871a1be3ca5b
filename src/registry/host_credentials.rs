//! The host's own `docker login`, for one registry: `config.json` and the credential helpers that it names
//! (docker/cli `cli/config/configfile`, docker/docker-credential-helpers).

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::domain::Credentials;

/// Docker Hub's key, in the file and at helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// What a helper calls a login that is not a password but a token for other tokens.
const IDENTITY_TOKEN: &str = "<token>";
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Where this host keeps its logins.
#[derive(Debug, Clone)]
pub struct HostLogins {
    file: PathBuf,
    /// Where helpers are looked for, if not on this process's own `PATH`.
    path: Option<OsString>,
}

impl HostLogins {
    /// Those of `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; `None` without a home.
    #[must_use]
    pub fn of_this_host() -> Option<Self> {
        let folder = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = folder.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")));
        folder.map(|folder| Self::new(folder.join("config.json")))
    }

    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file, path: None }
    }

    /// Looks for helpers in these folders, `:`-separated.
    #[must_use]
    pub fn with_path(self, path: impl Into<OsString>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// The login that this host has for one registry; `None` when there is none.
    ///
    /// # Errors
    /// When the file or a helper's answer cannot be read, or the login is of a kind that is not supported. No error holds a secret.
    pub async fn find(&self, host: &str) -> Result<Option<Credentials>> {
        let text = match tokio::fs::read(&self.file).await {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.file.display())),
        };
        // Its own error would quote the file, which holds passwords.
        let config: ConfigFile = serde_json::from_slice(&text)
            .map_err(|e| anyhow::anyhow!("{} is not understood (line {})", self.file.display(), e.line()))?;
        let keys = keys(host);
        let Some(helper) = keys.iter().find_map(|key| config.helpers.get(key)).or(config.store.as_ref()) else {
            return keys.iter().find_map(|key| config.auths.get(key)).map_or(Ok(None), |entry| from_entry(host, entry));
        };
        for key in &keys {
            if let Some((username, password)) = self.ask(helper, key).await? {
                return Ok(Some(Credentials::new(host, username, password)));
            }
        }
        Ok(None)
    }

    /// Runs `docker-credential-NAME get` with the registry's name on its input.
    async fn ask(&self, helper: &str, key: &str) -> Result<Option<(String, SecretString)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            username: String,
            secret: String,
        }
        if helper.is_empty() || !helper.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            bail!("{helper:?} is not the name of a credential helper");
        }
        let program = format!("docker-credential-{helper}");
        let mut command = tokio::process::Command::new(&program);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let mut child = command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let mut input = child.stdin.take().context("a child with a pipe has one")?;
        let output = async {
            // A helper that does not read its input is judged by its answer.
            let _ = input.write_all(key.as_bytes()).await;
            drop(input);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(HELPER_TIMEOUT, output)
            .await
            .with_context(|| format!("{program} did not answer within 10 s"))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            if said.contains("credentials not found") {
                return Ok(None);
            }
            bail!("{program}: {}", said.lines().next().unwrap_or("failed"));
        }
        let answer: Answer =
            serde_json::from_slice(&output.stdout).map_err(|_| anyhow::anyhow!("{program}'s answer is not understood"))?;
        if answer.username == IDENTITY_TOKEN {
            bail!("{program} holds an identity token, which is not supported; log in with a user name and password");
        }
        Ok(Some((answer.username, SecretString::from(answer.secret))))
    }
}

/// The names under which a registry's login is kept.
fn keys(host: &str) -> Vec<String> {
    if host == "docker.io" {
        return vec![HUB_KEY.to_owned()];
    }
    vec![host.to_owned(), format!("https://{host}"), format!("http://{host}"), format!("https://{host}/v1/")]
}

fn from_entry(host: &str, entry: &Entry) -> Result<Option<Credentials>> {
    if entry.identitytoken.as_deref().is_some_and(|token| !token.is_empty()) {
        bail!("the host's login for {host} is an identity token, which is not supported; log in with a user name and password");
    }
    let pair = match (&entry.auth, &entry.username, &entry.password) {
        (Some(auth), _, _) if !auth.is_empty() => {
            let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.with_context(|| format!("the host's login for {host} is not base64"))?;
            let (user, password) =
                decoded.split_once(':').with_context(|| format!("the host's login for {host} has no password"))?;
            // Docker ends the password at a zero byte.
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        }
        (_, Some(user), Some(password)) if !user.is_empty() => Some((user.clone(), password.clone())),
        _ => None,
    };
    Ok(pair.map(|(user, password)| Credentials::new(host, user, SecretString::from(password))))
}
