//! Every container of the engine, as it was last seen. One list fills it, one stream of events keeps it true.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::domain::{Owner, Run, RunId, Scope};
use crate::engine::containers::{APP, ContainerSummary, EventKind, IMAGE, INSTALLATION, RUN};
use crate::engine::{EngineError, Result};
use crate::store::objects::Kind;
use crate::store::{StoreError, Topic};

/// Between two tries to reach the engine.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a look waits for a container that the engine is busy with.
const PATIENCE: Duration = Duration::from_secs(5);
/// An engine that tells of nothing is asked this often whether it is still there: one that hangs ends no stream.
const BEAT: Duration = Duration::from_secs(5);
/// How long a look at one container may take before the engine counts as away.
const LOOKED: Duration = Duration::from_secs(30);
/// Events that come so close together are answered with one look.
const BURST: usize = 256;

/// Whose container it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The record of this run says so, and the container's labels agree.
    Run(RunId, Owner),
    /// It carries our labels, but has no record.
    Orphan,
    /// Not made by us.
    Foreign,
}

/// A container as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub summary: ContainerSummary,
    pub whose: Whose,
}

impl Seen {
    /// Its run, when there is a record of it.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        if let Whose::Run(run, _) = &self.whose { Some(*run) } else { None }
    }

    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        if let Whose::Run(_, owner) = &self.whose { Some(owner) } else { None }
    }

    /// What its image is called.
    #[must_use]
    pub fn image(&self) -> &str {
        self.run().and_then(|_| self.summary.labels.get(IMAGE)).unwrap_or(&self.summary.image)
    }

    /// The name of its app, as it was when the container was made.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        self.run().and_then(|_| self.summary.labels.get(APP)).map(String::as_str)
    }
}

#[derive(Default)]
pub(super) struct Cache {
    // A std mutex, for it is never held across an await.
    all: Mutex<All>,
    looks: AtomicU64,
    /// The same as `whole`, for those who wait for it to end.
    known: tokio::sync::watch::Sender<bool>,
}

#[derive(Default)]
struct All {
    by_id: HashMap<String, Arc<Seen>>,
    by_run: HashMap<RunId, String>,
    /// The look that is known of each: of two at once, the earlier one may be noted last, and has seen less.
    looks: HashMap<String, u64>,
    /// Whether a list was read since the stream of events began, and the stream goes on.
    whole: bool,
    /// How often it has become so.
    lists: u64,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("not poisoned, because nothing panics while it is held")
    }

    /// The run whose readers are to be told, if any.
    fn put(&self, seen: Seen, look: u64) -> Option<RunId> {
        let mut all = self.lock();
        let last = all.looks.entry(seen.summary.id.clone()).or_default();
        if *last > look {
            return None;
        }
        *last = look;
        let run = seen.run();
        if let Some(run) = run {
            all.by_run.insert(run, seen.summary.id.clone());
        }
        let before = all.by_id.insert(seen.summary.id.clone(), Arc::new(seen.clone()));
        run.filter(|_| before.is_none_or(|before| *before != seen))
    }

    fn begin_look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed)
    }

    fn drop_one(&self, id: &str) -> Option<RunId> {
        let mut all = self.lock();
        all.looks.remove(id);
        let gone = all.by_id.remove(id)?;
        let Whose::Run(run, _) = gone.whose else { return None };
        all.by_run.remove(&run);
        Some(run)
    }

    fn ids(&self) -> BTreeSet<String> {
        self.lock().by_id.keys().cloned().collect()
    }
}

impl Fleet {
    /// Every container that the scope may see, newest first; for an admin also those that are not ours.
    ///
    /// # Errors
    /// While the engine is away nobody knows.
    pub fn containers(&self, scope: &Scope) -> Result<Vec<Arc<Seen>>> {
        let all = self.seen_cache().lock();
        if !all.whole {
            return Err(away());
        }
        let visible = |seen: &&Arc<Seen>| match &seen.whose {
            Whose::Run(_, owner) => scope.covers(owner),
            Whose::Orphan | Whose::Foreign => *scope == Scope::All,
        };
        let mut found: Vec<Arc<Seen>> = all.by_id.values().filter(visible).cloned().collect();
        drop(all);
        found.sort_by(|a, b| (b.summary.created_at, &b.summary.id).cmp(&(a.summary.created_at, &a.summary.id)));
        Ok(found)
    }

