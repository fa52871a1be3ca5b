//! The commands of apps, runs and containers.

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::commands::Remote;
use super::container_commands::{App, LogPart, Ps, Run, Start};
use super::places::{one, remove as remove_at};
use super::remote::{path, with};
use super::show::{json as as_json, only_colours, put, show, show_all, text};
use super::spec;
use crate::client::Client;

const APPS: [&str; 6] = ["owner", "name", "image", "state.live", "state.restart_needed", "updated_at"];
const APP: [&str; 26] = [
    "owner",
    "name",
    "id",
    "image",
    "build",
    "command",
    "entrypoint",
    "env",
    "ports",
    "volumes",
    "network",
    "memory",
    "cpus",
    "pids",
    "restart",
    "user",
    "workdir",
    "read_only",
    "tty",
    "healthcheck",
    "labels",
    "state.live",
    "state.restart_needed",
    "generation",
    "created_at",
    "updated_at",
];
const RUNS: [&str; 9] =
    ["owner", "id", "app.name", "status", "state", "exit_code", "container_name", "created_at", "error.message"];
const RUN: [&str; 18] = [
    "owner",
    "id",
    "app.name",
    "status",
    "state",
    "exit_code",
    "oom_killed",
    "restarts",
    "image",
    "container_name",
    "container",
    "container_removed",
    "node",
    "created_at",
    "started_at",
    "finished_at",
    "error.code",
    "error.message",
];
const CONTAINERS: [&str; 8] = ["owner", "id", "name", "app", "image", "state", "health", "ports"];
const CONTAINER: [&str; 21] = [
    "owner",
    "id",
    "name",
    "app",
    "run",
    "image",
    "state",
    "health",
    "exit_code",
    "oom_killed",
    "error",
    "restarts",
    "ports",
    "addresses",
    "volumes",
    "limits.memory",
    "limits.cpus",
    "limits.pids",
    "created_at",
    "started_at",
    "finished_at",
];
const STATS: [&str; 9] = [
    "at",
    "milli_cpus",
    "memory_bytes",
    "memory_limit_bytes",
    "pids",
    "received_bytes",
    "sent_bytes",
    "read_bytes",
    "written_bytes",
];

