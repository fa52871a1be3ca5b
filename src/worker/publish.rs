//! The push stage: every destination of a build; hosts beside each other, the tags of one host one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{TryStreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::pipeline::{Failure, Job, Success};
use super::tag::{self, Stray};
use super::{Parts, retry};
use crate::domain::{
    BuildError, BuildId, BuildRecord, Credentials, Destination, DestinationState, Digest, ErrorKind, ImageRef, Landed, PushEnd,
    StageName, Timestamp, WorkerId,
};
use crate::engine::Lines;
use crate::registry::host_credentials::HostLogins;
use crate::registry::{Progress, Settled};
use crate::store::PushTurn;

/// Registries that one build pushes to at the same time.
const HOSTS_AT_ONCE: usize = 4;
/// Progress is written at most this often, and then each time a twentieth of the time has passed again: every change of a record is
/// also an event of the build.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What became of one destination.
enum Pushed {
    /// With how the last try went.
    Here(Digest, Progress),
    /// By the build that this one repeats, and it is still there.
    Already,
    /// A younger build has the tag; it is named when it is the same owner's.
    Superseded(Option<BuildId>),
}

/// Pushes the image to every destination that does not have it yet, unless a younger build has its tag.
/// One destination that fails does not keep the others from being tried.
pub(super) async fn publish(job: &mut Job, image: &Digest) -> Result<Success, Failure> {
    let mut hosts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, destination) in job.record.destinations.iter().enumerate() {
        hosts.entry(destination.image.host()).or_default().push(index);
    }
    let this = &*job;
    let pushing = stream::iter(hosts.into_values().map(Ok)).try_for_each_concurrent(HOSTS_AT_ONCE, |indexes| async move {
        stream::iter(indexes.into_iter().map(Ok)).try_for_each(|index| bring(this, image, index)).await
    });
    pushing.await?;
    // Each has written for itself: the copy here is read anew.
    job.write(|_, _| Ok(())).await?;
    match job.record.push_end() {
        PushEnd::Published => Ok(Success::Published),
        PushEnd::Superseded(by) => Ok(Success::Superseded(by)),
        PushEnd::Failed(error) => Err(Failure::Build(error)),
    }
}

/// Sees to one destination, whatever is left to do there. Fails only when the whole job has to stop.
async fn bring(job: &Job, image: &Digest, index: usize) -> Result<(), Failure> {
    let before = &job.record.destinations[index];
    let carried = before.carried_from.is_some();
    if matches!(before.state, DestinationState::Pushed if !carried) || before.state == DestinationState::Superseded {
        return Ok(());
    }
    let outcome = match push_one(job, image, index).await {
        Ok(Pushed::Already) => return Ok(()),
        Ok(pushed) => Ok(pushed),
        Err(Failure::Build(error)) => Err(error),
        Err(other) => return Err(other),
    };
    let outcome = Arc::new(outcome);
    change(job, index, move |destination, now| match &*outcome {
        Ok(Pushed::Here(digest, progress)) => {
            tell(destination, *progress);
            destination.pushed(digest.clone(), now);
        }
        Ok(Pushed::Superseded(by)) => destination.superseded(*by, now),
        Ok(Pushed::Already) => {}
        Err(error) => destination.failed(error.clone(), now),
    })
    .await
}

/// Changes one destination in the record.
async fn change<F>(job: &Job, index: usize, change: F) -> Result<(), Failure>
where
    F: Fn(&mut Destination, Timestamp) + Clone + Send + Sync + 'static,
{
    let written = job.pen.write(move |record, now| {
        change(&mut record.destinations[index], now);
        Ok(())
    });
    written.await.map(drop)
}

fn tell(destination: &mut Destination, progress: Progress) {
    destination.attempts = progress.attempts;
    destination.bytes = progress.bytes;
}

