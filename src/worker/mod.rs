//! Claims builds and does them, as many at once as it has slots.
//!
//! [`Worker::run`] is three thin loops: claims, removals of deleted builds' images, and the sign of life that `/readyz` shows.
//! Everything a build goes through is in [`pipeline`].

mod bases;
mod blame;
mod caches;
mod ending;
mod exact;
mod fetch;
mod joined;
mod lease;
mod log;
mod pen;
mod pipeline;
mod publish;
mod readiness;
mod redact;
mod retry;
mod sanitize;
mod seams;
mod settle;
mod tag;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::storage::ContextStorage;
use crate::domain::{NodeId, WorkerId, local_tag};
use crate::engine::{ContainerEngine, EngineInfo, Ledger, Untagged};
use crate::registry::{Publisher, RegistryClient};
use crate::store::{Claim, ImageRemoval, Removal, Repeat, Store, StoreError, Topic, WorkerInfo};
use crate::vault::Vault;
use readiness::Readiness;
pub use sanitize::plain;

/// How often a worker says that it is alive, and asks its engine the same.
const PRESENCE: Duration = Duration::from_secs(1);
/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The pause after the store or the engine failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// What an operator sets on workers.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    pub slots: u32,
    pub lease: Duration,
    /// How long running builds may go on after a stop was asked for.
    pub drain: Duration,
    /// Bytes of log that are kept of a build.
    pub max_log: u64,
    pub host_credentials: bool,
    /// The id of this installation, of which the names are made that keep owners' caches apart.
    pub installation: String,
}

/// Everything a worker needs.
pub struct Parts {
    pub store: Store,
    pub contexts: ContextStorage,
    pub vault: Arc<Vault>,
    pub engine: Arc<dyn ContainerEngine>,
    pub publisher: Publisher<dyn ContainerEngine>,
    pub registry: Arc<RegistryClient>,
    pub ledger: Ledger,
    pub settings: WorkerSettings,
}

/// What became of a look for work.
enum Claimed {
    Started,
    /// There is none, or the engine is away: accepted builds then wait.
    Nothing,
    /// The next build has to be done alone: it was handed back until nothing else runs here.
    NeedsAll,
}

/// One worker of this process.
pub struct Worker {
    id: WorkerId,
    parts: Arc<Parts>,
    slots: Arc<Semaphore>,
    running: AtomicU32,
    engine: Readiness,
    /// Whether it takes nothing until all its slots are free.
    clearing: AtomicBool,
    tasks: TaskTracker,
}

