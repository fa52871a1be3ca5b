//! The end of a claim.

use super::lease::Stop;
use super::pipeline::{Failure, Job, MAX_ATTEMPTS, Success, built_by};
use super::{Parts, publish};
use crate::domain::{BuildError, BuildId, BuildRecord, BuildState, ErrorKind, Scope, StageName, StepState, Timestamp, local_tag};

/// Writes the end of the claim, after the log's last line, and leaves nothing behind in the engine.
pub(super) async fn settle(job: Job, ended: Result<Result<Success, Failure>, Stop>) {
    let Job { parts, worker, record, pen, age, turns, credentials, log, .. } = job;
    let id = record.id;
    let ended = match ended {
        Ok(Err(Failure::Lost)) => Err(Stop::Lost),
        Ok(Err(Failure::Away(why))) if record.attempt < MAX_ATTEMPTS => {
            log.say(format!("{why}. The build goes back to the queue.")).await;
            Err(Stop::HandBack)
        }
        Ok(Err(Failure::Away(why))) => Ok(Err(engine_gone(record.current_stage(), &why))),
        Ok(Err(Failure::Build(error))) => Ok(Err(error)),
        Ok(Ok(success)) => Ok(Ok(success)),
        Err(stop) => Err(stop),
    };
    if matches!(ended, Err(Stop::Cancelled)) {
        log.say("Cancelled").await;
    }
    let state = match &ended {
        Ok(Ok(_)) => StepState::Done,
        Ok(Err(_)) => StepState::Failed,
        Err(_) => StepState::Cancelled,
    };
    let steps = log.flush().await.ended(state, Timestamp::now());
    if !steps.is_empty() && !matches!(ended, Err(Stop::Lost)) {
        // Refused only when the claim is lost, which the next write is told as well.
        let _ = pen
            .write(move |record, _| {
                record.steps.clone_from(&steps);
                Ok(())
            })
            .await;
    }
    let keeps_image = match &ended {
        Ok(Ok(Success::Superseded(_))) => false,
        Ok(Ok(_)) => true,
        Ok(Err(_)) | Err(Stop::HandBack) => record.image_id.is_some(),
        Err(Stop::Cancelled | Stop::Lost) => false,
    };
    // Whoever slept through the lease may find the work failed before the loss: by now the image may be another worker's.
    if !keeps_image && !matches!(ended, Err(Stop::Lost)) && pen.holds(parts.settings.lease).await {
        forget_image(&parts, id).await;
    }
    let settled = match ended {
        Ok(Ok(Success::Published)) => pen.write(|record, now| record.published(now)).await,
        Ok(Ok(Success::Superseded(by))) => pen.write(move |record, now| record.superseded(by, now)).await,
        Ok(Ok(Success::Built(built))) => pen.write(move |record, now| built_by(record, &built, &worker, now)).await,
        Ok(Err(error)) => pen.write(move |record, now| record.failed(error.clone(), now)).await,
        Err(Stop::Cancelled) => {
            // Destinations write for themselves: the copy here may not know of the newest push.
            let now = parts.store.get(&Scope::All, id).await.ok().flatten().map_or(record, |stored| stored.record);
            let landed = publish::settle_cancelled(&parts, &now, age, &credentials).await;
            pen.write(move |record, now| record.cancelled(&landed, now)).await
        }
        Err(Stop::HandBack) => {
            pen.write(|record, _| record.requeued("The worker stopped. The build waits for another one.")).await
        }
        Err(Stop::Lost) => Err(Failure::Lost),
    };
    // What was pushing when it was stopped has settled: others may.
    drop(turns);
    match settled {
        Ok(record) => remember_duration(&parts, &record).await,
        Err(_) => forget_if_deleted(&parts, id).await,
    }
}

/// For the estimates of the builds to come.
async fn remember_duration(parts: &Parts, record: &BuildRecord) {
    let ended = record.started_at.zip(record.finished_at).filter(|_| record.error.is_none());
    // One that was only pushed tells nothing of builds.
    let whole = record.state != BuildState::Cancelled && record.stages.first().is_some_and(|stage| stage.started_at.is_some());
    let Some((started, finished)) = ended.filter(|_| whole) else { return };
    let added = parts.store.add_duration(&record.owner, &record.spec.project, finished.since(started)).await;
    if let Err(error) = added {
        tracing::debug!(build = %record.id, %error, "how long it took is not remembered");
    }
}

/// Takes our tag, and the image with it, out of the engine.
async fn forget_image(parts: &Parts, id: BuildId) {
    match parts.engine.untag(&local_tag(id)).await {
        Ok(_) => parts.ledger.strike(id),
        Err(error) => tracing::warn!(build = %id, %error, "the image stays until the janitor comes"),
    }
}

/// A build that was deleted under our hands may have left its image; one that another worker has is that worker's.
async fn forget_if_deleted(parts: &Parts, id: BuildId) {
    match parts.store.existing(&[id]).await {
        Ok(found) if found.is_empty() => forget_image(parts, id).await,
        Ok(_) => tracing::info!(build = %id, "another worker has this build now"),
        Err(error) => tracing::warn!(build = %id, %error, "whether the build still exists is not known; the janitor will look"),
    }
}

fn engine_gone(stage: StageName, message: &str) -> BuildError {
    BuildError {
        stage,
        kind: ErrorKind::Engine,
        code: "engine_unavailable".into(),
        message: message.into(),
        dockerfile_line: None,
    }
}
