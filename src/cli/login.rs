//! `dockwright login` and `logout`.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::commands::Remote;
use super::complain;
use super::reach::{self, Logins, clean};
use super::show::text;
use super::terminal::Ends;
use crate::client::{Client, is_confidential};

/// Longest token that is read, in bytes.
const TOKEN_BYTES: u64 = 4096;

#[derive(clap::Args)]
pub(super) struct Login {
    /// Address of the service; else that of --url, or of the log-in before
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Read the token from standard input
    #[arg(long)]
    token_stdin: bool,
}

#[derive(clap::Args)]
pub(super) struct Logout {
    /// Address of the service; else that of --url, or of the last log-in
    #[arg(value_name = "URL")]
    address: Option<String>,
}

/// Keeps a token that the service knows.
pub(super) fn login(remote: &Remote, wanted: &Login) -> anyhow::Result<ExitCode> {
    let url = address(remote, wanted.address.as_deref())?;
    let parsed = reqwest::Url::parse(&url).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let parsed = parsed.with_context(|| format!("{url:?} is no address: https://HOST[:PORT]"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        bail!("an address holds no name and no password: they would be shown");
    }
    if !is_confidential(&url) {
        complain("warning: without https everybody on the way can read the token");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = if wanted.token_stdin { Ok(from_stdin()?) } else { runtime.block_on(asked(&url))? };
    let token = match token {
        Ok(token) => token,
        Err(left) => return Ok(left),
    };
    let client = Client::new(&url, token.clone(), remote.ca_file.as_deref())?;
    let me = runtime.block_on(client.call(Method::GET, "/api/v1/me", None))?;
    let mut logins = Logins::read().unwrap_or_default();
    logins.keep(&url, &token);
    let file = logins.write()?;
    complain(&format!("logged in to {url} as {}; the token is in {}", text(&me["name"]), file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Forgets the token; at the service it stays valid.
pub(super) fn logout(remote: &Remote, wanted: &Logout) -> anyhow::Result<ExitCode> {
    let url = address(remote, wanted.address.as_deref())?;
    let mut logins = Logins::read()?;
    if !logins.forget(&url) {
        bail!("there is no log-in to {url}");
    }
    logins.write()?;
    complain(&format!("logged out of {url}; `dockwright token revoke` makes a token worthless for everybody"));
    Ok(ExitCode::SUCCESS)
}

fn address(remote: &Remote, given: Option<&str>) -> anyhow::Result<String> {
    given.map_or_else(|| reach::url(remote), |url| Ok(clean(url).to_owned()))
}

fn from_stdin() -> anyhow::Result<SecretString> {
    let mut text = String::new();
    std::io::stdin().lock().take(TOKEN_BYTES).read_to_string(&mut text).context("cannot read standard input")?;
    token(&text)
}

fn token(text: &str) -> anyhow::Result<SecretString> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("this is no token");
    }
    Ok(SecretString::from(text.to_owned()))
}

/// Typed at the terminal, where it is not shown. An exit code instead when a signal has ended it: the terminal is as it was.
async fn asked(url: &str) -> anyhow::Result<Result<SecretString, ExitCode>> {
    if !std::io::stdin().is_terminal() {
        bail!("standard input is no terminal: hand the token over with --token-stdin");
    }
    let mut ends = Ends::new()?;
    let hidden = Hidden::enter()?;
    // Behind the change: who types at once is not shown, either.
    let _ = std::io::stderr().write_all(format!("Token for {url}: ").as_bytes());
    let (sender, typed) = oneshot::channel();
    // On a thread that nothing waits for.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = sender.send(std::io::stdin().read_line(&mut line).map(|_| line));
    });
    let ended = tokio::select! {
        line = typed => Ok(line.context("the terminal has ended")?.context("cannot read the token")?),
        number = ends.next() => Err(ExitCode::from(128 + number)),
    };
    drop(hidden);
    complain("");
    match ended {
        Ok(line) => token(&line).map(Ok),
        Err(left) => Ok(Err(left)),
    }
}

/// This terminal does not show what is typed; dropping it makes it as it was.
struct Hidden(Termios);

impl Hidden {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &hidden).context("cannot change the terminal's settings")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
