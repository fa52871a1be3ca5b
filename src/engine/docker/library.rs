//! Images that containers run from: pulled, looked up, listed.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Docker;
use super::build::Query;
use super::calls::{reference_part, request};
use super::errors::{Doing, Refused, sort};
use super::push::registry_auth;
use super::stream::{Message, Messages};
use super::summaries::happened;
use crate::domain::{Credentials, Digest, ErrorKind, Healthcheck, RunImage, Timestamp};
use crate::engine::containers::{EngineImage, Library, PullProgress};
use crate::engine::image_config::ImageConfig;
use crate::engine::{EngineError, Pass, Result};

/// Tag and digest of an image that has none.
const NONE: &str = "<none>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image<Created> {
    id: Digest,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    size: i64,
    created: Option<Created>,
}

#[async_trait]
impl Library for Docker {
    async fn pull(&self, reference: &str, credentials: Option<&Credentials>, progress: mpsc::Sender<PullProgress>) -> Result<()> {
        let image: RunImage = reference.parse().map_err(|e| invalid(reference, &e))?;
        let mut query = Query::default();
        query.add("fromImage", &image.image.repository());
        // Without one the engine pulls all tags there are.
        query.add("tag", image.digest.as_ref().map_or(image.image.tag(), Digest::as_str));
        let mut http = request(Method::POST, &format!("/images/create?{}", query.0), None)?;
        http.headers_mut()
            .insert("x-registry-auth", registry_auth(&image.image, credentials.cloned().map(Pass::Password).as_ref()));
        let messages = Messages::new(self.transport.send_ok(http, Doing::Pull).await?);
        follow(messages, progress).await
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>> {
        let found = self.find::<Image<String>>(&format!("/images/{}/json", reference_part(reference))).await?;
        Ok(found.map(|image| described(image, |created: String| happened(&created))))
    }

    async fn images(&self) -> Result<Vec<EngineImage>> {
        let all: Result<Vec<Image<i64>>, Refused> = self.get("/images/json").await;
        let seconds = |created: i64| Some(Timestamp::from_millis(created.saturating_mul(1000)));
        Ok(all?.into_iter().map(|image| described(image, seconds)).collect())
    }

    async fn image_config(&self, id: &Digest) -> Result<Option<ImageConfig>> {
        let found = self.find::<Inspected>(&format!("/images/{}/json", reference_part(id.as_str()))).await?;
        Ok(found.map(|image| {
            let Config { labels, working_dir, healthcheck } = image.config.unwrap_or_default();
            ImageConfig {
                labels: labels.unwrap_or_default().into_keys().collect(),
                workdir: working_dir.unwrap_or_default(),
                healthcheck: healthcheck.and_then(Check::read),
            }
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    config: Option<Config>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    working_dir: Option<String>,
    healthcheck: Option<Check>,
}

/// Times in nanoseconds; 0 is the engine's own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    retries: i64,
}

impl Check {
    fn read(self) -> Option<Healthcheck> {
        // Something is something, however little: what is less than nothing, too.
        let millis = |nanos: i64| (nanos != 0).then(|| nanos.max(1).unsigned_abs().div_ceil(1_000_000));
        Some(Healthcheck {
            test: self.test.filter(|test| !test.is_empty())?,
            interval_ms: millis(self.interval),
            timeout_ms: millis(self.timeout),
            start_period_ms: millis(self.start_period),
            retries: (self.retries != 0).then(|| u32::try_from(self.retries.max(1)).unwrap_or(u32::MAX)),
        })
    }
}

fn described<Created>(image: Image<Created>, read: impl FnOnce(Created) -> Option<Timestamp>) -> EngineImage {
    let real = |names: Option<Vec<String>>| names.unwrap_or_default().into_iter().filter(|name| !name.contains(NONE)).collect();
    EngineImage {
        id: image.id,
        tags: real(image.repo_tags),
        digests: real(image.repo_digests),
        size_bytes: u64::try_from(image.size).unwrap_or_default(),
        // One that does not say when it was made (as reproducible ones do) is of the epoch.
        created_at: image.created.and_then(read).unwrap_or(Timestamp::from_millis(0)),
    }
}

/// Reads the pull to its end, whether anybody listens or not. A slow listener gets the newest of each layer.
async fn follow(mut messages: Messages, progress: mpsc::Sender<PullProgress>) -> Result<()> {
    let mut pending = VecDeque::new();
    let mut listens = true;
    loop {
        tokio::select! {
            permit = progress.reserve(), if listens && !pending.is_empty() => match (permit, pending.pop_front()) {
                (Ok(permit), Some(newest)) => permit.send(newest),
                _ => listens = false,
            },
            message = messages.next() => match message? {
                Some(message) => {
                    if let Some(failure) = message.failure() {
                        return Err(sort(Doing::Pull, None, failure));
                    }
                    note(&mut pending, message);
                }
                None => break,
            },
        }
    }
    // What fits: the pull is done, and its end is not held up.
    for last in pending {
        if progress.try_send(last).is_err() {
            break;
        }
    }
    Ok(())
}

fn note(pending: &mut VecDeque<PullProgress>, message: Message) {
    let Some(status) = message.status else { return };
    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let bytes = message.progress.and_then(|at| positive(at.current).zip(positive(at.total).filter(|total| *total > 0)));
    let newest = PullProgress { layer: message.id.unwrap_or_default(), status, bytes };
    match pending.iter_mut().find(|older| older.layer == newest.layer && !newest.layer.is_empty()) {
        Some(older) => *older = newest,
        None => pending.push_back(newest),
    }
}

fn invalid(reference: &str, why: &impl std::fmt::Display) -> EngineError {
    EngineError {
        kind: ErrorKind::User,
        code: "image_invalid",
        message: format!("{reference:?} is no image: it {why}"),
        dockerfile_line: None,
        transient: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_gets_the_newest_of_each_layer() {
        let mut pending = VecDeque::new();
        for (layer, status) in [("a", "Waiting"), ("b", "Waiting"), ("a", "Pull complete"), ("", "Digest: x"), ("", "Status: y")]
        {
            let message = Message { id: Some(layer.into()), status: Some(status.into()), ..Message::default() };
            note(&mut pending, message);
        }
        let left: Vec<_> = pending.iter().map(|one| (one.layer.as_str(), one.status.as_str())).collect();
        assert_eq!(left, [("a", "Pull complete"), ("b", "Waiting"), ("", "Digest: x"), ("", "Status: y")]);
    }
}
