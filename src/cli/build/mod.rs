//! `dockwright build`: what is here goes to the service, and what the service does is shown here.
//!
//! ```text
//! request      the form: options, secrets, credentials     upload   the context, as a stream
//! pieces       of the context only what is not there yet    hashes   what it is made of, remembered
//! send         until the service has accepted it            again    once more, when it is away or busy
//! listing      its manifest, or what has changed of it      listed   how both are remembered
//! feed         the build's events, resumed where they broke off
//! steps        what the events say of the steps             plain, live, quiet   how it is shown
//! fate         how it ended: exit code, files, last words
//! ```

mod again;
mod credentials;
mod fate;
mod feed;
mod hashes;
mod listed;
mod listing;
mod live;
mod pieces;
mod plain;
mod quiet;
mod request;
mod send;
mod show;
mod steps;
mod upload;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::build_commands::{Build, Progress, Retry};
use super::commands::Remote;
use super::remote::path;
use super::show::text;
use super::terminal::Ends;
use super::{complain, say, told};
use crate::client::{Client, Refused};
use request::Parts;
use show::{How, Show};

pub(super) use again::Patience;
pub(super) use feed::{Line, Told, feed};
pub(super) use steps::{News, Steps};

/// How often what is shown may change.
const FRAME: Duration = Duration::from_millis(100);
/// How often a build that waits is asked why.
const LOOK: Duration = Duration::from_secs(2);

/// The exit code of what was tried; an error is told here.
pub(super) fn ended(tried: anyhow::Result<ExitCode>) -> ExitCode {
    tried.unwrap_or_else(|error| {
        complain(&told(&error));
        ExitCode::from(fate::of_error(&error))
    })
}

pub(super) async fn build(client: &Client, remote: &Remote, wanted: &Build) -> anyhow::Result<ExitCode> {
    let results = fate::Results::prepare(wanted)?;
    let mut ends = Ends::new()?;
    let patience = Patience::with_retries(wanted.patience.map(|span| span.0));
    let mut shown = show::of(how(remote, wanted.quiet || wanted.detach, wanted.progress));
    let request = tokio::select! {
        request = request::of(client, wanted, &mut *shown) => request?,
        number = ends.next() => return Ok(send::nothing_sent(&mut *shown, number)),
    };
    let accepted = match send::submit(client, request, &patience, &mut *shown, &mut ends).await? {
        Ok(accepted) => accepted,
        Err(left) => return Ok(left),
    };
    shown.submitted(&accepted);
    if wanted.detach {
        shown.end(&accepted);
        detached(remote, &accepted);
        return Ok(ExitCode::SUCCESS);
    }
    let (last, interrupted) = match follow(client, &accepted, &patience, &mut *shown, &mut ends).await? {
        Ok(ended) => ended,
        Err(left) => return Ok(left),
    };
    results.write(&last)?;
    Ok(fate::tell(&last, interrupted, !remote.json, wanted.quiet))
}

pub(super) async fn retry(client: &Client, remote: &Remote, wanted: &Retry) -> anyhow::Result<ExitCode> {
    let mut ends = Ends::new()?;
    let patience = Patience::with_retries(wanted.patience.map(|span| span.0));
    let mut shown = show::of(how(remote, !wanted.follow, wanted.progress));
    let again = tokio::select! {
        again = repeat(client, wanted, &patience, &mut *shown) => again?,
        number = ends.next() => return Ok(ExitCode::from(128 + number)),
    };
    if !wanted.follow {
        detached(remote, &again);
        return Ok(ExitCode::SUCCESS);
    }
    shown.submitted(&again);
    match follow(client, &again, &patience, &mut *shown, &mut ends).await? {
        Ok((last, interrupted)) => Ok(fate::tell(&last, interrupted, !remote.json, false)),
        Err(left) => Ok(left),
    }
}

