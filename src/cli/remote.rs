//! The operator's commands, done over the service's own interface.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::commands::{Audit, Command, Keys, Registry, Remote, Token, User};
use super::show::{show, show_all, text};
use super::{audit, build, builds, complain, containers, images, places, reach, say, terminal, webhooks};
use crate::client::Client;

/// Runs one command. Exit code 1 also when a check says no.
pub(super) fn run(remote: &Remote, command: Command) -> anyhow::Result<ExitCode> {
    let client = reach::client(remote)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match command {
            Command::User(command) => user(&client, remote, command).await,
            Command::Token(command) => token(&client, remote, command).await,
            Command::Registry(command) => registry(&client, remote, command).await,
            Command::Webhook(command) => webhooks::webhook(&client, remote, command).await,
            Command::Audit(Audit::List { last }) => audit::list(&client, remote, last).await,
            Command::Audit(Audit::Verify { since }) => audit::verify(&client, remote, since).await,
            Command::Keys(Keys::Rotate) => {
                let done = client.call(Method::POST, "/api/v1/keys/rotate", None).await?;
                show(remote, &done, &["key", "registries", "builds", "answers"]);
                Ok(ExitCode::SUCCESS)
            }
            Command::App(command) => containers::app(&client, remote, command).await,
            Command::Run(command) => containers::run(&client, remote, command).await,
            Command::Build(wanted) => Ok(build::ended(build::build(&client, remote, &wanted).await)),
            Command::Cancel { id } => Ok(build::ended(builds::cancel(&client, remote, &id).await)),
            Command::Retry(wanted) => Ok(build::ended(build::retry(&client, remote, &wanted).await)),
            Command::Ps(which) => builds::ps(&client, remote, which).await,
            Command::Inspect { target } => builds::inspect(&client, remote, &target).await,
            Command::Logs { target, logs, step } => builds::logs(&client, &target, &logs, step.as_deref()).await,
            Command::Start { container } => containers::act(&client, remote, &container, "start", []).await,
            Command::Stop { container, grace } => containers::act(&client, remote, &container, "stop", [("grace", grace)]).await,
            Command::Restart { container, grace } => {
                containers::act(&client, remote, &container, "restart", [("grace", grace)]).await
            }
            Command::Kill { container, signal } => {
                containers::act(&client, remote, &container, "kill", [("signal", signal)]).await
            }
            Command::Rm { target, force, remote: tags } => builds::rm(&client, remote, &target, force, tags).await,
            Command::Stats { target, once } => containers::stats(&client, remote, &target, once).await,
            Command::Volume(command) => places::volume(&client, remote, command).await,
            Command::Network(command) => places::network(&client, remote, command).await,
            Command::Image(command) => images::image(&client, remote, command).await,
            Command::Exec(wanted) => terminal::exec(&client, wanted).await,
        }
    });
    // What is written to a terminal that takes nothing, or read from one that says nothing, is not waited for.
    runtime.shutdown_background();
    ended
}

const USER: [&str; 5] = ["name", "role", "disabled", "has_password", "created_at"];
const TOKEN: [&str; 6] = ["id", "name", "scopes", "images", "expires_at", "last_used_at"];
const REGISTRY: [&str; 5] = ["owner", "name", "server", "username", "updated_at"];

