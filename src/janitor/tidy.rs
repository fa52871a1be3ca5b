//! What is taken away by rules: builds that are kept for so long and no longer, images that nobody wants here, and, when a disk is too
//! full, what can be made again.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::builds::Builds;
use crate::context::storage::used_percent;
use crate::domain::{BuildId, BuildRecord, Cleaned, RetentionRules, Scope, Timestamp, local_tag};
use crate::engine::{ContainerEngine, Ledger};
use crate::store::StoreError;

/// Images, or uploads, that one pass takes away at most.
const AT_ONCE: usize = 200;
/// Caches go that nobody has used for so long; the longest first.
/// At last all that no build uses: while layers of an image stand in the cache as well, to remove the image frees nothing.
const CACHE_AGES: [Duration; 4] =
    [Duration::from_secs(7 * 24 * 3600), Duration::from_secs(24 * 3600), Duration::from_secs(3600), Duration::ZERO];
/// The lock of whoever goes by the rules, and for how long a process that is killed has it.
const LOCK: &str = "retention";
const LOCKED: Duration = Duration::from_secs(120);

/// How full the disk below a folder is, in percent.
pub type Measure = Arc<dyn Fn(&Path) -> crate::error::Result<u8> + Send + Sync>;

/// The engine of this process, and what it may hold.
pub struct TidyNode {
    pub ledger: Ledger,
    pub engine: Arc<dyn ContainerEngine>,
}

/// What the passes work on.
pub struct Tidy {
    builds: Arc<Builds>,
    node: Option<TidyNode>,
    /// Percents: above the high one a disk is cleaned until it is at the low one.
    high: u8,
    low: u8,
    measure: Measure,
    holder: String,
    looked: Mutex<Looked>,
}

/// Builds whose images stay under these rules, so that they need no look at each pass.
#[derive(Default)]
struct Looked {
    rules: Option<RetentionRules>,
    stay: HashSet<BuildId>,
}

impl Tidy {
    #[must_use]
    pub fn new(builds: Arc<Builds>, node: Option<TidyNode>, high: u8, low: u8) -> Self {
        let holder = uuid::Uuid::new_v4().simple().to_string();
        Self { builds, node, high, low, measure: Arc::new(used_percent), holder, looked: Mutex::default() }
    }

    /// With another way to know how full a disk is.
    #[must_use]
    pub fn measured_by(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// Deletes builds that are beyond their rules; one process of a store does it at a time.
    ///
    /// # Errors
    /// When the store or the disk fails; the next pass goes on.
    pub async fn retention_once(&self) -> anyhow::Result<()> {
        if !self.builds.store().lock(LOCK, &self.holder, LOCKED).await? {
            return Ok(());
        }
        let gone = self.builds.retention_once().await?;
        if !gone.is_empty() {
            tracing::info!(builds = gone.len(), "deleted builds that were kept for long enough");
        }
        Ok(())
    }

    /// Takes the images of published builds off this engine where a rule says so.
    ///
    /// # Errors
    /// When the store or the engine is away.
    pub async fn published_images_once(&self) -> anyhow::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        let rules = self.builds.retention_rules().await?;
        if rules.keep_all_images() {
            return Ok(());
        }
        let unknown = self.not_looked_at(&rules, node.ledger.entries()?);
        if unknown.is_empty() {
            return Ok(());
        }
        let used = self.builds.in_use().await?;
        for id in unknown.into_iter().take(AT_ONCE) {
            let Some(build) = self.ended(id).await? else { continue };
            if !rules.for_build(&build).drops_image(&build) {
                self.looked.lock().expect("not poisoned, because nothing panics while it is held").stay.insert(id);
            } else if !used.has(&build) {
                drop_image(node, id).await?;
            }
        }
        Ok(())
    }

    /// The newest first.
    fn not_looked_at(&self, rules: &RetentionRules, mut entries: Vec<BuildId>) -> Vec<BuildId> {
        let mut looked = self.looked.lock().expect("not poisoned, because nothing panics while it is held");
        if looked.rules.as_ref() != Some(rules) {
            *looked = Looked { rules: Some(rules.clone()), stay: HashSet::new() };
        }
        let all: HashSet<BuildId> = entries.iter().copied().collect();
        looked.stay.retain(|id| all.contains(id));
        entries.retain(|id| !looked.stay.contains(id));
        entries.sort_unstable_by(|a, b| b.cmp(a));
        entries
    }

    /// A build that has ended; none also when this version cannot read it.
    async fn ended(&self, id: BuildId) -> Result<Option<BuildRecord>, StoreError> {
        match self.builds.store().get(&Scope::All, id).await {
            Err(StoreError::Unreadable(_)) => Ok(None),
            found => Ok(found?.map(|stored| stored.record).filter(|record| record.state.is_terminal())),
        }
    }

