//! DELETE: the file, the record with its log, and the image.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::time::Instant;

use super::{Builds, CANCEL_WAIT};
use crate::auth::Principal;
use crate::domain::{Base, BuildId, BuildRecord, Credentials, DestinationState, Digest, ImageRef, Scope};
use crate::error::{Error, Result};
use crate::store::{Deleted, Guard, ImageRemoval, StoreError, Topic};

/// How long a delete waits for the node to remove the image before it answers `pending`.
const NODE_WAIT: Duration = Duration::from_secs(5);
/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What became of one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Removed,
}

/// What became of one tag at its registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RemoteRemoval {
    pub image: String,
    /// `removed`, `absent`, `moved` (the tag names another digest by now and was left alone), `shared` (the registry
    /// removes only whole manifests, and another tag names this one), or `failed`.
    pub outcome: String,
    /// The registry's words, when it failed.
    pub error: Option<String>,
}

/// The answer to a delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Deletion {
    #[schema(value_type = uuid::Uuid)]
    pub id: BuildId,
    pub context: Part,
    pub record: Part,
    pub image: ImageRemoval,
    /// One entry a destination, when `?remote=true` was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<RemoteRemoval>,
}

/// Tags at registries, and what this process's engine has.
#[async_trait]
pub trait RemoteTags: Send + Sync {
    /// What the tag names; `None` also when nobody can be asked.
    async fn names(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Option<Digest>;
    /// What stands on the engine under this name; `None` also when it is away.
    async fn local(&self, name: &str) -> Option<Digest>;
    /// What images stand for now that a Dockerfile names.
    async fn bases(&self, names: &[String], pull: bool, credentials: &[Credentials]) -> Vec<Base>;
    /// Removes the tag if it still names `digest`.
    async fn remove(&self, image: &ImageRef, digest: &Digest, credentials: Option<&Credentials>) -> RemoteRemoval;
}

impl Builds {
    /// Takes a build away, with all that belongs to it; a live one is cancelled first. `remote` takes the tags at the registries too.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build: also when it is repeated.
    pub async fn delete(&self, caller: &Principal, id: BuildId, remote: bool) -> Result<Deletion> {
        let build = self.to_change(caller, id).await?;
        if !build.record.state.is_terminal() {
            self.stop(caller, id).await?;
            self.end_by_force(&caller.scope(), id).await?;
        }
        let mut moved = self.store.wakes().subscribe(Topic::Build(id));
        let deleted = self.take_out(&caller.scope(), id).await?.ok_or(Error::NotFound("build"))?;
        let remote = if remote { self.remove_remote(&deleted.record).await? } else { Vec::new() };
        let mut image = if deleted.removal.is_some() { ImageRemoval::Pending } else { ImageRemoval::Absent };
        let deadline = Instant::now() + NODE_WAIT;
        while image == ImageRemoval::Pending && Instant::now() < deadline {
            match self.store.removal_outcome(id).await? {
                Some(outcome) => image = outcome,
                None => moved.woken(LOOK_AGAIN).await,
            }
        }
        Ok(Deletion { id, context: Part::Removed, record: Part::Removed, image, remote })
    }

    /// Takes out the record with its log, the file, and leaves the image to its node. `None`: there is no such build in the scope.
    pub(super) async fn take_out(&self, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
        let deleted = self.store.delete(scope, id).await?;
        if deleted.is_some() {
            self.contexts.remove(id).await?;
        }
        Ok(deleted)
    }

    /// Cancels, and gives the worker a moment to stop. A worker that does not answer loses the build by the delete itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build.
    pub async fn stop(&self, caller: &Principal, id: BuildId) -> Result<()> {
        match self.request_cancel(&caller.scope(), id).await {
            Err(Error::Conflict { .. }) => return Ok(()),
            other => other?,
        };
        self.wait(caller, id, CANCEL_WAIT, |build, _| build.record.state.is_terminal()).await?;
        Ok(())
    }

    /// A worker that has not stopped loses the build: it is cancelled all the same, so that its end is told.
    async fn end_by_force(&self, scope: &Scope, id: BuildId) -> Result<()> {
        let cancelled = |record: &mut BuildRecord, now, _| match record.state.is_terminal() {
            true => Ok(()),
            false => record.cancelled(&[], now).map_err(|e| StoreError::Refused(e.to_string())),
        };
        self.store.update(id, &Guard::Scope(scope.clone()), cancelled).await?;
        Ok(())
    }

    /// The credentials that came with the build are gone: its owner's stored ones are shown, where there are any.
    async fn remove_remote(&self, record: &BuildRecord) -> Result<Vec<RemoteRemoval>> {
        let mut outcomes = Vec::new();
        for destination in record.destinations.iter().filter(|d| d.state == DestinationState::Pushed) {
            if let Some(digest) = &destination.digest {
                let own = self.stored_for_host(&record.owner, destination.image.host()).await?;
                outcomes.push(self.remote.remove(&destination.image, digest, own.as_ref()).await);
            }
        }
        Ok(outcomes)
    }
}
