//! Whose tag it is: one build pushes to a destination at a time, and in the end the younger one's image is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Parts;
use super::pipeline::{Failure, Job, failure, patiently};
use crate::domain::{BuildError, BuildRecord, Credentials, Digest, ErrorKind, ImageRef, StageName, WorkerId};
use crate::registry::Settled;
use crate::store::tag_push::TagPush;
use crate::store::{PushTurn, Store};

/// The turns that a build has, by the index of the destination. They outlast a push that is dropped: until it is known what came of
/// that, nobody else may push.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<usize, Arc<PushTurn>>>);

impl Turns {
    pub(super) async fn take(&self, store: &Store, index: usize, destination: &ImageRef, worker: &WorkerId) -> Arc<PushTurn> {
        let turn = Arc::new(PushTurn::take(store, destination, worker.as_str()).await);
        self.held().insert(index, Arc::clone(&turn));
        turn
    }

    /// Gives it back.
    pub(super) fn end(&self, index: usize) {
        self.held().remove(&index);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<PushTurn>>> {
        self.0.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

/// Whether a push of this build without a turn may have come to the tag: one that lost its turn, or of an attempt that was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    None,
    Perhaps,
}

/// The younger build that has pushed this tag already. Whether somebody else's has, only those are told who may push there.
pub(super) async fn younger_push(
    job: &Job,
    destination: &ImageRef,
    own: Option<&Credentials>,
) -> Result<Option<TagPush>, Failure> {
    let last = patiently(|| job.parts.store.tag_push(destination)).await.map_err(|e| Failure::Away(e.to_string()))?;
    let younger = last.filter(|push| push.order > job.age);
    if younger.as_ref().is_some_and(|push| push.owner != job.record.owner) {
        let asked = job.parts.registry.may_push(destination, own).await;
        asked.map_err(|refusal| failure(StageName::Push, refusal.error))?;
    }
    Ok(younger)
}

pub(super) fn own_push(record: &BuildRecord, age: u64, digest: &Digest) -> TagPush {
    TagPush { order: age, build: record.id, owner: record.owner.clone(), digest: Some(digest.clone()) }
}

/// Enters what was pushed, and answers a younger push that is known: then this one should not have been. When even patience does not
/// help, the push is true all the same.
pub(super) async fn enter(parts: &Parts, destination: &ImageRef, push: TagPush) -> Option<TagPush> {
    match patiently(|| parts.store.enter_tag_push(destination, &push)).await {
        Ok(younger) => younger,
        Err(error) => {
            tracing::warn!(image = %destination, build = %push.build, %error, "an older build may overwrite this tag");
            None
        }
    }
}

/// Waits until a push that was dropped has stopped.
pub(super) async fn stop(parts: &Parts, image: &Digest, destination: &ImageRef, own: Option<&Credentials>) {
    match parts.publisher.settle_after_cancel(image, destination, own).await {
        Ok(Settled::Pushed(_) | Settled::NotPushed) => {}
        Ok(Settled::Uncertain) => tracing::warn!(image = %destination, "the registry may still take an older build's push"),
        Err(error) => tracing::debug!(image = %destination, %error, "what a stopped push came to is looked at in its next turn"),
    }
}

/// [`put_back`] in a turn of its own, for a build that has lost its.
///
/// # Errors
/// As [`put_back`].
pub(super) async fn leave(
    parts: &Parts,
    record: &BuildRecord,
    image: &Digest,
    destination: &ImageRef,
    own: Option<&Credentials>,
) -> Result<(), BuildError> {
    let _turn = PushTurn::take(&parts.store, destination, &record.id.to_string()).await;
    match patiently(|| parts.store.tag_push(destination)).await {
        Ok(Some(youngest)) => put_back(parts, image, destination, &youngest, own).await,
        _ => Ok(()),
    }
}

/// Lets the tag name the younger build's image again, if this build's has come there.
///
/// # Errors
/// `tag_overwritten`, when it names this build's and cannot be put back, or perhaps does.
pub(super) async fn put_back(
    parts: &Parts,
    image: &Digest,
    destination: &ImageRef,
    younger: &TagPush,
    own: Option<&Credentials>,
) -> Result<(), BuildError> {
    let overwritten = |why: String| {
        tracing::error!(image = %destination, build = %younger.build, %why, "an older build has overwritten a younger one's tag");
        let message = format!("{destination} was published by a younger build, and may name this older one's image now: {why}");
        let (stage, kind, code) = (StageName::Push, ErrorKind::Registry, "tag_overwritten".into());
        BuildError { stage, kind, code, message, dockerfile_line: None }
    };
    let named = parts.registry.manifest(destination, own).await.map_err(|refusal| overwritten(refusal.to_string()))?;
    let Some(ours) = named.filter(|named| named.digest == *image || named.config.as_ref() == Some(image)) else { return Ok(()) };
    match &younger.digest {
        Some(digest) if *digest == ours.digest => Ok(()),
        Some(digest) => {
            parts.registry.put_back(destination, digest, own).await.map_err(|refusal| overwritten(refusal.to_string()))
        }
        None => Err(overwritten("what the younger one has pushed is not known".into())),
    }
}
