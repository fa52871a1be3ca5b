//! `dockwright build`: what is here goes to the service, and what the service does is shown here.
//!
//! ```text
//! request      the form: options, secrets, credentials     upload   the context, as a stream
//! pieces       of the context only what is not there yet    hashes   what it is made of, remembered
//! feed         the build's events, resumed where they broke off
//! steps        what the events say of the steps             plain, live, quiet   how it is shown
//! fate         how it ended: exit code, files, last words
//! ```

mod credentials;
mod fate;
mod feed;
mod hashes;
mod live;
mod pieces;
mod plain;
mod quiet;
mod request;
mod show;
mod steps;
mod upload;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::build_commands::{Build, Progress, Retry};
use super::commands::Remote;
use super::remote::path;
use super::show::text;
use super::terminal::Ends;
use super::{complain, say, told};
use crate::client::{Client, Refused};
use show::{How, Show};

pub(super) use feed::{Line, Told, feed};
pub(super) use steps::{News, Steps};

/// How often what is shown may change.
const FRAME: Duration = Duration::from_millis(100);
/// How long an interrupted command waits for the id of a build that was sent whole: it has to be cancelled.
const ANSWER: Duration = Duration::from_secs(10);

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
    let mut shown = show::of(how(remote, wanted.quiet || wanted.detach, wanted.progress));
    let request = request::of(client, wanted, &mut *shown).await?;
    let accepted = match submit(client, request, &mut *shown, &mut ends).await? {
        Ok(accepted) => accepted,
        Err(left) => return Ok(left),
    };
    shown.submitted(&accepted);
    if wanted.detach {
        shown.end(&accepted);
        detached(remote, &accepted);
        return Ok(ExitCode::SUCCESS);
    }
    let (last, interrupted) = match follow(client, &text(&accepted["id"]), &mut *shown, &mut ends).await? {
        Ok(ended) => ended,
        Err(left) => return Ok(left),
    };
    results.write(&last)?;
    Ok(fate::tell(&last, interrupted, !remote.json, wanted.quiet))
}

pub(super) async fn retry(client: &Client, remote: &Remote, wanted: &Retry) -> anyhow::Result<ExitCode> {
    let of = path("builds", &wanted.id)?;
    client.call(Method::GET, &of, None).await?;
    let again = client.call(Method::POST, &format!("{of}/retry"), None).await.map_err(|error| {
        let unknown = error.downcast_ref::<Refused>().is_some_and(|refused| [404, 405].contains(&refused.status));
        if unknown { error.context("this service cannot build something again by itself") } else { error }
    })?;
    if !wanted.follow {
        detached(remote, &again);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = show::of(how(remote, false, wanted.progress));
    shown.submitted(&again);
    match follow(client, &text(&again["id"]), &mut *shown, &mut Ends::new()?).await? {
        Ok((last, interrupted)) => Ok(fate::tell(&last, interrupted, !remote.json, false)),
        Err(left) => Ok(left),
    }
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

/// Sends it. An exit code instead of the build when the caller did not want to wait for it.
async fn submit(
    client: &Client,
    request: request::Request,
    shown: &mut dyn Show,
    ends: &mut Ends,
) -> anyhow::Result<Result<Value, ExitCode>> {
    let request::Request { form, sent, pieces } = request;
    let mut answer = Box::pin(async {
        let form = match pieces {
            Some(tree) => pieces::send(client, form, tree, &sent).await?,
            None => form,
        };
        client.upload("/api/v1/builds", form, &sent.key).await
    });
    let mut frame = interval(FRAME);
    frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = &mut answer => return match accepted {
                Ok(build) => Ok(Ok(build)),
                Err(error) => Err(sent.fault().unwrap_or(error)),
            },
            _ = frame.tick() => shown.uploading(sent.bytes(), sent.total()),
            number = ends.next() => {
                if sent.is_whole() && let Ok(Ok(build)) = timeout(ANSWER, &mut answer).await {
                    cancel(client, &text(&build["id"])).await?;
                }
                shown.leave("interrupted; nothing is built");
                return Ok(Err(ExitCode::from(128 + number)));
            }
        }
    }
}

async fn cancel(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.call(Method::POST, &format!("{}/cancel", path("builds", id)?), None).await
}

/// Shows the build until it ends: it as it is then, and the number of the signal that ended it. An exit code when the caller left.
async fn follow(
    client: &Client,
    id: &str,
    shown: &mut dyn Show,
    ends: &mut Ends,
) -> anyhow::Result<Result<(Value, Option<u8>), ExitCode>> {
    let mut events = Box::pin(feed(client, id, None));
    let mut frame = interval(FRAME);
    frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interrupted = None;
    let mut cancelling = None;
    loop {
        let cancelled = async {
            match &mut cancelling {
                Some(cancelling) => std::pin::Pin::as_mut(cancelling).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Told::Line(line))) => shown.line(&line),
                Some(Ok(Told::State(build))) => shown.state(&build),
                Some(Ok(Told::Away)) => shown.note("the service does not answer; the build goes on, and is shown again when it does"),
                Some(Err(error)) => {
                    shown.leave("");
                    return Err(error).context(format!("nothing more is heard of the build; see it with: dockwright logs -f {id}"));
                }
                None => break,
            },
            _ = frame.tick() => shown.frame(Instant::now()),
            number = ends.next() => {
                if interrupted.replace(number).is_some() {
                    shown.leave(&format!("left; see the build with: dockwright inspect {id}"));
                    return Ok(Err(ExitCode::from(128 + number)));
                }
                shown.note("cancelling the build; once more leaves at once");
                cancelling = Some(Box::pin(cancel(client, id)));
            }
            done = cancelled => {
                cancelling = None;
                if let Err(error) = done {
                    shown.note(&format!("the build could not be cancelled: {error:#}"));
                }
            }
        }
    }
    let last = client.call(Method::GET, &path("builds", id)?, None).await?;
    shown.end(&last);
    Ok(Ok((last, interrupted)))
}
