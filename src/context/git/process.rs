//! How git is run: never by a shell, with arguments that were checked, and with no settings but those that stand here.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::address::Remote;
use crate::error::Error;

/// The first git that goes to the addresses that it is told (`http.curloptResolve`); an older one would resolve names for itself.
const OLDEST: (u32, u32) = (2, 37);

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
    pub(super) async fn make(folder: PathBuf) -> Result<Self, Error> {
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
        let authorities = remote.authorities().map(|file| SecretString::from(file.display().to_string()));
        settings.extend(authorities.map(|file| ("http.sslCAInfo".to_owned(), file)));
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
    pub(super) async fn ask(&self, arguments: &[&str]) -> Result<Option<String>, Error> {
        let mut command = self.command();
        command.args(arguments);
        let output = run(command).await?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

async fn finish(command: Command, what: &str) -> Result<(), Error> {
    let output = run(command).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::internal(anyhow::anyhow!("git {what} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

async fn run(command: Command) -> Result<Output, Error> {
    tokio::process::Command::from(command).kill_on_drop(true).output().await.map_err(not_started)
}

/// What it means that a process did not start.
pub(super) fn not_started(error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound { missing("is not installed") } else { Error::internal(error) }
}

/// There is no git that can be used.
pub(super) fn missing(why: &str) -> Error {
    let (major, minor) = OLDEST;
    let what =
        format!("git {why} where this service runs: install {major}.{minor} or newer (as by apt-get install git); until then it");
    Error::Unavailable { code: "git_missing", what, retry_after: std::time::Duration::from_secs(60), source: None }
}

/// The version of git on this machine, or what is wrong with it.
///
/// # Errors
/// When there is none, or one that is older than [`OLDEST`].
pub async fn installed() -> Result<String, String> {
    let output = tokio::process::Command::new("git").arg("version").output().await.map_err(|_| "is not installed".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = text.strip_prefix("git version ").unwrap_or(&text);
    let (major, minor) = OLDEST;
    if is_new_enough(version) { Ok(version.to_owned()) } else { Err(format!("is {version:?}, older than {major}.{minor}")) }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use std::time::Duration;

    use super::super::GitSettings;
    use super::super::url::Repository;
    use super::*;
    use crate::domain::Credentials;
    use crate::egress::Egress;

    #[tokio::test]
    async fn git_goes_to_the_addresses_that_were_looked_at_and_shows_credentials_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let folder = tempfile::tempdir().expect("a folder");
        let local = Local::make(folder.path().join("0")).await.expect("a repository");
        let repository = Repository::parse(&format!("http://localhost:{port}/app.git")).expect("a URL");
        let egress = Egress::new(vec!["localhost".parse().expect("an outlet")]);
        let settings = GitSettings { egress, authorities: None, timeout: Duration::from_secs(60), at_once: 1 };
        let kept = Credentials::new(format!("LOCALHOST:{port}"), "me", SecretString::from("pass"));
        let remote = Remote::find(&settings, repository, &[kept]).await.expect("allowed");
        // A name that nobody resolves: whoever connects all the same was told where.
        let url = format!("http://pinned.invalid:{port}/app.git");
        let pinned = remote.renamed(Repository::parse(&url).expect("a URL"));
        let mut command = local.command_to(&pinned);
        command.args(["ls-remote", "--end-of-options", &url]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("git is installed");
        let (mut connection, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection"),
            ended = child.wait() => panic!("git did not connect: {ended:?}"),
        };
        let mut asked = vec![0; 4096];
        let read = connection.read(&mut asked).await.expect("a request");
        let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
        assert!(asked.contains(&format!("Host: pinned.invalid:{port}")), "{asked}");
        assert!(asked.contains("Authorization: Basic bWU6cGFzcw=="), "{asked}");
    }

    #[test]
    fn an_old_git_is_not_good_enough() {
        for (version, good) in
            [("2.37.0", true), ("2.47.3", true), ("3.0.rc1", true), ("2.36.9", false), ("1.99", false), ("", false)]
        {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }

    #[tokio::test]
    async fn git_reads_no_settings_but_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let local = Local::make(folder.path().join("0")).await.expect("a repository");
        let said = local.ask(&["config", "--list", "--show-origin"]).await.expect("answers").expect("settings");
        assert!(said.lines().all(|line| line.starts_with("command line:") || line.starts_with("file:")), "{said}");
        assert!(said.lines().filter(|line| line.starts_with("file:")).all(|line| line.contains("/0/config")), "{said}");
        assert_eq!(local.ask(&["config", "protocol.allow"]).await.expect("answers").as_deref(), Some("never\n"));
        assert_eq!(local.ask(&["ls-remote", "/etc"]).await.expect("answers"), None, "no protocol is spoken");
        let hooks = std::fs::read_dir(local.folder().join("hooks")).map(Iterator::count).unwrap_or_default();
        assert_eq!(hooks, 0);
    }
}