    /// The container of a run, as it was last seen. `Ok(None)`: the engine has none.
    ///
    /// # Errors
    /// While the engine is away nobody knows.
    pub fn container_of(&self, run: RunId) -> Result<Option<Arc<Seen>>> {
        let all = self.seen_cache().lock();
        if !all.whole {
            return Err(away());
        }
        Ok(all.by_run.get(&run).and_then(|id| all.by_id.get(id)).cloned())
    }

    /// Whether the engine is there and every container of it is known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.seen_cache().lock().whole
    }

    /// Grows each time that everything is known anew: what happened before that woke nobody.
    pub(super) fn lists(&self) -> u64 {
        self.seen_cache().lock().lists
    }

    /// Watches the engine until `stop`; when it goes away, it is looked for again.
    pub(super) async fn watch(&self, stop: CancellationToken) {
        let mut told = None;
        loop {
            let watched = tokio::select! { watched = self.watch_once() => watched, () = stop.cancelled() => return };
            self.set_whole(false);
            self.tell_everybody();
            // Once for each time that it goes, however often it is looked for.
            if told.replace(self.lists()) != Some(self.lists()) {
                let error = watched.err().unwrap_or_else(away);
                tracing::warn!(%error, "the engine's containers are not known for now");
            }
            tokio::select! { () = tokio::time::sleep(PAUSE) => {} () = stop.cancelled() => return }
        }
    }

    /// From the first look until the stream of events ends.
    async fn watch_once(&self) -> Result<()> {
        let info = self.engine().info().await?;
        self.set_node(info.node);
        // Begun before the list is read, so that nothing between the two is missed.
        let mut events = self.engine().events(None).await?.ready_chunks(BURST);
        let look = self.seen_cache().begin_look();
        let listed = self.engine().containers(None).await?;
        let gone: Vec<String> = {
            let there: BTreeSet<String> = listed.iter().map(|summary| summary.id.clone()).collect();
            self.seen_cache().ids().difference(&there).cloned().collect()
        };
        for summary in listed {
            self.note(summary, look).await?;
        }
        for id in gone {
            self.forget(&id);
        }
        self.is_known();
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
        loop {
            let burst = tokio::select! {
                burst = events.next() => burst.ok_or_else(away)?,
                _ = beat.tick() => {
                    self.answers().await?;
                    continue;
                }
            };
            let mut moved = BTreeSet::new();
            for event in burst {
                let event = event?;
                if event.kind == EventKind::Container && changes_state(&event.action) {
                    moved.insert(event.id);
                }
            }
            for id in moved {
                self.look_at(&id).await?;
                self.wake_run_of(&id);
            }
        }
    }

    fn set_whole(&self, whole: bool) {
        let cache = self.seen_cache();
        let mut all = cache.lock();
        (all.whole, all.lists) = (whole, all.lists + u64::from(whole));
        cache.known.send_replace(whole);
    }

    /// Comes when the engine goes away, and at once while it is.
    pub(super) async fn goes_away(&self) {
        let mut known = self.seen_cache().known.subscribe();
        // Its sender lives as long as the cache.
        let _ = known.wait_for(|known| !known).await;
    }

    /// Everything is known from now on.
    fn is_known(&self) {
        let (mut ours, mut orphans, all) = (0, 0, {
            self.set_whole(true);
            self.seen_cache().lock().by_id.values().cloned().collect::<Vec<_>>()
        });
        for seen in &all {
            match seen.whose {
                Whose::Run(..) => ours += 1,
                Whose::Orphan => orphans += 1,
                Whose::Foreign => {}
            }
        }
        tracing::info!(containers = all.len(), ours, orphans, "the engine's containers are known");
        self.tell_everybody();
    }

    /// A busy engine may be late once.
    async fn answers(&self) -> Result<()> {
        match self.engine().info().await {
            Ok(_) => Ok(()),
            Err(_) => self.engine().info().await.map(drop),
        }
    }

    /// Looks at one container now, whatever the events say.
    ///
    /// # Errors
    /// When the engine is away.
    pub async fn look_at(&self, id: &str) -> Result<()> {
        let look = self.seen_cache().begin_look();
        // The engine tells of an end before its list shows it. `inspect` waits for the container's own lock, behind which the list does.
        let summary = match tokio::time::timeout(PATIENCE, self.engine().inspect(id, false)).await {
            Ok(details) => details?.map(|details| details.summary),
            // One whose lock is held for long keeps no other waiting.
            Err(_) => {
                let list = tokio::time::timeout(LOOKED, self.engine().containers(Some(id)));
                list.await.map_err(|_| away())??.pop()
            }
        };
        match summary {
            Some(summary) => self.note(summary, look).await?,
            None => self.forget(id),
        }
        Ok(())
    }

    fn forget(&self, id: &str) {
        if let Some(run) = self.seen_cache().drop_one(id) {
            self.store().wakes().wake(Topic::Run(run));
        }
    }

    async fn note(&self, summary: ContainerSummary, look: u64) -> Result<()> {
        let whose = self.whose(&summary).await.map_err(|error| EngineError {
            message: format!("the store does not tell whose the container is: {error}"),
            ..away()
        })?;
        if let Some(run) = self.seen_cache().put(Seen { summary, whose }, look) {
            self.store().wakes().wake(Topic::Run(run));
        }
        Ok(())
    }

    /// Labels alone prove nothing, for whoever has the engine can write them: the record must agree.
    async fn whose(&self, summary: &ContainerSummary) -> Result<Whose, StoreError> {
        if summary.labels.get(INSTALLATION) != Some(&self.settings().installation) {
            return Ok(Whose::Foreign);
        }
        // Without a run's id it was not made by us, whatever else it says.
        let Some(run) = summary.labels.get(RUN).and_then(|id| id.parse::<RunId>().ok()) else { return Ok(Whose::Foreign) };
        let record = self.store().object::<Run>(&Scope::All, Kind::Run, &run.to_string()).await?;
        // Before its id is written into the record, the name that the record chose is the proof.
        let agrees = |run: &Run| run.container.as_ref().map_or(run.name == summary.name, |id| *id == summary.id);
        Ok(match record.map(|object| object.body).filter(agrees) {
            Some(record) => Whose::Run(run, record.owner),
            None => Whose::Orphan,
        })
    }

    /// Also when the list told nothing new: what the event told of, an inspect knows.
    fn wake_run_of(&self, id: &str) {
        let run = self.seen_cache().lock().by_id.get(id).and_then(|seen| seen.run());
        if let Some(run) = run {
            self.store().wakes().wake(Topic::Run(run));
        }
    }

    /// The engine came or went: every reader looks again.
    fn tell_everybody(&self) {
        let runs: Vec<RunId> = self.seen_cache().lock().by_run.keys().copied().collect();
        for run in runs {
            self.store().wakes().wake(Topic::Run(run));
        }
        self.store().wakes().wake(Topic::Runs);
    }
}

/// Nothing else of what the engine tells (execs, attaches, `top`) changes what a list shows.
fn changes_state(action: &str) -> bool {
    const ACTIONS: [&str; 12] =
        ["create", "start", "restart", "die", "stop", "kill", "oom", "pause", "unpause", "rename", "update", "destroy"];
    ACTIONS.contains(&action) || action.starts_with("health_status")
}

pub(super) fn away() -> EngineError {
    EngineError {
        kind: crate::domain::ErrorKind::Infra,
        code: "engine_unavailable",
        message: "the engine is not there now; what its containers do is not known".into(),
        dockerfile_line: None,
        transient: true,
    }
}