/// Pushes in this destination's turn. When the turn is lost, another may have pushed meanwhile: stops, and looks again.
async fn push_one(job: &Job, image: &Digest, index: usize) -> Result<Pushed, Failure> {
    let destination = &job.record.destinations[index].image;
    let own = credentials_for(job, destination).await?;
    let mut stray = if job.record.attempt > 1 { Stray::Perhaps } else { Stray::None };
    loop {
        let turn = turn_for(job, index, destination).await;
        let done = tokio::select! {
            done = push_in_turn(job, image, index, own.as_ref(), stray) => done,
            () = turn.lost() => Ok(None),
        };
        if matches!(done, Ok(None)) {
            job.log.say(format!("The turn to push to {destination} was lost: this push stops and looks again")).await;
            tag::stop(&job.parts, image, destination, own.as_ref()).await;
        }
        job.turns.end(index);
        match done? {
            Some(pushed) => return Ok(pushed),
            None => stray = Stray::Perhaps,
        }
    }
}

/// The turn to push there. Who has to wait for it is told so; whose push it waits for may be nobody's business.
async fn turn_for(job: &Job, index: usize, destination: &ImageRef) -> Arc<PushTurn> {
    let taking = job.turns.take(&job.parts.store, index, destination, &job.worker);
    tokio::pin!(taking);
    match tokio::time::timeout(TOLD_EVERY, &mut taking).await {
        Ok(turn) => turn,
        Err(_) => {
            job.log.say(format!("Waiting for another push of {destination} to end")).await;
            taking.await
        }
    }
}

/// `None` when a younger build has pushed while this one did.
async fn push_in_turn(
    job: &Job,
    image: &Digest,
    index: usize,
    own: Option<&Credentials>,
    stray: Stray,
) -> Result<Option<Pushed>, Failure> {
    let before = &job.record.destinations[index];
    let destination = &before.image;
    if let Some(younger) = tag::younger_push(job, destination, own).await? {
        if stray == Stray::Perhaps {
            tag::put_back(&job.parts, image, destination, &younger, own).await.map_err(Failure::Build)?;
        }
        let by = (younger.owner == job.record.owner).then_some(younger.build);
        job.log.say(format!("{destination} has been pushed by a younger build: it is left as it is")).await;
        if job.record.repeats_order.is_some() {
            job.log.say("A retry with force=true pushes there all the same").await;
        }
        return Ok(Some(Pushed::Superseded(by)));
    }
    if let (Some(_), Some(digest)) = (before.carried_from, &before.digest)
        && retry::still_there(job, before, own).await
    {
        let younger = tag::enter(&job.parts, destination, tag::own_push(&job.record, job.age, digest)).await;
        return Ok(younger.is_none().then_some(Pushed::Already));
    }
    change(job, index, Destination::begin).await?;
    job.log.say(format!("Pushing to {destination}")).await;
    let (digest, progress) = push_told(job, image, index, own).await?;
    let younger = tag::enter(&job.parts, destination, tag::own_push(&job.record, job.age, &digest)).await;
    Ok(younger.is_none().then_some(Pushed::Here(digest, progress)))
}

/// Pushes, and writes how far it is.
async fn push_told(
    job: &Job,
    image: &Digest,
    index: usize,
    credentials: Option<&Credentials>,
) -> Result<(Digest, Progress), Failure> {
    let destination = &job.record.destinations[index].image;
    let (progress, seen) = watch::channel(Progress::default());
    let pushing = with_step(job, destination, |lines| {
        let (publisher, progress) = (&job.parts.publisher, &progress);
        async move { publisher.publish_told(image, destination, credentials, &lines, progress).await }
    });
    let pushed = tokio::select! {
        pushed = pushing => pushed,
        failed = tell_all(job, index, seen) => return Err(failed),
    };
    let last = *progress.borrow();
    match pushed {
        Ok(digest) => Ok((digest, last)),
        Err(error) => {
            change(job, index, move |destination, _| tell(destination, last)).await?;
            Err(super::pipeline::failure(StageName::Push, error))
        }
    }
}

