//! The commands of apps, runs, containers, volumes, networks and images.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::commands::Remote;
use super::container_commands::{App, Image, Logs, Network, Run, Start, Volume};
use super::remote::{path, show, show_all, text};
use super::{complain, say, spec};
use crate::client::Client;

const APP: [&str; 7] = ["name", "id", "image", "state.live", "state.restart_needed", "generation", "updated_at"];
const RUN: [&str; 8] = ["id", "app.name", "state", "status", "exit_code", "container_name", "created_at", "error.message"];
const CONTAINER: [&str; 7] = ["id", "name", "app", "image", "state", "status", "ports"];
const STATS: [&str; 7] = ["at", "cpus", "memory_bytes", "memory_limit_bytes", "pids", "received_bytes", "sent_bytes"];

pub(super) async fn app(client: &Client, remote: &Remote, command: App) -> anyhow::Result<ExitCode> {
    match command {
        App::List => show_all(remote, client.all("/api/v1/apps").await?, &APP),
        App::Show { name } => show(remote, &client.call(Method::GET, &path("apps", &name)?, None).await?, &APP),
        App::Create { name, spec } => {
            let mut fields = spec::fields(&spec)?;
            fields.insert("name".into(), name.into());
            show(remote, &client.call(Method::POST, "/api/v1/apps", Some(&fields.into())).await?, &APP);
        }
        App::Set { name, spec } => {
            let fields = spec::fields(&spec)?;
            if fields.is_empty() {
                bail!("say what to change; `dockwright app set --help` lists it");
            }
            show(remote, &client.call(Method::PATCH, &path("apps", &name)?, Some(&fields.into())).await?, &APP);
        }
        App::Rm { name, force } => {
            let force = if force { "?force=true" } else { "" };
            client.call(Method::DELETE, &format!("{}{force}", path("apps", &name)?), None).await?;
            complain("removed");
        }
        App::Run { name, start } => {
            let run = client.call(Method::POST, &format!("{}/runs", path("apps", &name)?), Some(&by_registry(&start))).await?;
            return started(client, remote, run, &start).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn run(client: &Client, remote: &Remote, command: Run) -> anyhow::Result<ExitCode> {
    match command {
        Run::List { app: None } => show_all(remote, client.all("/api/v1/runs").await?, &RUN),
        Run::List { app: Some(app) } => show_all(remote, client.all(&format!("{}/runs", path("apps", &app)?)).await?, &RUN),
        Run::Show { id } => show(remote, &client.call(Method::GET, &path("runs", &id)?, None).await?, &RUN),
        Run::Once { spec, start } => {
            let mut fields = spec::fields(&spec)?;
            fields.extend(start.registry.clone().map(|name| ("registry".to_owned(), name.into())));
            let run = client.call(Method::POST, "/api/v1/containers", Some(&fields.into())).await?;
            return started(client, remote, run, &start).await;
        }
        Run::Logs { id, logs } => self::logs(client, "runs", &id, &logs).await?,
        Run::Stop { id } => show(remote, &client.call(Method::POST, &format!("{}/stop", path("runs", &id)?), None).await?, &RUN),
        Run::Rm { id } => {
            client.call(Method::DELETE, &path("runs", &id)?, None).await?;
            complain("removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn by_registry(start: &Start) -> Value {
    start.registry.as_ref().map_or_else(|| json!({}), |name| json!({"registry": name}))
}

/// Shows a run; with `--wait` as it is when it runs, and 1 when it never did.
async fn started(client: &Client, remote: &Remote, run: Value, start: &Start) -> anyhow::Result<ExitCode> {
    let mut run = run;
    while start.wait && ["pending", "pulling", "starting"].contains(&text(&run["state"]).as_str()) {
        // Comes when the run is over, or after a second.
        run = client.call(Method::GET, &format!("{}?wait=1", path("runs", &text(&run["id"]))?), None).await?;
    }
    show(remote, &run, &RUN);
    Ok(if start.wait && run["state"] == "failed" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) async fn list(client: &Client, remote: &Remote, all: bool) -> anyhow::Result<ExitCode> {
    let of = if all { "" } else { "?state=running" };
    let mut containers = client.all(&format!("/api/v1/containers{of}")).await?;
    if !remote.json {
        for container in &mut containers {
            container["id"] = text(&container["id"]).chars().take(12).collect::<String>().into();
            container["ports"] = ports(&container["ports"]);
        }
    }
    show_all(remote, containers, &CONTAINER);
    Ok(ExitCode::SUCCESS)
}

/// `20080->80/tcp`
fn ports(ports: &Value) -> Value {
    let shown = |port: &Value| match &port["host"] {
        Value::Null => format!("{}/{}", text(&port["container"]), text(&port["protocol"])),
        host => format!("{}->{}/{}", text(host), text(&port["container"]), text(&port["protocol"])),
    };
    ports.as_array().into_iter().flatten().map(shown).collect()
}

pub(super) async fn logs(client: &Client, kind: &str, name: &str, logs: &Logs) -> anyhow::Result<()> {
    let mut query = vec![("follow", logs.follow.to_string()), ("timestamps", logs.timestamps.to_string())];
    query.extend(logs.tail.map(|lines| ("tail", lines.to_string())));
    let path = format!("{}/logs?{}", path(kind, name)?, serde_urlencoded::to_string(query)?);
    let mut answer = client.follow(&path, "text/plain").await?;
    let mut out = std::io::stdout().lock();
    while let Some(bytes) = answer.chunk().await.context("the log broke off")? {
        out.write_all(&bytes)?;
        out.flush()?;
    }
    Ok(())
}

/// Samples as they come, a line each; with `once` the first that is whole.
pub(super) async fn stats(client: &Client, remote: &Remote, name: &str, once: bool) -> anyhow::Result<ExitCode> {
    let mut answer = client.follow(&format!("{}/stats", path("containers", name)?), "text/event-stream").await?;
    let mut unread = Vec::new();
    let mut headed = false;
    while let Some(bytes) = answer.chunk().await.context("the samples broke off")? {
        unread.extend_from_slice(&bytes);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let Some(sample) = line.strip_prefix(b"data:").and_then(|data| serde_json::from_slice::<Value>(data).ok()) else {
                continue;
            };
            if sample["at"].is_null() {
                continue;
            }
            show_sample(remote, &sample, !std::mem::replace(&mut headed, true));
            if once {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_sample(remote: &Remote, sample: &Value, head: bool) {
    if remote.json {
        return say(&format!("{sample}\n"));
    }
    let line = |cell: &dyn Fn(&str) -> String| STATS.iter().map(|field| format!("{:<26}", cell(field))).collect::<String>();
    if head {
        say(&format!("{}\n", line(&|field| field.to_uppercase()).trim_end()));
    }
    say(&format!("{}\n", line(&|field| text(&sample[field])).trim_end()));
}

/// `start`, `stop`, `restart` or `kill`, with the parameters that are said.
pub(super) async fn act(
    client: &Client,
    remote: &Remote,
    name: &str,
    deed: &str,
    with: &[(&str, Option<String>)],
) -> anyhow::Result<ExitCode> {
    let said: Vec<(&str, &String)> = with.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
    let path = format!("{}/{deed}?{}", path("containers", name)?, serde_urlencoded::to_string(said)?);
    show(remote, &client.call(Method::POST, &path, None).await?, &CONTAINER);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn remove(client: &Client, name: &str, force: bool) -> anyhow::Result<ExitCode> {
    let force = if force { "?force=true" } else { "" };
    client.call(Method::DELETE, &format!("{}{force}", path("containers", name)?), None).await?;
    complain("removed");
    Ok(ExitCode::SUCCESS)
}

const VOLUME: [&str; 4] = ["name", "size_bytes", "used_by", "created_at"];
const NETWORK: [&str; 4] = ["name", "subnet", "used_by", "created_at"];
const IMAGE: [&str; 5] = ["reference", "image_id", "size_bytes", "used_by.containers", "pulled_at"];

pub(super) async fn volume(client: &Client, remote: &Remote, command: Volume) -> anyhow::Result<ExitCode> {
    match command {
        Volume::List => show_all(remote, client.all("/api/v1/volumes").await?, &VOLUME),
        Volume::Create { name } => make(client, remote, "volumes", &name, &VOLUME).await?,
        Volume::Show { name } => show(remote, &client.call(Method::GET, &path("volumes", &name)?, None).await?, &VOLUME),
        Volume::Rm { name } => drop_one(client, &path("volumes", &name)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn network(client: &Client, remote: &Remote, command: Network) -> anyhow::Result<ExitCode> {
    match command {
        Network::List => show_all(remote, client.all("/api/v1/networks").await?, &NETWORK),
        Network::Create { name } => make(client, remote, "networks", &name, &NETWORK).await?,
        Network::Show { name } => show(remote, &client.call(Method::GET, &path("networks", &name)?, None).await?, &NETWORK),
        Network::Rm { name } => drop_one(client, &path("networks", &name)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn make(client: &Client, remote: &Remote, kind: &str, name: &str, fields: &[&str]) -> anyhow::Result<()> {
    let made = client.call(Method::POST, &format!("/api/v1/{kind}"), Some(&json!({"name": name}))).await?;
    show(remote, &made, fields);
    Ok(())
}

async fn drop_one(client: &Client, path: &str) -> anyhow::Result<()> {
    client.call(Method::DELETE, path, None).await?;
    complain("removed");
    Ok(())
}

pub(super) async fn image(client: &Client, remote: &Remote, command: Image) -> anyhow::Result<ExitCode> {
    let named = |image: String, registry: Option<String>| json!({"image": image, "registry": registry});
    let done = match command {
        Image::List => {
            show_all(remote, client.all("/api/v1/images").await?, &IMAGE);
            return Ok(ExitCode::SUCCESS);
        }
        Image::Pull { image, registry } => ("pull", named(image, registry)),
        Image::Push { image, registry } => ("push", named(image, registry)),
        Image::Tag { image, to } => ("tag", json!({"image": image, "tag": to})),
        Image::Rm { image } => {
            drop_one(client, &format!("/api/v1/images/{}", one_part(&image))).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let answer = client.call(Method::POST, &format!("/api/v1/images/{}", done.0), Some(&done.1)).await?;
    show(remote, &answer, &IMAGE);
    Ok(ExitCode::SUCCESS)
}

/// A name with slashes as one part of a path.
fn one_part(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
