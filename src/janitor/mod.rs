//! What nobody else cleans up. Each pass is a `*_once`; [`run`] is a thin loop around each.

mod tidy;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::storage::ContextStorage;
use crate::domain::{BuildId, Scope, Timestamp, local_tag};
use crate::engine::{Images, Ledger};
use crate::fleet::{self, Fleet};
use crate::store::{Store, StoreError};
use crate::vault::Vault;
pub use tidy::{Measure, Tidy, TidyNode, tidy};

/// Builds that one pass archives.
const ARCHIVED_AT_ONCE: usize = 100;
/// Objects that one commit purges.
const PURGED_AT_ONCE: usize = 1000;
/// Events that are read at once.
const EVENTS: usize = 1000;

/// From when on what nobody speaks for belongs to nobody.
#[derive(Debug, Clone, Copy)]
pub struct OrphanAges {
    /// Of a kept upload without a record.
    pub kept: Duration,
    /// Of an unfinished upload since anything was written to it.
    pub unfinished: Duration,
    /// Of a container of ours without a record.
    pub containers: Duration,
    /// Of a blob that nothing uses, since it was last named.
    pub blobs: Duration,
}

impl Default for OrphanAges {
    fn default() -> Self {
        Self {
            kept: Duration::from_secs(15 * 60),
            unfinished: Duration::from_secs(3600),
            containers: Duration::from_secs(120),
            blobs: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What the passes work on.
pub struct Janitor {
    pub store: Store,
    pub contexts: ContextStorage,
    pub keep_hot_log: Duration,
    pub vault: Arc<Vault>,
    pub ages: OrphanAges,
    /// Present where this process has an engine.
    pub node: Option<NodeParts>,
}

/// The builds that may have left an image on this node, and the engine that has it.
pub struct NodeParts {
    pub ledger: Ledger,
    pub images: Arc<dyn Images>,
    pub fleet: Fleet,
}

impl Janitor {
    /// Deals with leases that ran out: their builds go back to the queue, or end.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn reap_once(&self) -> Result<(), StoreError> {
        for reaped in self.store.reap().await? {
            tracing::warn!(build = %reaped.build, outcome = ?reaped.lapse, "its worker was lost");
        }
        Ok(())
    }

    /// Removes what was kept for a time only: sessions, failed log-ins, answers to repeat.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn purge_once(&self) -> Result<(), StoreError> {
        while self.store.purge_objects(PURGED_AT_ONCE).await? == PURGED_AT_ONCE as u64 {}
        Ok(())
    }

    /// Goes on with a change of keys: what is sealed with an old one is sealed anew, and when nothing is left of it and every
    /// process has had time to read the new one, the old one goes.
    ///
    /// # Errors
    /// When the store is away, a value does not open, or the key file cannot be written.
    pub async fn keys_once(&self) -> anyhow::Result<()> {
        self.vault.refresh()?;
        if self.vault.keys() < 2 {
            return Ok(());
        }
        let resealed = crate::accounts::reseal_once(&self.store, &self.vault).await?;
        if resealed == crate::accounts::Resealed::default() && self.vault.old_keys_may_go()? {
            self.vault.retire()?;
            tracing::info!(key = self.vault.key_name(), "the old keys are gone: nothing is sealed with them");
        }
        Ok(())
    }

    /// Writes the logs of ended builds into their archives, then lets the hot copies go.
    ///
    /// # Errors
    /// When the store or the disk fails; the next pass goes on.
    pub async fn archive_once(&self) -> anyhow::Result<()> {
        for id in self.store.unarchived(before_now(self.keep_hot_log), ARCHIVED_AT_ONCE).await? {
            match self.archive(id).await {
                // One record that this version cannot read must not keep all later ones from their archives.
                Err(error) if matches!(error.downcast_ref(), Some(StoreError::Unreadable(_))) => {
                    tracing::error!(build = %id, %error, "a log is not archived");
                }
                archived => archived?,
            }
        }
        Ok(())
    }

    async fn archive(&self, id: BuildId) -> anyhow::Result<()> {
        let mut archive = self.contexts.begin_log(id).await?;
        let mut after = 0;
        while let Some(events) = self.store.events(&Scope::All, id, after, EVENTS).await? {
            let Some(last) = events.last() else { break };
            after = last.seq;
            let mut lines = Vec::new();
            for event in &events {
                serde_json::to_writer(&mut lines, event)?;
                lines.push(b'\n');
            }
            archive = archive.append(lines).await?;
        }
        archive.finish().await?;
        self.store.drop_hot_log(id).await?;
        Ok(())
    }

    /// Removes contexts and archives that have no record.
    ///
    /// # Errors
    /// When the store or the disk fails.
    pub async fn orphans_once(&self) -> anyhow::Result<()> {
        // An id tells its own age: an upload of this moment may still be on its way into the store.
        let settled = before_now(self.ages.kept);
        let mut ids = self.contexts.list_ids().await?;
        ids.retain(|id| id.made_at() < settled);
        for orphan in without_record(&self.store, &ids).await? {
            tracing::info!(build = %orphan, "removing a context without a record");
            self.contexts.remove(orphan).await?;
        }
        self.contexts.sweep_incoming(self.ages.unfinished).await?;
        Ok(())
    }

    /// Removes blobs that nothing uses: after a time, and earlier when the disk comes near its floor.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn blobs_once(&self) -> anyhow::Result<()> {
        Ok(self.contexts.blobs().tidy(self.ages.blobs).await?)
    }

