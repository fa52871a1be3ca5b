//! Every container of the engine, as it was last seen. One list fills it, one stream of events keeps it true.

use std::collections::{BTreeSet, HashMap};
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
    /// One look at a time: of two at once, the one that saw less could be noted last.
    looks: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct All {
    by_id: HashMap<String, Arc<Seen>>,
    by_run: HashMap<RunId, String>,
    /// Whether a list was read since the stream of events began, and the stream goes on.
    whole: bool,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("not poisoned, because nothing panics while it is held")
    }

    /// The run whose readers are to be told, if any.
    fn put(&self, seen: Seen) -> Option<RunId> {
        let mut all = self.lock();
        let run = seen.run();
        if let Some(run) = run {
            all.by_run.insert(run, seen.summary.id.clone());
        }
        let before = all.by_id.insert(seen.summary.id.clone(), Arc::new(seen.clone()));
        run.filter(|_| before.is_none_or(|before| *before != seen))
    }

    fn drop_one(&self, id: &str) -> Option<RunId> {
        let mut all = self.lock();
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

    /// Watches the engine until `stop`; when it goes away, it is looked for again.
    pub(super) async fn watch(&self, stop: CancellationToken) {
        loop {
            let watched = tokio::select! { watched = self.watch_once() => watched, () = stop.cancelled() => return };
            self.seen_cache().lock().whole = false;
            self.tell_everybody();
            if let Err(error) = watched {
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
        let listed = self.engine().containers(None).await?;
        let gone: Vec<String> = {
            let there: BTreeSet<String> = listed.iter().map(|summary| summary.id.clone()).collect();
            self.seen_cache().ids().difference(&there).cloned().collect()
        };
        for summary in listed {
            self.note(summary).await?;
        }
        for id in gone {
            self.forget(&id);
        }
        self.seen_cache().lock().whole = true;
        self.tell_everybody();
        while let Some(burst) = events.next().await {
            let mut moved = BTreeSet::new();
            for event in burst {
                let event = event?;
                if event.kind == EventKind::Container && changes_state(&event.action) {
                    moved.insert(event.id);
                }
            }
            for id in moved {
                self.look_at(&id).await?;
            }
        }
        Err(away())
    }

    /// Looks at one container now, whatever the events say.
    ///
    /// # Errors
    /// When the engine is away.
    pub async fn look_at(&self, id: &str) -> Result<()> {
        let _alone = self.seen_cache().looks.lock().await;
        // The engine tells of an end before its list shows it. This question waits for the container's own lock, behind which it does.
        self.engine().inspect(id, false).await?;
        match self.engine().containers(Some(id)).await?.into_iter().next() {
            Some(summary) => self.note(summary).await?,
            None => self.forget(id),
        }
        Ok(())
    }

    fn forget(&self, id: &str) {
        if let Some(run) = self.seen_cache().drop_one(id) {
            self.store().wakes().wake(Topic::Run(run));
        }
    }

    async fn note(&self, summary: ContainerSummary) -> Result<()> {
        let whose = self.whose(&summary).await.map_err(|error| EngineError {
            message: format!("the store does not tell whose the container is: {error}"),
            ..away()
        })?;
        if let Some(run) = self.seen_cache().put(Seen { summary, whose }) {
            self.store().wakes().wake(Topic::Run(run));
        }
        Ok(())
    }

    /// Labels alone prove nothing, for whoever has the engine can write them: the record must agree.
    async fn whose(&self, summary: &ContainerSummary) -> Result<Whose, StoreError> {
        if summary.labels.get(INSTALLATION) != Some(&self.settings().installation) {
            return Ok(Whose::Foreign);
        }
        let Some(run) = summary.labels.get(RUN).and_then(|id| id.parse::<RunId>().ok()) else { return Ok(Whose::Orphan) };
        let record = self.store().object::<Run>(&Scope::All, Kind::Run, &run.to_string()).await?;
        // Before its id is written into the record, the name that the record chose is the proof.
        let agrees = |run: &Run| run.container.as_ref().map_or(run.name == summary.name, |id| *id == summary.id);
        Ok(match record.map(|object| object.body).filter(agrees) {
            Some(record) => Whose::Run(run, record.owner),
            None => Whose::Orphan,
        })
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