    /// Cleans the disks that are fuller than they should be.
    ///
    /// # Errors
    /// When the store, the engine or the disk fails; the next pass goes on.
    pub async fn disk_once(&self) -> anyhow::Result<()> {
        if self.high >= 100 {
            return Ok(());
        }
        if let Some(node) = &self.node {
            let root = node.engine.info().await?.data_root;
            // An engine on another machine has a disk that we do not see.
            if let Some(root) = root.filter(|root| root.is_dir()) {
                self.clean(&root, "engine", Some(node)).await?;
            }
        }
        let root = self.builds.contexts().root().to_owned();
        self.clean(&root, "data", None).await
    }

    async fn clean(&self, root: &Path, disk: &str, engine: Option<&TidyNode>) -> anyhow::Result<()> {
        let used_percent = (self.measure)(root)?;
        if used_percent <= self.high {
            return Ok(());
        }
        let mut cleaned = Cleaned {
            at: Timestamp::now(),
            disk: disk.into(),
            used_percent,
            left_percent: used_percent,
            cache_bytes: 0,
            images: 0,
            contexts: 0,
        };
        match engine {
            Some(node) => {
                cleaned.cache_bytes = self.clean_caches(root, node).await?;
                cleaned.images = self.clean_images(root, node).await?;
            }
            None => cleaned.contexts = self.clean_uploads(root).await?,
        }
        cleaned.left_percent = (self.measure)(root)?;
        self.tell(&cleaned).await
    }

    fn is_too_full(&self, root: &Path) -> anyhow::Result<bool> {
        Ok((self.measure)(root)? > self.low)
    }

    async fn clean_caches(&self, root: &Path, node: &TidyNode) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for age in CACHE_AGES {
            if self.is_too_full(root)? {
                bytes += node.engine.prune_cache(age).await?;
            }
        }
        Ok(bytes)
    }

    /// Of ended builds, the oldest first.
    async fn clean_images(&self, root: &Path, node: &TidyNode) -> anyhow::Result<u64> {
        let (used, mut entries) = (self.builds.in_use().await?, node.ledger.entries()?);
        entries.sort_unstable();
        let mut gone = 0;
        for id in entries {
            if gone == AT_ONCE || !self.is_too_full(root)? {
                break;
            }
            if self.ended(id).await?.is_some_and(|build| !used.has(&build)) {
                drop_image(node, id).await?;
                gone += 1;
            }
        }
        Ok(gone as u64)
    }

    /// Of ended builds, the oldest first. Their Dockerfiles and logs stay.
    async fn clean_uploads(&self, root: &Path) -> anyhow::Result<u64> {
        let mut gone = 0;
        for id in self.builds.contexts().list_ids().await? {
            if gone == AT_ONCE || !self.is_too_full(root)? {
                break;
            }
            if self.ended(id).await?.is_some() && self.builds.contexts().remove_upload(id).await? {
                gone += 1;
            }
        }
        Ok(gone as u64)
    }

    async fn tell(&self, cleaned: &Cleaned) -> anyhow::Result<()> {
        let Cleaned { disk, used_percent, left_percent, cache_bytes, images, contexts, .. } = cleaned;
        tracing::warn!(disk, used_percent, left_percent, cache_bytes, images, contexts, "a disk was too full: it was cleaned");
        let node = self.node.as_ref().and_then(|node| node.ledger.node()).map_or_else(|| "data".into(), |node| node.to_string());
        Ok(self.builds.tell_cleaned(&node, cleaned).await?)
    }
}

async fn drop_image(node: &TidyNode, id: BuildId) -> anyhow::Result<()> {
    node.engine.untag(&local_tag(id)).await?;
    node.ledger.strike(id);
    Ok(())
}

/// Runs the passes until `stop`.
pub async fn tidy(tidy: Arc<Tidy>, stop: CancellationToken) {
    let mut round: u64 = 0;
    while !stop.is_cancelled() {
        let tell = |pass: &str, done: anyhow::Result<()>| {
            if let Err(error) = done {
                tracing::warn!(%error, pass, "a pass of the janitor did not finish");
            }
        };
        tell("published_images", tidy.published_images_once().await);
        if round.is_multiple_of(6) {
            tell("disk", tidy.disk_once().await);
        }
        if round.is_multiple_of(12) {
            tell("retention", tidy.retention_once().await);
        }
        round += 1;
        tokio::select! { () = tokio::time::sleep(Duration::from_secs(5)) => {} () = stop.cancelled() => {} }
    }
}