    /// Removes what is ours on the engine and has no record.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn fleet_once(&self) -> anyhow::Result<()> {
        match &self.node {
            Some(node) => fleet::sweep_once(&node.fleet, self.ages.containers).await,
            None => Ok(()),
        }
    }

    /// Removes the oldest of the runs that are over.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn history_once(&self) -> anyhow::Result<()> {
        match &self.node {
            Some(node) => fleet::trim_once(&node.fleet).await,
            None => Ok(()),
        }
    }

    /// Removes the images of builds that were deleted while nobody could.
    ///
    /// # Errors
    /// When the store or the engine is away.
    pub async fn images_once(&self) -> anyhow::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        let entries = node.ledger.entries()?;
        let gone = without_record(&self.store, &entries).await?;
        if gone.is_empty() {
            return Ok(());
        }
        // What a build under way repeats waits for its worker, which hands the image on.
        let repeated: HashSet<BuildId> = self.store.repeats().await?.into_iter().map(|one| one.first).collect();
        for gone in gone.into_iter().filter(|gone| !repeated.contains(gone)) {
            node.images.untag(&local_tag(gone)).await?;
            node.ledger.strike(gone);
        }
        Ok(())
    }
}

fn before_now(age: Duration) -> Timestamp {
    Timestamp::from_millis(Timestamp::now().as_millis() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

async fn without_record(store: &Store, ids: &[BuildId]) -> Result<Vec<BuildId>, StoreError> {
    let mut orphans = Vec::new();
    for chunk in ids.chunks(500) {
        let there: HashSet<BuildId> = store.existing(chunk).await?.into_iter().collect();
        orphans.extend(chunk.iter().filter(|id| !there.contains(id)));
    }
    Ok(orphans)
}

/// Runs every pass on its own schedule until `stop`.
pub async fn run(janitor: Arc<Janitor>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    macro_rules! every {
        ($seconds:literal, $pass:ident) => {{
            let (janitor, stop) = (Arc::clone(&janitor), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    if let Err(error) = janitor.$pass().await {
                        tracing::warn!(%error, pass = stringify!($pass), "a pass of the janitor did not finish");
                    }
                    tokio::select! { () = tokio::time::sleep(Duration::from_secs($seconds)) => {} () = stop.cancelled() => {} }
                }
            });
        }};
    }
    every!(1, reap_once);
    every!(15, archive_once);
    every!(300, orphans_once);
    every!(300, blobs_once);
    every!(60, images_once);
    every!(60, fleet_once);
    every!(60, history_once);
    every!(60, purge_once);
    every!(10, keys_once);
    tasks.close();
    tasks.wait().await;
}
