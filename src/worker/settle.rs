//! The end of a claim.

use super::lease::Stop;
use super::pipeline::{Failure, Job, MAX_ATTEMPTS, Success, built_by, write};
use super::sanitize::Redactor;
use super::{Parts, publish};
use crate::domain::{BuildError, BuildId, ErrorKind, StageName, StepState, Timestamp, local_tag};

/// Writes the end of the claim, after the log's last line, and leaves nothing behind in the engine.
pub(super) async fn settle(job: Job, ended: Result<Result<Success, Failure>, Stop>, redactor: &Redactor) {
    let Job { parts, worker, record, fence, credentials, log } = job;
    let id = record.id;
    let ended = match ended {
        Ok(Err(Failure::Lost)) => Err(Stop::Lost),
        Ok(Err(Failure::Away(why))) if record.attempt < MAX_ATTEMPTS => {
            log.say(format!("{why}. The build goes back to the queue.")).await;
            Err(Stop::HandBack)
        }
        Ok(Err(Failure::Away(why))) => Ok(Err(engine_gone(record.current_stage(), &why))),
        Ok(Err(Failure::Build(error))) => Ok(Err(BuildError { message: redactor.clean(&error.message).into_owned(), ..error })),
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
        let _ = write(&parts, id, fence, move |record, _| {
            record.steps.clone_from(&steps);
            Ok(())
        })
        .await;
    }
    let keeps_image = match &ended {
        Ok(Ok(_)) => true,
        Ok(Err(_)) | Err(Stop::HandBack) => record.image_id.is_some(),
        Err(Stop::Cancelled | Stop::Lost) => false,
    };
    if !keeps_image && !matches!(ended, Err(Stop::Lost)) {
        forget_image(&parts, id).await;
    }
    let settled = match ended {
        Ok(Ok(Success::Published)) => write(&parts, id, fence, |record, now| record.published(now)).await.map(drop),
        Ok(Ok(Success::Built(built))) => {
            write(&parts, id, fence, move |record, now| built_by(record, &built, &worker, now)).await.map(drop)
        }
        Ok(Err(error)) => write(&parts, id, fence, move |record, now| record.failed(error.clone(), now)).await.map(drop),
        Err(Stop::Cancelled) => {
            let landed = publish::settle_cancelled(&parts, &record, &credentials).await;
            write(&parts, id, fence, move |record, now| record.cancelled(&landed, now)).await.map(drop)
        }
        Err(Stop::HandBack) => {
            write(&parts, id, fence, |record, _| record.requeued("The worker stopped. The build waits for another one."))
                .await
                .map(drop)
        }
        Err(Stop::Lost) => Err(Failure::Lost),
    };
    if settled.is_err() {
        forget_if_deleted(&parts, id).await;
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
