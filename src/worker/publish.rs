//! The push stage: every destination of a build; hosts beside each other, the tags of one host one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use futures::{TryStreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::pipeline::{Failure, Job, Success, patiently, write};
use super::{Parts, retry};
use crate::domain::{
    BuildError, BuildId, BuildRecord, Credentials, Destination, DestinationState, Digest, ErrorKind, ImageRef, Landed, PushEnd,
    StageName, Timestamp, WorkerId,
};
use crate::engine::Lines;
use crate::registry::host_credentials::HostLogins;
use crate::registry::{Progress, Settled};
use crate::store::PushTurn;
use crate::store::tag_push::TagPush;

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
    if !carried {
        change(job, index, Destination::begin).await?;
    }
    let outcome = match push_one(job, image, index).await {
        Ok(Pushed::Already) => return Ok(()),
        Ok(pushed) => Ok(pushed),
        Err(Failure::Build(error)) => Err(error),
        Err(other) => return Err(other),
    };
    let outcome = std::sync::Arc::new(outcome);
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
    let written = write(&job.parts, job.record.id, job.fence, move |record, now| {
        change(&mut record.destinations[index], now);
        Ok(())
    });
    written.await.map(drop)
}

fn tell(destination: &mut Destination, progress: Progress) {
    destination.attempts = progress.attempts;
    destination.bytes = progress.bytes;
}

async fn push_one(job: &Job, image: &Digest, index: usize) -> Result<Pushed, Failure> {
    let destination = &job.record.destinations[index].image;
    let credentials = credentials_for(job, destination).await?;
    let turn = PushTurn::take(&job.parts.store, destination, job.worker.as_str()).await;
    let work = async {
        if let Some(younger) = younger_push(job, destination, credentials.as_ref()).await? {
            let by = (younger.owner == job.record.owner).then_some(younger.build);
            job.log.say(format!("{destination} has been pushed by a younger build: it is left as it is")).await;
            return Ok(Pushed::Superseded(by));
        }
        let before = &job.record.destinations[index];
        if before.carried_from.is_some() {
            if retry::still_there(job, before, credentials.as_ref()).await {
                enter(&job.parts, destination, &own_push(&job.record, job.order)).await;
                return Ok(Pushed::Already);
            }
            change(job, index, Destination::begin).await?;
        }
        job.log.say(format!("Pushing to {destination}")).await;
        let (digest, progress) = push_told(job, image, index, credentials.as_ref()).await?;
        enter(&job.parts, destination, &own_push(&job.record, job.order)).await;
        Ok(Pushed::Here(digest, progress))
    };
    tokio::select! {
        done = work => done,
        never = turn.keep() => match never {},
    }
}

/// The younger build that has pushed this tag already. Whether somebody else's has, only those are told who may push there.
async fn younger_push(job: &Job, destination: &ImageRef, own: Option<&Credentials>) -> Result<Option<TagPush>, Failure> {
    let last = patiently(|| job.parts.store.tag_push(destination)).await.map_err(|e| Failure::Away(e.to_string()))?;
    let younger = last.filter(|push| push.order > job.order);
    if younger.as_ref().is_some_and(|push| push.owner != job.record.owner) {
        let asked = job.parts.registry.may_push(destination, own).await;
        asked.map_err(|refusal| super::pipeline::failure(StageName::Push, refusal.error))?;
    }
    Ok(younger)
}

fn own_push(record: &BuildRecord, order: u64) -> TagPush {
    TagPush { order, build: record.id, owner: record.owner.clone() }
}

/// Enters what was pushed. When even patience does not help, the push is true all the same.
async fn enter(parts: &Parts, destination: &ImageRef, push: &TagPush) {
    if let Err(error) = patiently(|| parts.store.enter_tag_push(destination, push)).await {
        tracing::warn!(image = %destination, build = %push.build, %error, "an older build may overwrite this tag");
    }
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
/// the image, because the push was through before, or it may yet.
pub(super) async fn settle_cancelled(
    parts: &Parts,
    record: &BuildRecord,
    order: u64,
    credentials: &[Credentials],
) -> Vec<Landed> {
    let Some(image) = &record.image_id else { return Vec::new() };
    let under_way = record.destinations.iter().enumerate().filter(|(_, d)| d.state == DestinationState::Pushing);
    let looks = under_way.map(|(index, destination)| async move {
        let own = credentials.iter().find(|c| c.host() == destination.image.host());
        let outcome = match parts.publisher.settle_after_cancel(image, &destination.image, own).await {
            Ok(Settled::NotPushed) => return None,
            Ok(Settled::Pushed(digest)) => {
                enter(parts, &destination.image, &own_push(record, order)).await;
                Ok(digest)
            }
            Ok(Settled::Uncertain) => {
                Err("the push had come to the tag when it was cancelled: the registry may still take it".to_owned())
            }
            Err(error) => Err(format!("what the tag names after the cancel is not known: {error}")),
        };
        Some((index, outcome.map_err(uncertain)))
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
async fn credentials_for(job: &Job, destination: &ImageRef) -> Result<Option<Credentials>, Failure> {
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
