//! Runs in the store, and what their owner's containers take: both change in one commit.

use crate::domain::{App, Holding, Holdings, Owner, Quota, Run, RunId, RunLog, Scope, limits};
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};
use crate::store::{Result, Store, StoreError};

/// How often a change is tried while others of the same owner come between. Each time one of them gets through.
pub(super) const TRIES: usize = 1000;

/// See the module.
pub struct Records<'a>(pub(super) &'a Store);

impl Records<'_> {
    /// # Errors
    /// When the store cannot be asked.
    pub async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Object<Run>>> {
        self.0.object(scope, Kind::Run, &id.to_string()).await
    }

    /// What an owner's containers take now.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn holdings(&self, owner: &Owner) -> Result<Holdings> {
        Ok(self.holdings_object(owner).await?.map(|object| object.body).unwrap_or_default())
    }

    pub(super) async fn holdings_object(&self, owner: &Owner) -> Result<Option<Object<Holdings>>> {
        self.0.object(&Scope::All, Kind::Holdings, owner.as_str()).await
    }

    /// Accepts a run, unless its owner would hold more than the quota allows.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is a run with its id; [`StoreError::OverQuota`]; or when the store cannot be asked.
    pub async fn add(&self, run: &Run, quota: &Quota) -> Result<()> {
        for _ in 0..TRIES {
            let refused = match self.try_add(run, quota).await {
                Err(refused @ (StoreError::Conflict | StoreError::OverQuota { .. })) => refused,
                other => return other,
            };
            // It may be this very run that takes the room.
            if self.run(&Scope::All, run.id).await?.is_some() {
                return Err(StoreError::Conflict);
            }
            if !matches!(refused, StoreError::Conflict) {
                return Err(refused);
            }
        }
        Err(too_busy())
    }

    async fn try_add(&self, run: &Run, quota: &Quota) -> Result<()> {
        let held = self.holdings_object(&run.owner).await?;
        let mut holdings = held.as_ref().map(|object| object.body.clone()).unwrap_or_default();
        self.room_for_run(run, &holdings, quota).await?;
        holdings.runs.insert(run.id.to_string(), holding(run));
        let put = Write::put(Kind::Run, run.id.to_string(), &run.owner, Expect::Absent, run).under(history_of(run));
        self.0.commit(&[put, live(run), hold(&run.owner, held.as_ref(), &holdings)]).await
    }

    /// Changes a run by a rule of the domain; `change` may be called again when another change came between. Whatever the change means
    /// for what the owner holds is written with it. `None`: there is no such run in the scope. Nothing is written when nothing differs.
    ///
    /// # Errors
    /// When the store cannot be asked, or the change is refused.
    pub async fn change<F>(&self, scope: &Scope, id: RunId, quota: Option<&Quota>, change: F) -> Result<Option<Run>>
    where
        F: Fn(&mut Run) -> Result<()> + Send + Sync,
    {
        for _ in 0..TRIES {
            let Some(object) = self.run(scope, id).await? else { return Ok(None) };
            let mut run = object.body.clone();
            change(&mut run)?;
            if run == object.body {
                return Ok(Some(run));
            }
            let mut writes = vec![Write::put(Kind::Run, id.to_string(), &run.owner, Expect::Revision(object.revision), &run)];
            if run.state.is_live() != object.body.state.is_live() {
                writes.push(live(&run));
            }
            let held = self.holdings_object(&run.owner).await?;
            let mut holdings = held.as_ref().map(|object| object.body.clone()).unwrap_or_default();
            if holdings.runs.get(&id.to_string()) != wanted(&run).as_ref() {
                holdings.runs.remove(&id.to_string());
                if let Some(over) = quota.and_then(|quota| over_quota(&holdings, &run, quota)) {
                    return Err(over);
                }
                if let Some(holding) = wanted(&run) {
                    holdings.runs.insert(id.to_string(), holding);
                }
                writes.push(hold(&run.owner, held.as_ref(), &holdings));
            }
            match self.0.commit(&writes).await {
                Err(StoreError::Conflict) => {}
                Ok(()) => return Ok(Some(run)),
                Err(error) => return Err(error),
            }
        }
        Err(too_busy())
    }

    /// Takes a run out of the history. Its container must be gone.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn remove(&self, run: &Run) -> Result<()> {
        let id = run.id.to_string();
        for _ in 0..TRIES {
            let held = self.holdings_object(&run.owner).await?;
            let mut writes: Vec<Write> =
                [Kind::Run, Kind::LiveRun, Kind::RunLog].map(|kind| Write::remove(kind, &id, Expect::Anything)).into();
            if let Some(held) = held.as_ref().filter(|held| held.body.runs.contains_key(&id)) {
                let mut holdings = held.body.clone();
                holdings.runs.remove(&id);
                writes.push(hold(&run.owner, Some(held), &holdings));
            }
            match self.0.commit(&writes).await {
                Err(StoreError::Conflict) => {}
                other => return other,
            }
        }
        Err(too_busy())
    }

    /// Runs that are not over.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn live(&self) -> Result<Vec<RunId>> {
        let live = self.0.all_objects::<Option<u64>>(&Scope::All, Kind::LiveRun).await?;
        Ok(live.into_iter().filter_map(|object| object.id.parse().ok()).collect())
    }

    /// An app's runs that are not over, newest first, each with the generation of the app that it was made from.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn live_of(&self, app: &App) -> Result<Vec<(RunId, Option<u64>)>> {
        let query = ObjectQuery { parent: Some(app.id.to_string()), limit: limits::PAGE, ..ObjectQuery::one(Kind::LiveRun) };
        let live = self.0.all_of::<Option<u64>>(query).await?;
        Ok(live.into_iter().filter_map(|object| Some((object.id.parse().ok()?, object.body))).collect())
    }

    /// Runs that are not over, and those whose container is still there.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn held(&self) -> Result<Vec<RunId>> {
        let held = self.0.all_objects::<Holdings>(&Scope::All, Kind::Holdings).await?;
        Ok(held.iter().flat_map(|object| object.body.runs.keys()).filter_map(|id| id.parse().ok()).collect())
    }

    /// What was done for a run, and what was saved of its output.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn log(&self, scope: &Scope, id: RunId) -> Result<RunLog> {
        let log = self.0.object(scope, Kind::RunLog, &id.to_string()).await?;
        Ok(log.map(|object: Object<RunLog>| object.body).unwrap_or_default())
    }

    /// Only a run's keeper writes it.
    pub(super) async fn put_log(&self, owner: &Owner, id: RunId, log: &RunLog) -> Result<()> {
        self.0.commit(&[Write::put(Kind::RunLog, id.to_string(), owner, Expect::Anything, log)]).await
    }
}

