//! One task for each live run, on one process of each node.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Fleet;
use super::log::LogBook;
use super::seen::away;
use super::steps::{Fault, Next, Result};
use super::turns::Turn;
use crate::domain::{Run, RunId, RunState, Scope, Timestamp, WorkerId};
use crate::engine::containers::ContainerState;
use crate::store::{Moved, Topic};

/// How long the right to keep a node's runs is held without a sign of life.
const HOLD: Duration = Duration::from_secs(10);
/// Between two looks at all live runs: for those whose wake-up was lost.
const LOOK: Duration = Duration::from_secs(5);
/// Between two tries of a step while something is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the engine, and if it `keeps` runs, does so while no other process does, until `stop`.
pub async fn keep(fleet: Fleet, keeps: bool, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    tasks.spawn({
        let (fleet, stop) = (fleet.clone(), stop.clone());
        async move { fleet.watch(stop).await }
    });
    let me = WorkerId::unique();
    while !stop.is_cancelled() {
        if keeps && fleet.is_whole() && fleet.has_turn(&me).await {
            keep_while_mine(&fleet, &me, &stop).await;
        }
        tokio::select! { () = tokio::time::sleep(PAUSE) => {} () = stop.cancelled() => {} }
    }
    tasks.close();
    tasks.wait().await;
}

async fn keep_while_mine(fleet: &Fleet, me: &WorkerId, stop: &CancellationToken) {
    let lost = stop.child_token();
    let tasks = TaskTracker::new();
    let keeper = Keeper { fleet: fleet.clone(), driven: Arc::default(), tasks: tasks.clone(), stop: lost.clone() };
    let minding = tokio::spawn(async move { keeper.mind_all().await });
    while !stop.is_cancelled() && fleet.has_turn(me).await {
        tokio::select! { () = tokio::time::sleep(HOLD / 3) => {} () = stop.cancelled() => {} }
    }
    lost.cancel();
    // A step that is cut off is found half done by the next keeper, and goes on from there.
    let _ = minding.await;
    tasks.close();
    tasks.wait().await;
    if let Some(key) = fleet.turn() {
        let _ = fleet.store().unlock(&key, me.as_str()).await;
    }
}

impl Fleet {
    fn turn(&self) -> Option<String> {
        Some(format!("keeper/{}", self.node()?))
    }

    async fn has_turn(&self, me: &WorkerId) -> bool {
        let Some(key) = self.turn() else { return false };
        self.store().lock(&key, me.as_str(), HOLD).await.unwrap_or(false)
    }
}

