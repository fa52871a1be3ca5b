//! Builds beside `dockwright build`: `ps`, `logs`, `inspect` and `rm` know them beside containers, `cancel` ends one.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;

use super::build::{Line, News, Patience, Steps, Told, feed};
use super::commands::Remote;
use super::container_commands::{LogPart, Ps};
use super::remote::{path, with};
use super::show::{only_colours, put, show, show_all};
use super::{containers, say};
use crate::client::{Client, Refused};
use crate::domain::BuildState;

/// Most builds of a list.
const NEWEST: usize = 100;
const LIST: [&str; 5] = ["id", "state", "image", "project", "created_at"];
const BUILD: [&str; 25] = [
    "id",
    "owner",
    "state",
    "message",
    "queue.position",
    "queue.waits_for",
    "queue.detail",
    "queue.estimate_seconds",
    "attempt",
    "destinations",
    "image_id",
    "size_bytes",
    "builder",
    "context.kind",
    "context.bytes",
    "options.project",
    "error.code",
    "error.message",
    "retry_of",
    "superseded_by",
    "joined_to",
    "result",
    "created_at",
    "started_at",
    "finished_at",
];
const REMOVED: [&str; 4] = ["id", "context", "record", "image"];

/// The build with this id, if it can be one, is there, and this token may see builds.
async fn find(client: &Client, id: &str) -> anyhow::Result<Option<Value>> {
    if uuid::Uuid::try_parse(id).is_err() {
        return Ok(None);
    }
    match client.find(&path("builds", id)?).await {
        Err(error) if is_forbidden(&error) => Ok(None),
        found => found,
    }
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 403)
}

/// Says of what is neither that it is neither.
fn neither<T>(tried: anyhow::Result<T>, name: &str) -> anyhow::Result<T> {
    tried.map_err(|error| {
        let unknown = error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404);
        if unknown { error.context(format!("{name} is no container and no build of yours")) } else { error }
    })
}