pub(super) async fn app(client: &Client, remote: &Remote, command: App) -> anyhow::Result<ExitCode> {
    match command {
        App::List(of) => {
            let mut apps = client.all(&with("/api/v1/apps", [("owner", of.owner)])?).await?;
            if !remote.json {
                apps.iter_mut().for_each(shorten_app);
            }
            show_all(remote, apps, &APPS);
        }
        App::Show(app) => show(remote, &client.call(Method::GET, &one("apps", app)?, None).await?, &APP),
        App::Create { name, spec } => {
            let mut fields = spec::fields(&spec)?;
            fields.insert("name".into(), name.into());
            show(remote, &client.call(Method::POST, "/api/v1/apps", Some(&fields.into())).await?, &APP);
        }
        App::Set { app, spec } => {
            let (path, fields) = (one("apps", app)?, spec::fields(&spec)?);
            if fields.is_empty() {
                bail!("say what to change; `dockwright app set --help` lists it");
            }
            show(remote, &client.call(Method::PATCH, &path, Some(&fields.into())).await?, &APP);
        }
        App::Rm { app, force } => {
            let parameters = [("owner", app.of.owner), ("force", force.then(|| "true".into()))];
            remove_at(client, &with(&path("apps", &app.name)?, parameters)?).await?;
        }
        App::Run { app, start } => {
            let path = with(&format!("{}/runs", path("apps", &app.name)?), [("owner", app.of.owner)])?;
            let body = start.registry.as_ref().map_or_else(|| json!({}), |name| json!({"registry": name}));
            let run = client.call(Method::POST, &path, Some(&body)).await?;
            return started(client, remote, run, &start).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For a table: how many runs instead of which, and of a build its id.
fn shorten_app(app: &mut Value) {
    app["state"]["live"] = app["state"]["live"].as_array().map_or(0, Vec::len).into();
    if app["image"].is_null() {
        app["image"] = format!("build {}", text(&app["build"])).into();
    }
}

pub(super) async fn run(client: &Client, remote: &Remote, command: Run) -> anyhow::Result<ExitCode> {
    match command {
        Run::List { app, of } => {
            let path = app.map_or_else(|| Ok("/api/v1/runs".to_owned()), |app| runs_of(&app))?;
            show_all(remote, client.all(&with(&path, [("owner", of.owner)])?).await?, &RUNS);
        }
        Run::Show { id } => show(remote, &client.call(Method::GET, &path("runs", &id)?, None).await?, &RUN),
        Run::Once { spec, start } => {
            let mut fields = spec::fields(&spec)?;
            fields.extend(start.registry.clone().map(|name| ("registry".to_owned(), name.into())));
            let run = client.call(Method::POST, "/api/v1/containers", Some(&fields.into())).await?;
            return started(client, remote, run, &start).await;
        }
        Run::Logs { id, logs } => self::logs(client, &path("runs", &id)?, &logs).await?,
        Run::Stop { id } => {
            show(remote, &client.wait(Method::POST, &format!("{}/stop", path("runs", &id)?), None).await?, &RUN);
        }
        Run::Rm { id } => remove_at(client, &path("runs", &id)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runs_of(app: &str) -> anyhow::Result<String> {
    Ok(format!("{}/runs", path("apps", app)?))
}

/// Shows a run; with `--wait` as it is when it runs.
///
/// # Errors
/// With `--wait`, when it never ran: the engine's or the registry's words.
async fn started(client: &Client, remote: &Remote, run: Value, start: &Start) -> anyhow::Result<ExitCode> {
    let mut run = run;
    while start.wait && ["pending", "pulling", "starting"].contains(&text(&run["state"]).as_str()) {
        // Comes when the run is over, or after a second.
        run = client.call(Method::GET, &format!("{}?wait=1", path("runs", &text(&run["id"]))?), None).await?;
    }
    show(remote, &run, &RUN);
    if start.wait && run["state"] == "failed" {
        let word = |field: &str| run["error"][field].as_str().unwrap_or("unknown").to_owned();
        bail!("the run has failed: {} ({})", word("message"), word("code"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(client: &Client, remote: &Remote, which: Ps) -> anyhow::Result<ExitCode> {
    let state = (!which.all).then(|| "running".to_owned());
    let path = with("/api/v1/containers", [("state", state), ("app", which.app), ("owner", which.of.owner)])?;
    let mut containers = client.all(&path).await?;
    if !remote.json {
        for container in &mut containers {
            container["id"] = text(&container["id"]).chars().take(12).collect::<String>().into();
            container["ports"] = ports(&container["ports"]);
        }
    }
    show_all(remote, containers, &CONTAINERS);
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

/// One container.
fn show_container(remote: &Remote, mut container: Value) {
    if !remote.json {
        container["ports"] = ports(&container["ports"]);
    }
    show(remote, &container, &CONTAINER);
}

pub(super) async fn inspect(client: &Client, remote: &Remote, name: &str) -> anyhow::Result<ExitCode> {
    show_container(remote, client.call(Method::GET, &path("containers", name)?, None).await?);
    Ok(ExitCode::SUCCESS)
}

/// `start`, `stop`, `restart` or `kill`, with those of its parameters that are said.
pub(super) async fn act<const N: usize>(
    client: &Client,
    remote: &Remote,
    name: &str,
    deed: &str,
    parameters: [(&str, Option<String>); N],
) -> anyhow::Result<ExitCode> {
    let path = with(&format!("{}/{deed}", path("containers", name)?), parameters)?;
    show_container(remote, client.wait(Method::POST, &path, None).await?);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn remove(client: &Client, name: &str, force: bool) -> anyhow::Result<ExitCode> {
    remove_at(client, &with(&path("containers", name)?, [("force", force.then(|| "true".into()))])?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Which container of an app is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    Running,
    OfAll,
}

/// The path of the newest container of the app of this name; else what is named is a container itself.
pub(super) async fn container_of(client: &Client, target: &str, newest: Newest) -> anyhow::Result<String> {
    let Some(found) = client.find(&format!("{}?limit=200", runs_of(target)?)).await? else { return path("containers", target) };
    let runs = found["items"].as_array().context("the service's answer is no list")?;
    let fits = |run: &&Value| run["container_removed"] == false && (newest == Newest::OfAll || run["state"] == "running");
    let container = runs.iter().filter(fits).find_map(|run| run["container"].as_str());
    let none = if newest == Newest::OfAll { "the app has no container" } else { "nothing of the app runs" };
    path("containers", container.with_context(|| format!("{none}: start it with `dockwright app run {target}`"))?)
}

/// The output of a container, or of the newest one of an app.
pub(super) async fn logs_of(client: &Client, target: &str, wanted: &LogPart) -> anyhow::Result<ExitCode> {
    logs(client, &container_of(client, target, Newest::OfAll).await?, wanted).await?;
    Ok(ExitCode::SUCCESS)
}

/// The log of what is at this path: as it is, but to a terminal line by line and without what that would obey.
pub(super) async fn logs(client: &Client, path: &str, logs: &LogPart) -> anyhow::Result<()> {
    let tail = logs.tail.map(|lines| lines.to_string());
    let flag = |said: bool| said.then(|| "true".to_owned());
    let parameters = [("follow", flag(logs.follow)), ("tail", tail), ("timestamps", flag(logs.timestamps))];
    let mut answer = client.follow(&with(&format!("{path}/logs"), parameters)?).await?;
    let to_terminal = stdout().is_terminal();
    let mut unread = Vec::new();
    while let Some(bytes) = answer.chunk().await.context("the log broke off")? {
        unread.extend_from_slice(&bytes);
        let whole =
            if to_terminal { unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) } else { unread.len() };
        let part: Vec<u8> = unread.drain(..whole).collect();
        if !(if to_terminal { put(only_colours(&part).as_bytes()) } else { put(&part) })? {
            return Ok(());
        }
    }
    put(only_colours(&unread).as_bytes())?;
    Ok(())
}

/// Samples as they come, a line each, or one alone.
pub(super) async fn stats(client: &Client, remote: &Remote, target: &str, once: bool) -> anyhow::Result<ExitCode> {
    let path = format!("{}/stats", container_of(client, target, Newest::Running).await?);
    if once {
        show(remote, &client.call(Method::GET, &path, None).await?, &STATS);
        return Ok(ExitCode::SUCCESS);
    }
    let mut samples = client.events(Method::GET, &path, None).await?;
    let mut head = !remote.json;
    while let Some((name, sample)) = samples.next().await? {
        let read = match name.as_str() {
            "stats" => put(sampled(remote, &sample, std::mem::take(&mut head)).as_bytes())?,
            "end" => false,
            _ => true,
        };
        if !read {
            return Ok(ExitCode::SUCCESS);
        }
    }
    bail!("the service has ended the connection");
}

/// A sample as a line, below the names of its fields if it is the first.
fn sampled(remote: &Remote, sample: &Value, head: bool) -> String {
    if remote.json {
        return format!("{}\n", as_json(sample));
    }
    let line = |cell: &dyn Fn(&str) -> String| {
        // A time is longer than its name, and so may a number of bytes be.
        let width = |field: &str| if field == "at" { 24 } else { field.len().max(12) };
        let cells: String = STATS.iter().map(|field| format!("{:<width$}  ", cell(field), width = width(field))).collect();
        format!("{}\n", cells.trim_end())
    };
    let head = if head { line(&|field| field.to_uppercase()) } else { String::new() };
    head + &line(&|field| text(&sample[field]))
}
