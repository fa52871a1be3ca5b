//! The image of a build out of a registry that it was pushed to: where it was made it is gone, or this is another node.

use std::time::Duration;

use tokio::sync::mpsc;

use super::pipeline::{Failure, Job, failure};
use super::publish::credentials_for;
use crate::domain::{BuildError, Credentials, Digest, ErrorKind, RunImage, StageName, local_tag};
use crate::engine::{ContainerEngine, EngineError};

/// A pull that says nothing for so long is given up: engines wait for ever for a registry that hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// The very image that was pushed before, which from now on stands under this build's name; none when no registry has it.
///
/// A build that has pushed its image itself can have no other: it ends as `image_lost` when none gives it back.
pub(super) async fn from_registry(job: &mut Job) -> Result<Option<Digest>, Failure> {
    let Some(image) = job.record.image_id.clone() else { return Ok(None) };
    let pushed =
        |(to, digest): (&crate::domain::Destination, &Digest)| RunImage { image: to.image.clone(), digest: Some(digest.clone()) };
    let places: Vec<RunImage> = job.record.pushed().map(pushed).collect();
    let mut refused = Vec::new();
    for place in places {
        match fetch(job, &image, &place).await {
            Ok(()) => {
                job.write(|record, _| {
                    record.built_before();
                    Ok(())
                })
                .await?;
                return Ok(Some(image));
            }
            Err(Failure::Build(error)) => refused.push(format!("{}: {}", place.reference(), error.message)),
            Err(other) => return Err(other),
        }
    }
    if job.record.has_pushed() {
        return Err(Failure::Build(image_lost(&refused)));
    }
    for why in refused {
        job.log.say(format!("The image could not be fetched from {why}")).await;
    }
    Ok(None)
}

async fn fetch(job: &Job, image: &Digest, place: &RunImage) -> Result<(), Failure> {
    let fail = |e| failure(StageName::Push, e);
    let own = credentials_for(job, &place.image).await?;
    let (engine, name) = (&*job.parts.engine, place.reference());
    let was_here = engine.image_id(&name).await.map_err(fail)?.is_some();
    if engine.image_id(image.as_str()).await.map_err(fail)?.is_none() {
        job.log.say(format!("The image is not on this engine: fetching it from {name}")).await;
        pull(engine, &name, own.as_ref()).await.map_err(fail)?;
    }
    let tagged = engine.tag(image, &local_tag(job.record.id)).await;
    // The engine's names are everybody's: this one would let others read what these credentials brought.
    if !was_here && let Err(error) = engine.untag(&name).await {
        tracing::warn!(image = name, %error, "a name that an image was fetched by stays on the engine");
    }
    tagged.map_err(fail)
}

async fn pull(engine: &dyn ContainerEngine, name: &str, own: Option<&Credentials>) -> Result<(), EngineError> {
    let (sender, mut told) = mpsc::channel(64);
    let mut pulling = engine.pull(name, own, sender);
    loop {
        tokio::select! {
            pulled = &mut pulling => return pulled,
            Some(_) = told.recv() => {}
            // Begins anew with each word.
            () = tokio::time::sleep(SILENCE) => {
                let message = format!("the registry has sent nothing for {} s: the pull was given up", SILENCE.as_secs());
                let (kind, code) = (ErrorKind::Registry, "registry_timeout");
                return Err(EngineError { kind, code, message, dockerfile_line: None, transient: true });
            }
        }
    }
}

fn image_lost(refused: &[String]) -> BuildError {
    let told = "the image is gone from the engine, and no registry that has it gives it back; a build that has pushed an image makes no \
                other one: repeat it, or send it anew";
    BuildError {
        stage: StageName::Push,
        kind: ErrorKind::Infra,
        code: "image_lost".into(),
        message: format!("{told}\n{}", refused.join("\n")),
        dockerfile_line: None,
    }
}