pub(super) async fn ps(client: &Client, remote: &Remote, which: Ps) -> anyhow::Result<ExitCode> {
    if which.builds || which.state.is_some() {
        let owner = which.of.owner;
        let found = match which.state {
            Some(state) => in_state(client, Some(state), owner).await?,
            None if which.all => in_state(client, None, owner).await?,
            None => live(client, owner).await?,
        };
        list(remote, found);
        return Ok(ExitCode::SUCCESS);
    }
    let beside = !remote.json && which.app.is_none();
    let owner = which.of.owner.clone();
    containers::list(client, remote, which).await?;
    if beside {
        match live(client, owner).await {
            Ok(found) if !found.is_empty() => {
                say("\n");
                list(remote, found);
            }
            Err(error) if !is_forbidden(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(remote: &Remote, mut builds: Vec<Value>) {
    if !remote.json {
        for build in &mut builds {
            build["image"] = build["destinations"][0]["image"].clone();
            build["project"] = build["options"]["project"].clone();
        }
    }
    show_all(remote, builds, &LIST);
}

/// The newest builds, of all states or of one.
async fn in_state(client: &Client, state: Option<String>, owner: Option<String>) -> anyhow::Result<Vec<Value>> {
    let path = with("/api/v1/builds", [("state", state), ("owner", owner)])?;
    let (mut newest, _) = client.page(&path, "").await?;
    newest.truncate(NEWEST);
    Ok(newest)
}

/// Builds under way, newest first. Asked for in the order in which a build goes on, so that none slips through.
async fn live(client: &Client, owner: Option<String>) -> anyhow::Result<Vec<Value>> {
    let mut found: Vec<Value> = Vec::new();
    for state in BuildState::ALL.into_iter().filter(|state| !state.is_terminal()) {
        let path = with("/api/v1/builds", [("state", Some(state.as_str().to_owned())), ("owner", owner.clone())])?;
        let more = client.all(&path).await?;
        found.retain(|build| more.iter().all(|later| later["id"] != build["id"]));
        found.extend(more);
    }
    // Ids begin with the time.
    found.sort_by(|one, other| other["id"].as_str().cmp(&one["id"].as_str()));
    Ok(found)
}

pub(super) async fn inspect(client: &Client, remote: &Remote, name: &str) -> anyhow::Result<ExitCode> {
    match find(client, name).await? {
        Some(build) => show(remote, &build, &BUILD),
        None => return neither(containers::inspect(client, remote, name).await, name),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn cancel(client: &Client, remote: &Remote, id: &str) -> anyhow::Result<ExitCode> {
    let build = client.call(Method::POST, &format!("{}/cancel", path("builds", id)?), None).await?;
    show(remote, &build, &["id", "state", "message", "cancel_requested"]);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rm(client: &Client, remote: &Remote, name: &str, force: bool, tags: bool) -> anyhow::Result<ExitCode> {
    let Some(build) = find(client, name).await? else {
        if tags {
            bail!("{name} is no build: only builds have tags at a registry");
        }
        return neither(containers::remove(client, name, force).await, name);
    };
    if !force && build["finished_at"].is_null() {
        bail!("the build is under way: cancel it first, or remove it with --force");
    }
    let path = with(&path("builds", name)?, [("remote", tags.then(|| "true".into()))])?;
    let removed = client.wait(Method::DELETE, &path, None).await?;
    show(remote, &removed, &REMOVED);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn logs(client: &Client, target: &str, wanted: &LogPart, step: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(build) = find(client, target).await? else {
        if step.is_some() {
            bail!("{target} is no build: only builds have steps");
        }
        return neither(containers::logs_of(client, target, wanted).await, target);
    };
    let of_build = path("builds", target)?;
    if step.is_none() && !wanted.follow && !wanted.timestamps {
        containers::logs(client, &of_build, wanted).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let counted = if build["finished_at"].is_null() { count(client, &of_build).await? } else { u64::MAX };
    let from = Part { wanted, step, there: counted };
    from.show(client, target).await?;
    Ok(ExitCode::SUCCESS)
}

/// Lines of a log that are there now.
async fn count(client: &Client, of_build: &str) -> anyhow::Result<u64> {
    let mut log = client.follow(&format!("{of_build}/logs")).await?;
    let mut lines = 0;
    while let Some(chunk) = log.chunk().await.context("the log broke off")? {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    Ok(lines)
}

/// Which lines of a build's log.
struct Part<'a> {
    wanted: &'a LogPart,
    step: Option<&'a str>,
    /// So many lines were there when it was asked for.
    there: u64,
}

impl Part<'_> {
    async fn show(&self, client: &Client, id: &str) -> anyhow::Result<()> {
        // The last lines of a step are not among the last lines of all.
        let all = self.step.is_some() || !self.wanted.follow;
        let mut events = Box::pin(feed(client, id, self.wanted.tail.filter(|_| !all), Patience::default()));
        let (mut steps, mut seen, mut held) = (Steps::default(), 0, VecDeque::new());
        while seen < self.there || self.wanted.follow {
            let Some(event) = events.next().await.transpose()? else { break };
            let Told::Line(line) = event else { continue };
            seen += 1;
            if self.is_of_step(&mut steps, &line) {
                held.push_back(line);
            }
            let most = self.wanted.tail.filter(|_| all && seen <= self.there);
            if let Some(most) = most {
                held.drain(..held.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX)));
            }
            if (most.is_none() || seen == self.there) && !self.print(&mut held)? {
                return Ok(());
            }
        }
        self.print(&mut held)?;
        Ok(())
    }

    fn is_of_step(&self, steps: &mut Steps, line: &Line) -> bool {
        let Some(wanted) = self.step else { return true };
        let at = match steps.hear(line) {
            News::Began(at) | News::Ended(at) | News::Moved(at) | News::Wrote(at, _) => at,
            News::Words => return false,
        };
        let step = steps.get(at);
        match wanted.strip_prefix('#').unwrap_or(wanted).parse::<usize>() {
            Ok(number) => step.number == number,
            Err(_) => step.name.contains(wanted),
        }
    }

    /// False when nobody reads any more.
    fn print(&self, held: &mut VecDeque<Line>) -> anyhow::Result<bool> {
        for line in held.drain(..) {
            let at = if self.wanted.timestamps { format!("{} ", line.at) } else { String::new() };
            let line = format!("{at}{}\n", line.text);
            let shown = if stdout().is_terminal() { only_colours(line.as_bytes()) } else { line };
            if !put(shown.as_bytes())? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
