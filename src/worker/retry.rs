//! What a build that repeats another takes over from it: the image, where it still stands, and what is pushed already.

use super::pipeline::{Failure, Job, failure};
use crate::domain::{BuildError, BuildRecord, Credentials, Destination, Digest, ErrorKind, StageName, local_tag};

/// The image that the first build made, if it is still on this very engine; from now on it stands under this build's name too.
pub(super) async fn image_of_first(job: &mut Job) -> Result<Option<Digest>, Failure> {
    let fail = |e| failure(StageName::Push, e);
    let Some(first) = job.record.retry_of else { return Ok(None) };
    let engine = &job.parts.engine;
    let there = engine.image_id(&local_tag(first)).await.map_err(fail)?;
    let Some(image) = there.filter(|image| job.record.image_id.as_ref() == Some(image)) else { return Ok(None) };
    // The first build may be deleted at this moment, and its image with it: what counts is what stands under our own name.
    let tagged = engine.tag(&image, &local_tag(job.record.id)).await;
    let ours = engine.image_id(&local_tag(job.record.id)).await.map_err(fail)?;
    if tagged.is_err() || ours.as_ref() != Some(&image) {
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

/// A build whose secrets are erased, or whose context is gone, can only be pushed again.
pub(super) fn may_build(record: &BuildRecord) -> Result<(), Failure> {
    if !record.push_only {
        return Ok(());
    }
    Err(Failure::Build(BuildError {
        stage: StageName::Build,
        kind: ErrorKind::User,
        code: "cannot_build_again".into(),
        message: "the image is not on this engine any more, and what it takes to build it again was erased: send the build anew"
            .into(),
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