impl Worker {
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(parts.settings.slots as usize));
        Arc::new(Self {
            id: WorkerId::unique(),
            parts: Arc::new(parts),
            slots,
            running: AtomicU32::new(0),
            engine: Readiness::default(),
            clearing: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        })
    }

    /// Works until `stop`, then finishes what runs, or hands it back when the time to drain is over.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let hand_back = CancellationToken::new();
        let beyond = CancellationToken::new();
        let loops = TaskTracker::new();
        loops.spawn(Arc::clone(&self).presence_loop(beyond.clone()));
        loops.spawn(Arc::clone(&self).removal_loop(stop.clone()));
        self.claim_loop(&stop, &hand_back).await;
        self.tasks.close();
        if tokio::time::timeout(self.parts.settings.drain, self.tasks.wait()).await.is_err() {
            tracing::info!("time to drain is over: running builds are handed back");
            hand_back.cancel();
            self.tasks.wait().await;
        }
        beyond.cancel();
        loops.close();
        loops.wait().await;
        if let Err(error) = self.parts.store.remove_worker(&self.id).await {
            tracing::warn!(%error, "could not sign off");
        }
    }

    async fn claim_loop(self: &Arc<Self>, stop: &CancellationToken, hand_back: &CancellationToken) {
        let mut queue = self.parts.store.wakes().subscribe(Topic::Queue);
        let mut wanted = 1;
        while !stop.is_cancelled() {
            let permits = tokio::select! {
                permits = Arc::clone(&self.slots).acquire_many_owned(wanted) => permits.expect("open, because it is never closed"),
                () = stop.cancelled() => return,
            };
            wanted = 1;
            self.clearing.store(false, Ordering::Relaxed);
            match self.claim_once(permits, hand_back).await {
                Ok(Claimed::Started) => {}
                Ok(Claimed::NeedsAll) => {
                    wanted = self.parts.settings.slots;
                    self.clearing.store(true, Ordering::Relaxed);
                }
                Ok(Claimed::Nothing) => tokio::select! { () = queue.woken(LOOK_AGAIN) => {} () = stop.cancelled() => {} },
                Err(error) => {
                    tracing::warn!(%error, "could not claim");
                    tokio::select! { () = tokio::time::sleep(AFTER_FAILURE) => {} () = stop.cancelled() => {} }
                }
            }
        }
    }

    /// Claims the next build and starts it, unless it has to be done alone and is not.
    async fn claim_once(
        self: &Arc<Self>,
        permits: OwnedSemaphorePermit,
        hand_back: &CancellationToken,
    ) -> Result<Claimed, StoreError> {
        let Some(node) = self.node().await else { return Ok(Claimed::Nothing) };
        // It would only fail: it waits for room, as it waits for an engine.
        if !self.parts.contexts.may_build() {
            return Ok(Claimed::Nothing);
        }
        let Some(claim) = self.parts.store.claim(&self.id, &node, self.parts.settings.lease).await? else {
            return Ok(Claimed::Nothing);
        };
        let Some(permit) = self.room_for(&claim, permits) else {
            pen::hand_back(&self.parts.store, &claim).await;
            return Ok(Claimed::NeedsAll);
        };
        tracing::info!(build = %claim.stored.record.id, attempt = claim.fence.0, "claimed");
        let (worker, hand_back) = (Arc::clone(self), hand_back.clone());
        self.running.fetch_add(1, Ordering::Relaxed);
        self.tasks.spawn(async move {
            worker.work(claim, hand_back).await;
            worker.running.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
        Ok(Claimed::Started)
    }

    /// The slots that a build takes: one, or all of them for its last try, so that it is not blamed for a neighbour that kills the
    /// process. `None` when it needs all and others are running.
    fn room_for(&self, claim: &Claim, mut permits: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let (has, all) = (permits.num_permits(), self.parts.settings.slots as usize);
        if claim.stored.record.is_last_try() {
            let missing = u32::try_from(all - has).ok()?;
            permits.merge(Arc::clone(&self.slots).try_acquire_many_owned(missing).ok()?);
        } else {
            drop(permits.split(has - 1));
        }
        Some(permits)
    }

    async fn work(&self, claim: Claim, hand_back: CancellationToken) {
        pipeline::run(Arc::clone(&self.parts), self.id.clone(), claim, hand_back, &self.engine).await;
    }

    /// The engine's id, when it answered at the last look.
    async fn node(&self) -> Option<NodeId> {
        if !self.engine.is_ready() {
            self.look_at_engine().await;
        }
        if self.engine.is_ready() { self.parts.ledger.node() } else { None }
    }

    async fn look_at_engine(&self) -> Option<EngineInfo> {
        let info = self.parts.engine.info().await;
        if self.engine.heard(info.is_ok(), Instant::now()) {
            match &info {
                Ok(info) => tracing::info!(version = %info.version, node = %info.node, "the engine answers"),
                Err(error) => tracing::warn!(%error, "the engine is away: accepted builds wait"),
            }
            if info.is_ok() {
                self.parts.store.wakes().wake(Topic::Queue);
            }
        }
        let info = info.ok()?;
        self.parts.registry.set_insecure(info.insecure_registries.clone());
        self.parts.ledger.set_node(&info.node);
        Some(info)
    }

    async fn presence_loop(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.presence_once().await {
                tracing::debug!(%error, "no sign of life could be left");
            }
            tokio::select! { () = tokio::time::sleep(PRESENCE) => {} () = stop.cancelled() => {} }
        }
    }

    async fn presence_once(&self) -> Result<(), StoreError> {
        let info = self.look_at_engine().await;
        let node = self.parts.ledger.node().unwrap_or_else(|| NodeId::new("unknown"));
        let sign = WorkerInfo {
            worker: self.id.clone(),
            node,
            slots: self.parts.settings.slots,
            running: self.running.load(Ordering::Relaxed),
            engine_ready: self.engine.is_ready(),
            clearing: self.clearing.load(Ordering::Relaxed),
            disk_full: !self.parts.contexts.may_build(),
            engine: info.map(|i| i.version).unwrap_or_default(),
            seen_at: crate::domain::Timestamp::now(),
        };
        self.parts.store.put_worker(&sign).await
    }

    async fn removal_loop(self: Arc<Self>, stop: CancellationToken) {
        let mut asked = self.parts.store.wakes().subscribe(Topic::Removals);
        let mut recovered = false;
        while !stop.is_cancelled() {
            if let Some(node) = self.node().await {
                recovered = recovered || publish::recover_once(&self.parts, &self.id).await;
                if let Err(error) = self.remove_once(&node).await {
                    tracing::debug!(%error, "removals wait");
                }
            }
            tokio::select! { () = asked.woken(LOOK_AGAIN) => {} () = stop.cancelled() => {} }
        }
    }

    /// Removes the images of deleted builds from this node; builds under way that repeat them keep theirs.
    ///
    /// # Errors
    /// When the store or the engine is away; what is left is done at the next pass.
    pub async fn remove_once(&self, node: &NodeId) -> anyhow::Result<()> {
        let removals = self.parts.store.removals(node).await?;
        if removals.is_empty() {
            return Ok(());
        }
        let repeats = self.parts.store.repeats().await?;
        for removal in removals {
            for heir in repeats.iter().filter(|repeat| repeat.first == removal.build) {
                self.hand_on(heir).await?;
            }
            let outcome = remove_image(&*self.parts.engine, &removal).await?;
            self.parts.ledger.strike(removal.build);
            self.parts.store.removal_done(&removal, outcome).await?;
        }
        Ok(())
    }

    /// The image of a deleted build stands under the name of one that repeats it, too.
    async fn hand_on(&self, heir: &Repeat) -> anyhow::Result<()> {
        let engine = &self.parts.engine;
        let image = engine.image_id(&local_tag(heir.first)).await?;
        if let Some(image) = image.filter(|image| heir.image.as_ref() == Some(image)) {
            self.parts.ledger.enter(heir.build)?;
            engine.tag(&image, &local_tag(heir.build)).await?;
        }
        Ok(())
    }
}

async fn remove_image(engine: &dyn ContainerEngine, removal: &Removal) -> crate::engine::Result<ImageRemoval> {
    Ok(match engine.untag(&local_tag(removal.build)).await? {
        Untagged::Removed => ImageRemoval::Removed,
        Untagged::Kept => ImageRemoval::InUse,
        Untagged::Absent => ImageRemoval::Absent,
    })
}
