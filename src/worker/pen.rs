//! The one way in which a worker writes a build's record.

use std::time::Duration;

use super::pipeline::{Failure, internal};
use super::redact::Redactor;
use crate::domain::{BuildId, BuildRecord, Fence, IllegalTransition, StageName, Timestamp};
use crate::store::{Claim, Guard, Renewal, Store, StoreError};

/// How soon a store that is away is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Writes under one claim's fence. What engines and registries are quoted with is cleaned of the build's secrets on the way: some of
/// them say back what they were sent.
#[derive(Clone)]
pub(super) struct Pen {
    store: Store,
    id: BuildId,
    fence: Fence,
    redactor: Redactor,
}

impl Pen {
    pub fn new(store: Store, id: BuildId, fence: Fence, redactor: Redactor) -> Self {
        Self { store, id, fence, redactor }
    }

    /// What it leaves out.
    pub const fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Whether the claim is still this worker's; if so, it is for another lease. While the store is away, it is asked again.
    pub async fn holds(&self, lease: Duration) -> bool {
        loop {
            match self.store.renew(self.id, self.fence, lease).await {
                Ok(renewal) => return renewal != Renewal::Lost,
                Err(error) => tracing::debug!(build = %self.id, %error, "whose the build is cannot be asked"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Changes the record. While the store is away, it is tried again.
    pub async fn write<F>(&self, change: F) -> Result<BuildRecord, Failure>
    where
        F: Fn(&mut BuildRecord, Timestamp) -> Result<(), IllegalTransition> + Clone + Send + Sync + 'static,
    {
        let mut pause = Duration::from_millis(100);
        let guard = Guard::Lease(self.fence);
        loop {
            let (change, redactor) = (change.clone(), self.redactor.clone());
            let written = self.store.update(self.id, &guard, move |record, now, _| {
                change(record, now).map_err(|e| StoreError::Refused(e.to_string()))?;
                redactor.clean_errors(record);
                Ok(())
            });
            match written.await {
                Ok(Some(stored)) => return Ok(stored.record),
                Ok(None) | Err(StoreError::Lost) => return Err(Failure::Lost),
                Err(StoreError::Unavailable(why)) => {
                    tracing::warn!(build = %self.id, %why, "the store is away: the build waits to write");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(StoreError::Full) => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(error) => {
                    tracing::error!(build = %self.id, %error, "a change of the record was refused");
                    return Err(Failure::Build(internal(StageName::Build, "the record could not be changed")));
                }
            }
        }
    }
}

/// Gives a claim back before any work on it: the build has lost workers before, and others run beside it here.
pub(super) async fn hand_back(store: &Store, claim: &Claim) {
    let why = "Workers were lost with this build. It waits until it can be built alone.";
    let pen = Pen::new(store.clone(), claim.stored.record.id, claim.fence, Redactor::default());
    if pen.write(|record, _| record.requeued(why)).await.is_err() {
        tracing::info!(build = %claim.stored.record.id, "it was taken away before it was handed back");
    }
}