/// The lines of pushes that go on at the same time bear the name of their destination as their step.
async fn with_step<T, F: Future<Output = T>>(job: &Job, destination: &ImageRef, push: impl FnOnce(Lines) -> F) -> T {
    if job.record.destinations.len() == 1 {
        return push(job.log.lines()).await;
    }
    let (own, mut told) = mpsc::channel(32);
    let (step, lines) = (format!("push {destination}"), job.log.lines());
    let forward = async {
        while let Some(line) = told.recv().await {
            // Nobody reads any more: the push goes on all the same.
            let _ = lines.send(crate::domain::LogLine { step: Some(step.clone()), ..line }).await;
        }
    };
    tokio::join!(push(own), forward).0
}

/// Writes the progress for as long as it is polled; comes back only when the record cannot be written any more.
async fn tell_all(job: &Job, index: usize, mut seen: watch::Receiver<Progress>) -> Failure {
    let began = Instant::now();
    loop {
        tokio::time::sleep(TOLD_EVERY.max(began.elapsed() / 20)).await;
        if seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let progress = *seen.borrow_and_update();
        if let Err(failed) = change(job, index, move |destination, _| tell(destination, progress)).await {
            return failed;
        }
    }
}

/// After a push was dropped by a cancel: waits until it has stopped, and tells what is true of the destinations all the same: the tag names
/// the image, because the push was through before, or it may yet. Nobody else pushes there meanwhile, for the turns are still held.
pub(super) async fn settle_cancelled(parts: &Parts, record: &BuildRecord, age: u64, credentials: &[Credentials]) -> Vec<Landed> {
    let Some(image) = &record.image_id else { return Vec::new() };
    let under_way = record.destinations.iter().enumerate().filter(|(_, d)| d.state == DestinationState::Pushing);
    let looks = under_way.map(|(index, destination)| async move {
        let destination = &destination.image;
        let own = credentials.iter().find(|c| c.host() == destination.host());
        let outcome = match parts.publisher.settle_after_cancel(image, destination, own).await {
            Ok(Settled::NotPushed) => return None,
            Ok(Settled::Pushed(digest)) => match tag::enter(parts, destination, tag::own_push(record, age, &digest)).await {
                None => Ok(digest),
                Some(_) => Err(tag::leave(parts, record, image, destination, own).await.err()?),
            },
            Ok(Settled::Uncertain) => {
                Err(uncertain("the push had come to the tag when it was cancelled: the registry may still take it".to_owned()))
            }
            Err(error) => Err(uncertain(format!("what the tag names after the cancel is not known: {error}"))),
        };
        Some((index, outcome))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

fn uncertain(message: String) -> BuildError {
    BuildError {
        stage: StageName::Push,
        kind: ErrorKind::Registry,
        code: "push_uncertain".into(),
        message,
        dockerfile_line: None,
    }
}

/// Gives back the local names that a killed process had borrowed for its pushes. False when it has to be tried again.
pub(super) async fn recover_once(parts: &Parts, worker: &WorkerId) -> bool {
    let Ok(interrupted) = parts.publisher.interrupted().await else { return false };
    for destination in interrupted {
        let _turn = PushTurn::take(&parts.store, &destination, worker.as_str()).await;
        if let Err(error) = parts.publisher.recover(&destination).await {
            tracing::warn!(image = %destination, %error, "a local name is still borrowed");
            return false;
        }
    }
    true
}

/// Those that came with the build for its host; else, where the operator allows it, the host's own.
pub(super) async fn credentials_for(job: &Job, destination: &ImageRef) -> Result<Option<Credentials>, Failure> {
    if !job.credentials.is_empty() {
        return Ok(job.credentials.iter().find(|c| c.host() == destination.host()).cloned());
    }
    if !job.parts.settings.host_credentials {
        return Ok(None);
    }
    let found = match HostLogins::of_this_host() {
        Some(logins) => logins.find(destination.host()).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(found)) => {
            job.pen.redactor().learn(&found);
            job.log.say(format!("Using the host's own login for {} (user {})", destination.host(), found.username())).await;
            Ok(Some(found))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(Failure::Build(BuildError {
            stage: StageName::Push,
            kind: ErrorKind::Auth,
            code: "host_credentials".into(),
            message: format!("the host's own login for {} cannot be used: {error}", destination.host()),
            dockerfile_line: None,
        })),
    }
}
