//! The push stage: every destination of a build, one after the other.

use super::Parts;
use super::pipeline::{Failure, Job};
use crate::domain::{
    BuildError, BuildRecord, Credentials, DestinationState, Digest, ErrorKind, ImageRef, Landed, StageName, WorkerId,
};
use crate::registry::Settled;
use crate::registry::host_credentials::HostLogins;
use crate::store::PushTurn;

/// Pushes the image to every destination that does not have it yet.
/// One destination that fails does not keep the others from being tried.
pub(super) async fn publish(job: &mut Job, image: &Digest) -> Result<(), Failure> {
    let mut first_error = None;
    for index in 0..job.record.destinations.len() {
        if job.record.destinations[index].state == DestinationState::Pushed {
            continue;
        }
        let destination = job.record.destinations[index].image.clone();
        job.write(move |record, _| {
            record.destinations[index].state = DestinationState::Pushing;
            Ok(())
        })
        .await?;
        let pushed = push_one(job, image, &destination).await;
        if let Err(Failure::Build(error)) = &pushed {
            first_error.get_or_insert_with(|| error.clone());
        }
        let outcome = match pushed {
            Ok(digest) => Ok(digest),
            Err(Failure::Build(error)) => Err(error),
            Err(other) => return Err(other),
        };
        job.write(move |record, _| {
            let destination = &mut record.destinations[index];
            match &outcome {
                Ok(digest) => {
                    destination.state = DestinationState::Pushed;
                    destination.digest = Some(digest.clone());
                    destination.error = None;
                }
                Err(error) => {
                    destination.state = DestinationState::Failed;
                    destination.error = Some(error.clone());
                }
            }
            Ok(())
        })
        .await?;
    }
    match first_error {
        Some(error) => Err(Failure::Build(error)),
        None => Ok(()),
    }
}

async fn push_one(job: &Job, image: &Digest, destination: &ImageRef) -> Result<Digest, Failure> {
    let credentials = credentials_for(job, destination).await?;
    let lock = PushTurn::take(&job.parts.store, destination, job.worker.as_str()).await;
    job.log.say(format!("Pushing to {destination}")).await;
    let lines = job.log.lines();
    let pushing = job.parts.publisher.publish(image, destination, credentials.as_ref(), &lines);
    let pushed = tokio::select! {
        pushed = pushing => pushed,
        never = lock.keep() => match never {},
    };
    drop(lock);
    pushed.map_err(|error| super::pipeline::failure(StageName::Push, error))
}

/// After a push was dropped by a cancel: waits until it has stopped, and tells what is true of the destinations all the same: the tag names
/// the image, because the push was through before, or it may yet.
pub(super) async fn settle_cancelled(parts: &Parts, record: &BuildRecord, credentials: &[Credentials]) -> Vec<Landed> {
    let mut landed = Vec::new();
    let Some(image) = &record.image_id else { return landed };
    let under_way = record.destinations.iter().enumerate().filter(|(_, d)| d.state == DestinationState::Pushing);
    for (index, destination) in under_way {
        let own = credentials.iter().find(|c| c.host() == destination.image.host());
        let outcome = match parts.publisher.settle_after_cancel(image, &destination.image, own).await {
            Ok(Settled::NotPushed) => continue,
            Ok(Settled::Pushed(digest)) => Ok(digest),
            Ok(Settled::Uncertain) => {
                Err("the push had come to the tag when it was cancelled: the registry may still take it".to_owned())
            }
            Err(error) => Err(format!("what the tag names after the cancel is not known: {error}")),
        };
        landed.push((index, outcome.map_err(uncertain)));
    }
    landed
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