pub(super) fn too_busy() -> StoreError {
    StoreError::Unavailable("too many changes of one owner's containers at once".into())
}

/// What a run is listed under: its app, or those of its owner that have none. No app's id has a `/` in it.
fn history_of(run: &Run) -> String {
    run.app.as_ref().map_or_else(|| format!("/{}", run.owner), |app| app.id.to_string())
}

fn live(run: &Run) -> Write {
    if run.state.is_live() {
        let generation = run.app.as_ref().map(|app| app.generation);
        Write::put(Kind::LiveRun, run.id.to_string(), &run.owner, Expect::Anything, &generation).under(history_of(run))
    } else {
        Write::remove(Kind::LiveRun, run.id.to_string(), Expect::Anything)
    }
}

pub(super) fn hold(owner: &Owner, before: Option<&Object<Holdings>>, holdings: &Holdings) -> Write {
    let expect = before.map_or(Expect::Absent, |object| Expect::Revision(object.revision));
    Write::put(Kind::Holdings, owner.as_str(), owner, expect, holdings)
}

/// What a run takes; nothing when there is no container and none to come.
fn wanted(run: &Run) -> Option<Holding> {
    let has_container = run.container.is_some() && !run.removed;
    (run.state.is_live() || has_container).then(|| holding(run))
}

fn holding(run: &Run) -> Holding {
    if !run.state.is_live() {
        return Holding::default();
    }
    let ports = run.spec.ports.len() as u64;
    let volumes = run.spec.volumes.iter().map(|mount| mount.volume.clone()).collect();
    Holding { memory_bytes: run.spec.memory_bytes, milli_cpus: run.spec.milli_cpus, ports, volumes }
}

/// The first quota that does not leave room for the run beside what is held already.
pub(super) fn over_quota(held: &Holdings, run: &Run, quota: &Quota) -> Option<StoreError> {
    let new = holding(run);
    let over = |quota: &'static str, limit: Option<u64>, used: u64, more: u64| {
        let limit = limit?;
        (used.saturating_add(more) > limit).then_some(StoreError::OverQuota { quota, limit, used })
    };
    over("containers", quota.containers, held.containers(), 1)
        .or_else(|| over("memory_bytes", quota.memory_bytes, held.sum(|h| h.memory_bytes), new.memory_bytes))
        .or_else(|| over("milli_cpus", quota.milli_cpus, held.sum(|h| h.milli_cpus), new.milli_cpus))
        .or_else(|| over("ports", quota.ports, held.sum(|h| h.ports), new.ports))
}