/// A new build of the same inputs; with the caller's own login for what is not published yet, which the service has not kept.
async fn repeat(client: &Client, wanted: &Retry, patience: &Patience, shown: &mut dyn Show) -> anyhow::Result<Value> {
    let of = path("builds", &wanted.id)?;
    let first = client.call(Method::GET, &of, None).await?;
    let images = fate::missing(&first);
    let mut parts = wanted.registries.iter().fold(Parts::default(), |parts, name| parts.text("registry", name));
    if wanted.force {
        parts = parts.text("force", "true");
    }
    let mut parts = request::entrusted(&wanted.entrusted, parts).await?;
    let named: Vec<String> = wanted.registries.iter().cloned().chain(names(&first["options"]["registries"])).collect();
    if !credentials::are_kept(client, &named, &images).await
        && let Some(login) = credentials::of_docker(client, &images, shown).await
    {
        parts = parts.text("username", login.username()).text("password", login.expose_password());
    }
    let (to, key) = (format!("{of}/retry"), uuid::Uuid::new_v4().to_string());
    let once = async || client.post_once(&to, parts.form_if_any(), &key).await;
    again::again(patience, |error| complain(&told(error)), once).await.map_err(|error| {
        let unknown = error.downcast_ref::<Refused>().is_some_and(|refused| [404, 405].contains(&refused.status));
        if unknown { error.context("this service cannot build something again by itself") } else { error }
    })
}

fn names(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned))
}

fn how(remote: &Remote, quiet: bool, progress: Progress) -> How {
    match (remote.json, quiet, progress) {
        (true, false, _) => How::Json,
        (_, true, _) => How::Quiet,
        (.., Progress::Tty) => How::Live,
        (.., Progress::Plain) => How::Plain,
        (.., Progress::Auto) => How::of_this_terminal(),
    }
}

fn detached(remote: &Remote, build: &Value) {
    let line = if remote.json { super::show::json(build) } else { text(&build["id"]) };
    say(&format!("{line}\n"));
}

async fn cancel(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.call(Method::POST, &format!("{}/cancel", path("builds", id)?), None).await
}

/// Shows the build until it ends: it as it is then, and the number of the signal that ended it. An exit code when the caller left.
async fn follow(
    client: &Client,
    accepted: &Value,
    patience: &Patience,
    shown: &mut dyn Show,
    ends: &mut Ends,
) -> anyhow::Result<Result<(Value, Option<u8>), ExitCode>> {
    let id = text(&accepted["id"]);
    let of = path("builds", &id)?;
    let mut events = Box::pin(feed(client, &id, None, *patience));
    let (mut frame, mut look) = (interval(FRAME), interval_at(Instant::now() + LOOK, LOOK));
    frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut queued = accepted["state"] == "queued";
    let (mut interrupted, mut cancelling, mut asked) = (None, None, None);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Told::Line(line))) => shown.line(&line),
                Some(Ok(Told::State(build))) => {
                    queued = build["state"] == "queued";
                    shown.state(&build);
                }
                Some(Ok(Told::Away)) => shown.note("the service does not answer; the build goes on, and is shown again when it does"),
                Some(Err(error)) => {
                    shown.leave("");
                    return Err(error).context(format!("nothing more is heard of the build; see it with: dockwright logs -f {id}"));
                }
                None => break,
            },
            _ = frame.tick() => shown.frame(Instant::now()),
            _ = look.tick(), if queued && asked.is_none() => asked = Some(Box::pin(client.call(Method::GET, &of, None))),
            now = done(&mut asked) => if let Ok(now) = now && now["state"] == "queued" {
                shown.waits(&now);
            },
            number = ends.next() => {
                if interrupted.replace(number).is_some() {
                    shown.leave(&format!("left; see the build with: dockwright inspect {id}"));
                    return Ok(Err(ExitCode::from(128 + number)));
                }
                shown.note("cancelling the build; once more leaves at once");
                cancelling = Some(Box::pin(cancel(client, &id)));
            }
            cancelled = done(&mut cancelling) => match cancelled {
                Err(error) if !send::is_over(&error) => shown.note(&format!("the build could not be cancelled: {error:#}")),
                _ => {}
            }
        }
    }
    let last = again::again(patience, |_| (), async || client.call(Method::GET, &of, None).await).await?;
    shown.end(&last);
    Ok(Ok((last, interrupted)))
}

/// What comes of something that may not have been begun: never, before.
async fn done<T>(begun: &mut Option<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    let Some(future) = begun else { return std::future::pending().await };
    let came = future.await;
    *begun = None;
    came
}