struct Keeper {
    fleet: Fleet,
    /// Runs that have a task. A std mutex, for it is never held across an await.
    driven: Arc<Mutex<HashSet<RunId>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Keeper {
    async fn mind_all(&self) {
        let mut moved = self.fleet.store().wakes().moved();
        let mut look = tokio::time::interval(LOOK);
        let mut looked = 0;
        loop {
            self.drive_held(&mut looked).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = look.tick() => self.drive_live().await,
                moved = moved.recv() => match moved {
                    Ok(Moved::Run(id)) => self.meet(id),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.drive_live().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    async fn drive_live(&self) {
        match self.fleet.records().live().await {
            Ok(live) => live.into_iter().for_each(|id| self.meet(id)),
            Err(error) => tracing::debug!(%error, "the live runs could not be read"),
        }
    }

    /// What became of containers while nobody looked woke nobody: also those of runs that are over are looked at once the engine's
    /// containers are known, `looked` being for which time.
    async fn drive_held(&self, looked: &mut u64) {
        let lists = self.fleet.lists();
        if lists == *looked || !self.fleet.is_whole() {
            return;
        }
        match self.fleet.records().held().await {
            Ok(held) => {
                held.into_iter().for_each(|id| self.meet(id));
                *looked = lists;
            }
            Err(error) => tracing::debug!(%error, "the runs with containers could not be read"),
        }
    }

    /// Gives the run a task, unless it has one.
    fn meet(&self, id: RunId) {
        if !self.driven.lock().expect("not poisoned, because nothing panics while it is held").insert(id) {
            return;
        }
        let (fleet, driven, stop) = (self.fleet.clone(), Arc::clone(&self.driven), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! { () = drive(&fleet, id) => {} () = stop.cancelled() => {} }
            driven.lock().expect("not poisoned, because nothing panics while it is held").remove(&id);
        });
    }
}

/// Brings one run from where it is to its end.
async fn drive(fleet: &Fleet, id: RunId) {
    let mut moved = fleet.store().wakes().subscribe(Topic::Run(id));
    let (mut book, mut turn) = (None, None);
    loop {
        let next = drive_once(fleet, id, &mut book, &mut turn).await;
        if !matches!(next, Ok(Next::Again)) {
            // Whoever waits does so outside of its turn.
            turn = None;
        }
        match next {
            Ok(Next::Done) => return,
            Ok(Next::Again) => {}
            Ok(Next::WaitForTurn) => {
                let Some(owner) = book.as_ref().map(LogBook::owner) else { continue };
                // Somebody may end it while it waits.
                tokio::select! { mine = fleet.inner.turns.wait(owner) => turn = Some(mine), () = moved.woken(LOOK) => {} }
            }
            Ok(Next::Wait(long)) => moved.woken(long).await,
            Ok(Next::WaitFor(build)) => {
                let mut build = fleet.store().wakes().subscribe(Topic::Build(build));
                tokio::select! { () = moved.woken(LOOK) => {} () = build.woken(LOOK) => {} }
            }
            Err(why) => {
                tracing::debug!(run = %id, why, "a step of the run waits");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One step; what fails the run is written into it. An error is what to wait for.
async fn drive_once(fleet: &Fleet, id: RunId, book: &mut Option<LogBook>, turn: &mut Option<Turn>) -> Result<Next, String> {
    let told = |error: crate::store::StoreError| error.to_string();
    let Some(object) = fleet.records().run(&Scope::All, id).await.map_err(told)? else { return Ok(Next::Done) };
    let run = object.body;
    if !run.state.is_live() {
        return adopt(fleet, &run).await.map_err(|fault| format!("{fault:?}"));
    }
    if book.is_none() {
        *book = Some(LogBook::new(run.clone(), fleet.records().log(&Scope::All, id).await.map_err(told)?));
    }
    let Some(book) = book else { return Ok(Next::Again) };
    if !is_prepared(&run) {
        *turn = None;
    } else if turn.is_none() {
        *turn = fleet.inner.turns.try_now(&run.owner);
        if turn.is_none() {
            return Ok(Next::WaitForTurn);
        }
    }
    let step = tokio::select! {
        step = fleet.step(run, book) => step,
        // An engine that hangs answers nothing: the step is found half done when it is back.
        () = fleet.goes_away() => Err(away().into()),
    };
    let next = match step {
        Err(Fault::Run(error)) => {
            book.note(format!("failed: {}", error.message));
            book.flush(fleet).await.map_err(told)?;
            let at = Timestamp::now();
            let fail = |run: &mut Run| {
                run.failed(error.clone(), at);
                Ok(())
            };
            fleet.records().change(&Scope::All, id, None, fail).await.map_err(told)?;
            Ok(Next::Again)
        }
        Err(Fault::Later(why)) => {
            book.waits(&why);
            Err(why)
        }
        Err(Fault::Store(error)) => Err(error.to_string()),
        Ok(next) => {
            book.goes_on();
            Ok(next)
        }
    };
    book.flush(fleet).await.map_err(told)?;
    next
}

/// Whether its next step is one of those that take long at the engine or a registry.
fn is_prepared(run: &Run) -> bool {
    !run.stop_requested && matches!(run.state, RunState::Pending | RunState::Pulling | RunState::Starting)
}

/// A run that is over and whose container runs nevertheless was started by somebody: it runs again.
async fn adopt(fleet: &Fleet, run: &Run) -> Result<Next> {
    let ours = run.node.is_some() && run.node == fleet.node();
    let Some(container) = run.container.as_deref().filter(|_| ours) else { return Ok(Next::Done) };
    if !fleet.is_whole() {
        return Ok(Next::Done);
    }
    match fleet.container_of(run.id)? {
        Some(seen) if seen.summary.state == ContainerState::Running && run.state != RunState::Running => {
            let details = fleet.engine().inspect(container, false).await?;
            let restarts = details.as_ref().map_or(0, |details| details.restarts);
            let at = details.and_then(|details| details.started_at).unwrap_or_else(Timestamp::now);
            // What is seen may be from before the run's end was written.
            if run.finished_at.is_some_and(|finished| at <= finished) {
                return Ok(Next::Done);
            }
            let runs = |run: &mut Run| {
                run.runs(at);
                run.engine_restarts = restarts;
                Ok(())
            };
            fleet.records().change(&Scope::All, run.id, None, runs).await?;
            let mut book = LogBook::new(run.clone(), fleet.records().log(&Scope::All, run.id).await?);
            book.note("runs again: the engine, or somebody there, has started its container");
            book.flush(fleet).await?;
            tracing::info!(run = %run.id, "its container was started at the engine");
            Ok(Next::Again)
        }
        None if !run.removed => {
            let gone = |run: &mut Run| {
                run.removed = true;
                Ok(())
            };
            fleet.records().change(&Scope::All, run.id, None, gone).await?;
            tracing::info!(run = %run.id, "the container of a run that is over was removed at the engine");
            Ok(Next::Done)
        }
        _ => Ok(Next::Done),
    }
}
