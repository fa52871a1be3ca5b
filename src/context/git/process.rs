//! How git is run: never by a shell, with arguments that were checked, and with no settings but those that stand here.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::address::Remote;
use crate::error::{Error, Result};

/// Settings of every call. What git would read of the machine's and the account's own is not read at all.
const SETTINGS: [(&str, &str); 33] = [
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("core.logAllRefUpdates", "false"),
    // Memory: large files are streamed, packs are looked at through small windows.
    ("core.bigFileThreshold", "8m"),
    ("core.packedGitWindowSize", "32m"),
    ("core.packedGitLimit", "256m"),
    ("core.deltaBaseCacheLimit", "64m"),
    ("pack.threads", "1"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("fetch.writeCommitGraph", "false"),
    // A pack is one file, whose size is bounded; loose objects would be many.
    ("fetch.unpackLimit", "1"),
    ("transfer.unpackLimit", "1"),
    ("fetch.fsckObjects", "true"),
    // Flaws of old programs that mislead nobody.
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.missingTaggerEntry", "ignore"),
    ("transfer.bundleURI", "false"),
    ("protocol.version", "2"),
    ("protocol.allow", "never"),
    ("http.followRedirects", "false"),
    ("http.proxy", ""),
    ("http.sslVerify", "true"),
    ("http.saveCookies", "false"),
    // A server that sends nothing for this long (seconds) is given up.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("safe.directory", "*"),
];

/// A bare repository in a folder of ours.
#[derive(Debug, Clone)]
pub(super) struct Local {
    folder: PathBuf,
}

impl Local {
    /// # Errors
    /// `git_missing`, or ours.
    pub(super) async fn make(folder: PathBuf) -> Result<Self> {
        let local = Self { folder };
        // Without a template: the machine's could bring hooks.
        let mut command = local.command();
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--object-format=sha1"]);
        finish(command, "init").await?;
        Ok(local)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `git` for this repository, without arguments. It may speak no protocol.
    pub(super) fn command(&self) -> Command {
        self.configured(&[], "none")
    }

    /// `git` that may go to one repository, and shows it what it is to be shown. Secrets are in its environment alone, which nobody
    /// but this account (and root) can read: an argument could be read by all.
    pub(super) fn command_to(&self, remote: &Remote) -> Command {
        let repository = &remote.repository;
        let mut settings = Vec::new();
        settings.extend(remote.pin().map(|pin| ("http.curloptResolve".to_owned(), SecretString::from(pin))));
        settings.extend(remote.authorization().map(|header| (format!("http.{}.extraHeader", repository.origin()), header)));
        self.configured(&settings, repository.scheme())
    }

    fn configured(&self, more: &[(String, SecretString)], protocol: &str) -> Command {
        let mut command = Command::new("git");
        command.env_clear().stdin(Stdio::null()).current_dir(self.folder.parent().unwrap_or(&self.folder));
        // Where programs are is all that is taken over.
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("GIT_DIR", &self.folder).env("HOME", &self.folder).env("XDG_CONFIG_HOME", &self.folder);
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_PROTOCOL_FROM_USER", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_ALLOW_PROTOCOL", protocol),
        ] {
            command.env(name, value);
        }
        let usual = SETTINGS.iter().map(|(key, value)| (*key, *value));
        let more = more.iter().map(|(key, value)| (key.as_str(), value.expose_secret()));
        let mut count = 0;
        for (key, value) in usual.chain(more) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key).env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    /// What a short call on this machine prints; `None` when it fails. Its output must be small by its nature.
    pub(super) async fn ask(&self, arguments: &[&str]) -> Result<Option<String>> {
        let mut command = self.command();
        command.args(arguments);
        let output = run(command).await?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

async fn finish(command: Command, what: &str) -> Result<()> {
    let output = run(command).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::internal(anyhow::anyhow!("git {what} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

async fn run(command: Command) -> Result<Output> {
    tokio::process::Command::from(command).kill_on_drop(true).output().await.map_err(not_started)
}

/// What it means that a process did not start.
pub(super) fn not_started(error: std::io::Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return Error::internal(error);
    }
    Error::Unavailable {
        code: "git_missing",
        what: "git, which has to be installed where this service runs (as by apt-get install git),".into(),
        retry_after: std::time::Duration::from_secs(60),
        source: None,
    }
}

/// The version of git on this machine; `None` when it has none.
pub async fn installed() -> Option<String> {
    let output = tokio::process::Command::new("git").arg("version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then(|| text.strip_prefix("git version ").unwrap_or(&text).to_owned())
}