async fn user(client: &Client, remote: &Remote, command: User) -> anyhow::Result<ExitCode> {
    match command {
        User::List => show_all(remote, client.all("/api/v1/users").await?, &USER),
        User::Add { name, admin, password_stdin, quota } => {
            let mut body = json!({"name": name, "role": if admin { "admin" } else { "user" }, "quota": object(quota)});
            if password_stdin {
                body["password"] = read_secret()?.into();
            }
            show(remote, &client.call(Method::POST, "/api/v1/users", Some(&body)).await?, &USER);
        }
        User::Show { name } => {
            let user = client.call(Method::GET, &path("users", &name)?, None).await?;
            show(remote, &user, &["name", "role", "disabled", "has_password", "quota", "usage", "created_at"]);
        }
        User::Set { name, role, disable, enable, password_stdin, quota } => {
            let mut body = Map::new();
            body.extend(role.map(|role| ("role".to_owned(), role.into())));
            if disable || enable {
                body.insert("disabled".into(), disable.into());
            }
            if !quota.is_empty() {
                body.insert("quota".into(), object(quota));
            }
            if password_stdin {
                body.insert("password".into(), read_secret()?.into());
            }
            if body.is_empty() {
                bail!("say what to change: --role, --disable, --enable, --quota or --password-stdin");
            }
            show(remote, &client.call(Method::PATCH, &path("users", &name)?, Some(&body.into())).await?, &USER);
        }
        User::Password => {
            let secret = read_secret()?;
            let body = match secret.split_once('\n') {
                Some((old, new)) => json!({"old_password": old, "new_password": new}),
                None => json!({"new_password": secret}),
            };
            client.call(Method::PUT, "/api/v1/me/password", Some(&body)).await?;
            complain("changed; all sessions of the account have ended");
        }
        User::Remove { name, objects } => {
            let path = with(&path("users", &name)?, [("objects", objects)])?;
            let removed = client.call(Method::DELETE, &path, None).await?;
            show(remote, &removed, &["name", "objects", "builds", "registries", "tokens"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn token(client: &Client, remote: &Remote, command: Token) -> anyhow::Result<ExitCode> {
    match command {
        Token::List { user } => show_all(remote, client.all(&tokens(user)?).await?, &TOKEN),
        Token::Add { name, user, scopes, images, expires_in } => {
            let mut body = json!({"name": name, "images": images});
            if !scopes.is_empty() {
                body["scopes"] = scopes.into();
            }
            if let Some(time) = expires_in {
                body["expires_in"] = time.into();
            }
            let made = client.call(Method::POST, &tokens(user)?, Some(&body)).await?;
            if remote.json {
                show(remote, &made, &[]);
            } else {
                complain(&format!("made the token {}; this is the only time that it is shown:", text(&made["id"])));
                say(&format!("{}\n", text(&made["token"])));
            }
        }
        Token::Revoke { id } => {
            client.call(Method::DELETE, &path("tokens", &id)?, None).await?;
            complain("revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The list of one's own tokens, or of another account's.
fn tokens(user: Option<String>) -> anyhow::Result<String> {
    with("/api/v1/tokens", [("owner", user)])
}

async fn registry(client: &Client, remote: &Remote, command: Registry) -> anyhow::Result<ExitCode> {
    match command {
        Registry::List { user } => {
            let path = with("/api/v1/registries", [("owner", user)])?;
            show_all(remote, client.all(&path).await?, &REGISTRY);
        }
        Registry::Put { name, server, username } => {
            let body = json!({"server": server, "username": username, "password": read_secret()?});
            show(remote, &client.call(Method::PUT, &path("registries", &name)?, Some(&body)).await?, &REGISTRY);
        }
        Registry::Remove { name, user } => {
            client.call(Method::DELETE, &with(&path("registries", &name)?, [("owner", user)])?, None).await?;
            complain("forgotten");
        }
        Registry::Check { name, user } => {
            let path = with(&format!("{}/check", path("registries", &name)?), [("owner", user)])?;
            let checked = client.call(Method::POST, &path, None).await?;
            show(remote, &checked, &["ok", "code", "message"]);
            if checked["ok"] != true {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A name of a path, which must be one part of it, and none that leads to another path.
pub(super) fn path(kind: &str, name: &str) -> anyhow::Result<String> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if ["", ".", ".."].contains(&name) || !name.bytes().all(fit) {
        bail!("{name:?} is no name: letters, digits, . _ -");
    }
    Ok(format!("/api/v1/{kind}/{name}"))
}

/// A path with those of its parameters that are said.
pub(super) fn with<const N: usize>(path: &str, parameters: [(&str, Option<String>); N]) -> anyhow::Result<String> {
    let said: Vec<(&str, String)> = parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Ok(if said.is_empty() { path.to_owned() } else { format!("{path}?{}", serde_urlencoded::to_string(said)?) })
}

fn object(quota: Vec<(String, u64)>) -> Value {
    quota.into_iter().map(|(key, number)| (key, Value::from(number))).collect::<Map<_, _>>().into()
}

/// A secret never is an argument, which every process of the machine could read.
pub(super) fn read_secret() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read the password from standard input")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        bail!("standard input holds no password");
    }
    Ok(text.to_owned())
}
