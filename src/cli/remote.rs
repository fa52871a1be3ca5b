//! The operator's commands, over the service's own interface: `dockwright user|token|registry|audit|keys …`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{complain, say};
use crate::audit::{self, Entry};
use crate::client::{Client, DEFAULT_URL};

/// Which service, as whom, and how to show its answers.
#[derive(clap::Args)]
pub(super) struct Remote {
    /// Address of the service
    #[arg(long, env = "DOCKWRIGHT_URL", default_value = DEFAULT_URL, value_name = "URL", global = true)]
    url: String,
    /// File with a token; else DOCKWRIGHT_TOKEN, else ./dockwright-data/admin-token
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print the service's own JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
pub(super) enum User {
    /// Accounts, newest first
    List,
    /// Make an account
    Add {
        name: String,
        #[arg(long)]
        admin: bool,
        /// Read a password from standard input; without one the account is used by tokens alone
        #[arg(long)]
        password_stdin: bool,
        /// Such as builds_running=2 or stored_bytes=1000000000; repeatable
        #[arg(long, value_name = "KEY=NUMBER", value_parser = quota)]
        quota: Vec<(String, u64)>,
    },
    /// One account
    Show { name: String },
    /// Change an account
    Set {
        name: String,
        #[arg(long, value_parser = ["user", "admin"])]
        role: Option<String>,
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        #[arg(long)]
        enable: bool,
        /// Read a new password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Replaces the whole quota; repeatable
        #[arg(long, value_name = "KEY=NUMBER", value_parser = quota)]
        quota: Vec<(String, u64)>,
    },
    /// Remove an account
    Remove {
        name: String,
        /// What becomes of what it owns: delete, or transfer:NAME
        #[arg(long, value_name = "delete|transfer:NAME")]
        objects: Option<String>,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum Token {
    /// Your tokens, newest first
    List,
    /// Make a token; its text is printed once
    Add {
        name: String,
        /// builds:read, builds:write, apps:read, apps:write, admin; repeatable; without any: all you may
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// Only builds for these destinations, such as registry.example/team/*; repeatable
        #[arg(long = "image")]
        images: Vec<String>,
        /// Such as 90d; without it: never
        #[arg(long)]
        expires_in: Option<String>,
    },
    /// Make a token worthless
    Revoke { id: String },
}

#[derive(clap::Subcommand)]
pub(super) enum Registry {
    /// Your registries, newest first
    List,
    /// Keep credentials; the password is read from standard input
    Put {
        name: String,
        #[arg(long, value_name = "HOST[:PORT]")]
        server: String,
        #[arg(long)]
        username: String,
    },
    /// Forget credentials
    Remove { name: String },
    /// Does the registry accept them?
    Check { name: String },
}

#[derive(clap::Subcommand)]
pub(super) enum Audit {
    /// What was done, oldest first
    List,
    /// Check that no entry was changed, moved or taken out
    Verify,
}

#[derive(clap::Subcommand)]
pub(super) enum Keys {
    /// Make a new key and seal everything that is kept with it
    Rotate,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Accounts (for admins)
    #[command(subcommand)]
    User(User),
    /// Your tokens
    #[command(subcommand)]
    Token(Token),
    /// Your registries' credentials
    #[command(subcommand)]
    Registry(Registry),
    /// Who did what (for admins)
    #[command(subcommand)]
    Audit(Audit),
    /// The keys of kept credentials (for admins)
    #[command(subcommand)]
    Keys(Keys),
}

/// Runs one command. Exit code 1 also when a check says no.
pub(super) fn run(remote: &Remote, command: Command) -> anyhow::Result<ExitCode> {
    let client = Client::new(&remote.url, remote.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::User(command) => user(&client, remote, command).await,
            Command::Token(command) => token(&client, remote, command).await,
            Command::Registry(command) => registry(&client, remote, command).await,
            Command::Audit(Audit::List) => list_audit(&client, remote).await,
            Command::Audit(Audit::Verify) => verify(&client).await,
            Command::Keys(Keys::Rotate) => {
                let done = client.call(Method::POST, "/api/v1/keys/rotate", None).await?;
                show(remote, &done, &["key", "registries", "builds", "answers"]);
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

const USER: [&str; 5] = ["name", "role", "disabled", "has_password", "created_at"];
const TOKEN: [&str; 6] = ["id", "name", "scopes", "images", "expires_at", "last_used_at"];
const REGISTRY: [&str; 4] = ["name", "server", "username", "updated_at"];

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
        User::Remove { name, objects } => {
            let query = objects.map(|fate| format!("?objects={fate}")).unwrap_or_default();
            let removed = client.call(Method::DELETE, &format!("{}{query}", path("users", &name)?), None).await?;
            show(remote, &removed, &["name", "objects", "builds", "registries", "tokens"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn token(client: &Client, remote: &Remote, command: Token) -> anyhow::Result<ExitCode> {
    match command {
        Token::List => show_all(remote, client.all("/api/v1/tokens").await?, &TOKEN),
        Token::Add { name, scopes, images, expires_in } => {
            let mut body = json!({"name": name, "images": images});
            if !scopes.is_empty() {
                body["scopes"] = scopes.into();
            }
            if let Some(time) = expires_in {
                body["expires_in"] = time.into();
            }
            let made = client.call(Method::POST, "/api/v1/tokens", Some(&body)).await?;
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

async fn registry(client: &Client, remote: &Remote, command: Registry) -> anyhow::Result<ExitCode> {
    match command {
        Registry::List => show_all(remote, client.all("/api/v1/registries").await?, &REGISTRY),
        Registry::Put { name, server, username } => {
            let body = json!({"server": server, "username": username, "password": read_secret()?});
            show(remote, &client.call(Method::PUT, &path("registries", &name)?, Some(&body)).await?, &REGISTRY);
        }
        Registry::Remove { name } => {
            client.call(Method::DELETE, &path("registries", &name)?, None).await?;
            complain("forgotten");
        }
        Registry::Check { name } => {
            let checked = client.call(Method::POST, &format!("{}/check", path("registries", &name)?), None).await?;
            show(remote, &checked, &["ok", "code", "message"]);
            if checked["ok"] != true {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list_audit(client: &Client, remote: &Remote) -> anyhow::Result<ExitCode> {
    let mut entries = client.all("/api/v1/audit").await?;
    entries.reverse();
    show_all(remote, entries, &["seq", "at", "actor", "address", "action", "object", "status"]);
    Ok(ExitCode::SUCCESS)
}

/// Checks the chain from its newest entry back, page by page, so that its length does not matter.
async fn verify(client: &Client) -> anyhow::Result<ExitCode> {
    let mut entries = client.all("/api/v1/audit").await?;
    entries.reverse();
    let mut last: Option<Entry> = None;
    for entry in entries {
        let entry: Entry = serde_json::from_value(entry).context("an entry does not parse")?;
        if let Err(broken) = audit::verify(last.as_ref(), &entry) {
            complain(&format!("the audit is broken: {broken}"));
            return Ok(ExitCode::FAILURE);
        }
        last = Some(entry);
    }
    match last {
        Some(last) => say(&format!("{} entries, unbroken; the last one is {}\n", last.seq, last.hash)),
        None => say("the audit is empty\n"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A name of a path, which must be one part of it.
fn path(kind: &str, name: &str) -> anyhow::Result<String> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        bail!("{name:?} is no name: letters, digits, . _ -");
    }
    Ok(format!("/api/v1/{kind}/{name}"))
}

fn quota(text: &str) -> Result<(String, u64), String> {
    let (key, number) = text.split_once('=').ok_or("must be KEY=NUMBER")?;
    Ok((key.to_owned(), number.parse().map_err(|_| format!("{number:?} is no whole number"))?))
}

fn object(quota: Vec<(String, u64)>) -> Value {
    quota.into_iter().map(|(key, number)| (key, Value::from(number))).collect::<Map<_, _>>().into()
}

/// A secret never is an argument, which every process of the machine could read.
fn read_secret() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read the password from standard input")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        bail!("standard input holds no password");
    }
    Ok(text.to_owned())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// One object, a line a field.
fn show(remote: &Remote, value: &Value, fields: &[&str]) {
    if remote.json {
        return say(&format!("{value}\n"));
    }
    for field in fields {
        say(&format!("{field:<14}{}\n", text(&value[*field])));
    }
}

/// A table, its columns as wide as they must be.
fn show_all(remote: &Remote, items: Vec<Value>, fields: &[&str]) {
    if remote.json {
        return say(&format!("{}\n", Value::Array(items)));
    }
    let head: Vec<String> = fields.iter().map(|field| field.to_uppercase()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(items.iter().map(|item| fields.iter().map(|f| text(&item[*f])).collect())).collect();
    let widths: Vec<usize> =
        (0..fields.len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        say(&format!("{}\n", line.trim_end()));
    }
}
