//! What can be done with builds: the rules of submitting, reading, cancelling and deleting them.

mod contexts;
mod delete;
mod dockerfile_rules;
mod entrusted;
mod git;
mod log;
mod options;
mod quota;
mod registries;
mod retention;
mod retry;
mod same;
mod steps;
mod submit;
mod waiting;

use std::time::Duration;

use tokio::time::Instant;

use crate::auth::Principal;
use crate::context::git::{GitSettings, GitSources};
use crate::context::storage::ContextStorage;
use crate::domain::quantity::{Bytes, Cpus, Span};
use crate::domain::{BuildId, Owner, RetentionRule, Scope};
use crate::error::{Error, Result};
use crate::store::{Guard, ListQuery, Page, Store, Stored, Topic};

pub use contexts::{Coding, MANIFEST_BYTES, Manifest};
pub use delete::{Deletion, Part, RemoteRemoval, RemoteTags};
pub use entrusted::SecretPart;
pub use log::{LogRange, follow, tail_start};
pub use options::{PartKind, TextPart};
pub use retention::{ManyDeleted, Selection};
pub use same::Submitted;
pub use steps::{StepInFile, step_name, steps};
pub use submit::Draft;
pub use waiting::{WORKER_SEEN, Waiting, WaitsFor};

/// How long a cancel waits for the worker's word that everything has stopped, before it answers that it is still under way.
const CANCEL_WAIT: Duration = Duration::from_secs(5);
/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The bounds that an operator sets on builds.
#[derive(Debug, Clone)]
pub struct Policy {
    pub max_upload: Bytes,
    pub max_context: Bytes,
    pub max_entries: u64,
    pub build_timeout: Span,
    pub max_build_timeout: Span,
    pub max_memory: Bytes,
    pub max_cpus: Cpus,
    pub min_free_disk: Bytes,
    /// For owners that have no rule of their own.
    pub retention: RetentionRule,
    pub git: GitSettings,
}

/// The use-cases of builds, over one store and one storage of contexts.
pub struct Builds {
    pub(crate) store: Store,
    pub(crate) contexts: ContextStorage,
    pub(crate) vault: std::sync::Arc<crate::vault::Vault>,
    pub(crate) remote: std::sync::Arc<dyn RemoteTags>,
    git: std::sync::Arc<GitSources>,
    folded_logs: steps::FoldedLogs,
    pub policy: Policy,
}

/// What a filter of the list may say.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub owner: Option<Owner>,
    pub state: Option<crate::domain::BuildState>,
    pub image: Option<crate::store::ImageFilter>,
    pub before: Option<BuildId>,
    pub limit: usize,
}

impl Builds {
    #[must_use]
    pub fn new(
        store: Store,
        contexts: ContextStorage,
        vault: std::sync::Arc<crate::vault::Vault>,
        remote: std::sync::Arc<dyn RemoteTags>,
        policy: Policy,
    ) -> Self {
        let git = std::sync::Arc::new(GitSources::new(policy.git.clone()));
        Self { store, contexts, vault, remote, git, folded_logs: steps::FoldedLogs::default(), policy }
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    #[must_use]
    pub fn vault(&self) -> &crate::vault::Vault {
        &self.vault
    }

    #[must_use]
    pub fn contexts(&self) -> &ContextStorage {
        &self.contexts
    }

    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build.
    pub async fn get(&self, caller: &Principal, id: BuildId) -> Result<Stored> {
        self.store.get(&caller.scope(), id).await?.ok_or(Error::NotFound("build"))
    }

    /// A build that the caller is about to change.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build; [`Error::Forbidden`] `image_not_allowed` when it has a destination
    /// that is none of those that the caller is limited to.
    pub async fn to_change(&self, caller: &Principal, id: BuildId) -> Result<Stored> {
        let build = self.get(caller, id).await?;
        match caller.foreign_image(&build.record.spec.images) {
            None => Ok(build),
            Some(image) => {
                let detail = format!("{image} is not among the destinations of this token");
                Err(Error::Forbidden { code: "image_not_allowed", detail })
            }
        }
    }

    /// How many builds go before this one, while it waits.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn position(&self, build: &Stored) -> Result<Option<u64>> {
        if build.record.state == crate::domain::BuildState::Queued {
            Ok(self.store.position(build.record.id).await?)
        } else {
            Ok(None)
        }
    }

