//! What a build that repeats another takes over from it: the image, where it still stands, and what is pushed already.

use super::pipeline::{Failure, Job, failure};
use crate::domain::{BuildError, BuildId, BuildRecord, Credentials, Destination, Digest, ErrorKind, StageName, local_tag};

/// The image that the first build made, if it is still on this very engine; from now on it stands under this build's name too.
pub(super) async fn image_of_first(job: &mut Job) -> Result<Option<Digest>, Failure> {
    let Some((first, image)) = job.record.retry_of.zip(job.record.image_id.clone()) else { return Ok(None) };
    if !adopt(job, first, &image).await? {
        return Ok(None);
    }
    job.log.say(format!("The image of build {first} is still here: only what is missing is pushed")).await;
    job.write(|record, _| {
        record.built_before();
        Ok(())
    })
    .await?;
    Ok(Some(image))
}

/// Gives the image of build `first` this build's name too, if it still stands under that one's on this very engine.
pub(super) async fn adopt(job: &Job, first: BuildId, image: &Digest) -> Result<bool, Failure> {
    let (engine, own) = (&job.parts.engine, local_tag(job.record.id));
    let find = async |name: &str| engine.image_id(name).await.map_err(|e| failure(StageName::Push, e));
    if find(&local_tag(first)).await?.as_ref() != Some(image) {
        return Ok(false);
    }
    // The first build may be deleted at this moment, and its image with it: what counts is what stands under our own name.
    let tagged = engine.tag(image, &own).await;
    Ok(tagged.is_ok() && find(&own).await?.as_ref() == Some(image))
}

/// A build whose secrets are erased, or whose context is gone, can only be pushed again.
pub(super) fn may_build(record: &BuildRecord) -> Result<(), Failure> {
    if !record.push_only {
        return Ok(());
    }
    let elsewhere = record.bound_to.as_ref().filter(|node| record.node.as_ref() != Some(*node));
    let message = match elsewhere.zip(record.retry_of) {
        Some((node, first)) => format!("the image is on node {node}, which is away: repeat build {first} when that is back"),
        None => {
            "the image is not on this engine any more, and what it takes to build it again was erased: send the build anew".into()
        }
    };
    Err(Failure::Build(BuildError {
        stage: StageName::Build,
        kind: ErrorKind::User,
        code: "cannot_build_again".into(),
        message,
        dockerfile_line: None,
    }))
}

/// Whether a destination that the first build pushed to still names its digest; what cannot be asked is pushed again.
pub(super) async fn still_there(job: &Job, destination: &Destination, own: Option<&Credentials>) -> bool {
    let named = job.parts.registry.manifest(&destination.image, own).await.ok().flatten();
    let same = named.is_some_and(|manifest| Some(&manifest.digest) == destination.digest.as_ref());
    if same {
        job.log.say(format!("{} still has the image: nothing to push there", destination.image)).await;
    }
    same
}