    /// The [`Builds::position`] of each.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn positions(&self, builds: &[Stored]) -> Result<Vec<Option<u64>>> {
        let queued = |build: &&Stored| build.record.state == crate::domain::BuildState::Queued;
        let ids: Vec<BuildId> = builds.iter().filter(queued).map(|build| build.record.id).collect();
        if ids.is_empty() {
            return Ok(vec![None; builds.len()]);
        }
        let mut positions = self.store.positions(&ids).await?.into_iter();
        Ok(builds.iter().map(|build| if queued(&build) { positions.next().flatten() } else { None }).collect())
    }

    /// # Errors
    /// When the store cannot be asked.
    pub async fn list(&self, caller: &Principal, filter: Filter) -> Result<Page> {
        let Filter { owner, state, image, before, limit } = filter;
        Ok(self.store.list(&ListQuery { scope: caller.scope(), owner, state, image, before, limit }).await?)
    }

    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build.
    pub async fn dockerfile(&self, caller: &Principal, id: BuildId) -> Result<Vec<u8>> {
        self.store.dockerfile(&caller.scope(), id).await?.ok_or(Error::NotFound("build"))
    }

    async fn placed(&self, caller: &Principal, id: BuildId) -> Result<(Stored, Option<u64>)> {
        self.store.get_placed(&caller.scope(), id).await?.ok_or(Error::NotFound("build"))
    }

    /// Waits until `done` holds for the build, or `limit` has passed, and answers the build as it then is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build, or it was deleted meanwhile.
    pub async fn wait(
        &self,
        caller: &Principal,
        id: BuildId,
        limit: Duration,
        done: impl Fn(&Stored, Option<u64>) -> bool,
    ) -> Result<(Stored, Option<u64>)> {
        if limit.is_zero() {
            return self.placed(caller, id).await;
        }
        let deadline = Instant::now() + limit;
        let mut build_moved = self.store.wakes().subscribe(Topic::Build(id));
        let mut queue_moved = self.store.wakes().subscribe(Topic::Queue);
        loop {
            let (build, position) = self.placed(caller, id).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || done(&build, position) {
                return Ok((build, position));
            }
            let nap = LOOK_AGAIN.min(left);
            if position.is_some() {
                tokio::select! { () = build_moved.woken(nap) => {} () = queue_moved.woken(nap) => {} }
            } else {
                build_moved.woken(nap).await;
            }
        }
    }

    /// Asks for a build to stop and waits for the worker's word that it has: after the answer, unless it says that the
    /// cancel is still under way, nothing moves any more. Repeatable.
    ///
    /// # Errors
    /// [`Error::Conflict`] `already_finished` when the build ended otherwise; [`Error::NotFound`].
    pub async fn cancel(&self, caller: &Principal, id: BuildId) -> Result<Stored> {
        self.to_change(caller, id).await?;
        let asked = self.request_cancel(&caller.scope(), id).await?;
        if asked.record.state.is_terminal() {
            return Ok(asked);
        }
        Ok(self.wait(caller, id, CANCEL_WAIT, |build, _| build.record.state.is_terminal()).await?.0)
    }

    async fn request_cancel(&self, scope: &Scope, id: BuildId) -> Result<Stored> {
        let asked = self
            .store
            .update(id, &Guard::Scope(scope.clone()), |record, now, leased| {
                if record.state == crate::domain::BuildState::Cancelled {
                    return Ok(());
                }
                if record.state.is_terminal() {
                    return Err(crate::store::StoreError::Refused(format!(
                        "the build has ended already: it is {}",
                        record.state.as_str()
                    )));
                }
                if leased {
                    record.cancel_requested = true;
                    return Ok(());
                }
                record.cancelled(&[], now).map_err(|e| crate::store::StoreError::Refused(e.to_string()))
            })
            .await?;
        asked.ok_or(Error::NotFound("build"))
    }
}
