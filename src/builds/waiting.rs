//! Why a queued build has not begun, and when it may.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::Builds;
use crate::domain::{BuildRecord, BuildState, Owner, Scope, User};
use crate::error::Result;
use crate::store::durations::Of;
use crate::store::objects::Kind;
use crate::store::{Stored, WorkerInfo};

/// A worker that has not said for this long that it is alive does not count.
pub const WORKER_SEEN: Duration = Duration::from_secs(10);
/// Owners and projects that are looked up for one answer: a list of very many is told less, not later.
const LOOKED_UP: usize = 20;

/// What has to happen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Others go before it.
    Turn,
    /// Its owner has as many in hands as it may.
    Quota,
    /// A worker with a free slot, or any worker.
    Worker,
    /// An engine that answers.
    Engine,
    /// Room on the workers' disks.
    Disk,
}

/// The answer to "why is it waiting?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub waits_for: WaitsFor,
    /// One line for people.
    pub detail: String,
    /// Until it begins, as far as past builds tell; `None` when there are none, or nobody can know.
    pub estimate: Option<Duration>,
    /// How long builds of its project usually took lately.
    pub usual: Option<Duration>,
}

/// All workers together.
#[derive(Default)]
struct Crew {
    workers: u64,
    engines: u64,
    able: u64,
    slots: u64,
    free: u64,
    /// Workers that have nothing in hands.
    idle: u64,
    /// Workers that take nothing until they have nothing in hands, to do one build alone.
    clearing: u64,
}

impl Crew {
    fn of(workers: &[WorkerInfo]) -> Self {
        let mut crew = Self::default();
        for worker in workers {
            let able = worker.engine_ready && !worker.disk_full;
            crew.workers += 1;
            crew.engines += u64::from(worker.engine_ready);
            crew.able += u64::from(able);
            crew.slots += if able { u64::from(worker.slots) } else { 0 };
            let takes = able && !worker.clearing;
            crew.free += if takes { u64::from(worker.slots.saturating_sub(worker.running)) } else { 0 };
            crew.idle += u64::from(able && worker.running == 0);
            crew.clearing += u64::from(able && worker.clearing);
        }
        crew
    }

    /// What no build at all can do without.
    fn missing(&self) -> Option<(WaitsFor, String)> {
        let all = self.workers;
        if all == 0 {
            return Some((WaitsFor::Worker, "no worker has shown itself lately".into()));
        }
        if self.engines == 0 {
            return Some((WaitsFor::Engine, format!("the engine of none of {all} workers answers")));
        }
        (self.able == 0).then(|| (WaitsFor::Disk, "the disk of every worker with an engine is full".into()))
    }

    /// What the build that is next waits for.
    fn next(&self, alone: bool) -> String {
        let slots = self.slots;
        match (alone, self.free, self.clearing) {
            (true, ..) if self.idle == 0 => {
                "workers were lost with it, so it is done alone: it waits for one without other builds".into()
            }
            (false, 0, 0) => format!("it is the next one; every slot for builds ({slots}) is taken"),
            (false, 0, _) => {
                format!("it is the next one; every slot for builds ({slots}) is taken, or kept for a build that is done alone")
            }
            _ => "it is the next one; a worker is about to take it".into(),
        }
    }

    /// Until a build at this position begins, when each takes as long: those at work are half through, as it were.
    fn wait(&self, took: Duration, position: u64, alone: bool) -> Duration {
        if alone && self.idle == 0 {
            wait(took, position, 0, self.slots).max(took / 2)
        } else {
            wait(took, position, self.free, self.slots)
        }
    }
}

/// What is looked up for one answer.
struct Look<'a> {
    builds: &'a Builds,
    crew: Crew,
    everybody: Option<Duration>,
    quotas: HashMap<Owner, Option<u64>>,
    owners: HashMap<Owner, Option<Duration>>,
    usual: HashMap<(Owner, String), Option<Duration>>,
}

impl Builds {
    /// Why each of these waits, by their positions; `None` for those that do not. What cannot be asked now is left out.
    pub async fn waiting(&self, builds: &[Stored], positions: &[Option<u64>]) -> Vec<Option<Waiting>> {
        let queued = |(build, position): (&Stored, &Option<u64>)| position.filter(|_| build.record.state == BuildState::Queued);
        if !builds.iter().zip(positions).any(|pair| queued(pair).is_some()) {
            return vec![None; builds.len()];
        }
        match self.look(builds, positions).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::debug!(%error, "why builds wait is not known now");
                vec![None; builds.len()]
            }
        }
    }

    async fn look(&self, builds: &[Stored], positions: &[Option<u64>]) -> Result<Vec<Option<Waiting>>> {
        let crew = Crew::of(&self.store.workers(WORKER_SEEN).await?);
        let everybody = self.store.durations(Of::Everybody).await?.usual();
        let mut look =
            Look { builds: self, crew, everybody, quotas: HashMap::new(), owners: HashMap::new(), usual: HashMap::new() };
        let mut waiting = Vec::with_capacity(builds.len());
        for (build, position) in builds.iter().zip(positions) {
            let position = position.filter(|_| build.record.state == BuildState::Queued);
            waiting.push(match position {
                Some(position) => Some(look.explain(&build.record, position).await?),
                None => None,
            });
        }
        Ok(waiting)
    }
}

impl Look<'_> {
    async fn explain(&mut self, record: &BuildRecord, position: u64) -> Result<Waiting> {
        let usual = self.usual(record).await?;
        let answer = |waits_for, detail, estimate| Waiting { waits_for, detail, estimate, usual };
        if let Some((waits_for, detail)) = self.crew.missing() {
            return Ok(answer(waits_for, detail, None));
        }
        let took = match usual {
            Some(usual) => Some(usual),
            None => self.usual_of(&record.owner).await?.or(self.everybody),
        };
        if let Some(cap) = self.reached_cap(&record.owner).await? {
            let detail = format!("quota builds_running: the limit is {cap}, and {cap} are used");
            return Ok(answer(WaitsFor::Quota, detail, took.map(|took| wait(took, position, 0, cap.min(self.crew.slots)))));
        }
        let alone = record.is_last_try();
        let estimate = took.map(|took| self.crew.wait(took, position, alone));
        Ok(match position {
            0 => answer(WaitsFor::Worker, self.crew.next(alone), estimate),
            1 => answer(WaitsFor::Turn, "1 build goes before it".into(), estimate),
            before => answer(WaitsFor::Turn, format!("{before} builds go before it"), estimate),
        })
    }

    async fn usual(&mut self, record: &BuildRecord) -> Result<Option<Duration>> {
        let key = (record.owner.clone(), record.spec.project.clone());
        if let Some(known) = self.usual.get(&key) {
            return Ok(*known);
        }
        if self.usual.len() >= LOOKED_UP {
            return Ok(None);
        }
        let usual = self.builds.store.durations(Of::Project(&key.0, &key.1)).await?.usual();
        self.usual.insert(key, usual);
        Ok(usual)
    }

    async fn usual_of(&mut self, owner: &Owner) -> Result<Option<Duration>> {
        if let Some(known) = self.owners.get(owner) {
            return Ok(*known);
        }
        if self.owners.len() >= LOOKED_UP {
            return Ok(None);
        }
        let usual = self.builds.store.durations(Of::Owner(owner)).await?.usual();
        self.owners.insert(owner.clone(), usual);
        Ok(usual)
    }

    /// How many an owner may have in hands, if it has as many.
    async fn reached_cap(&mut self, owner: &Owner) -> Result<Option<u64>> {
        if let Some(known) = self.quotas.get(owner) {
            return Ok(*known);
        }
        if self.quotas.len() >= LOOKED_UP {
            return Ok(None);
        }
        let store = &self.builds.store;
        let user = store.object::<User>(&Scope::All, Kind::User, owner.as_str()).await?;
        let cap = match user.and_then(|user| user.body.quota.builds_running) {
            Some(cap) => (store.usage(owner).await?.builds_running >= cap).then_some(cap),
            None => None,
        };
        self.quotas.insert(owner.clone(), cap);
        Ok(cap)
    }
}

/// Until a build at this position begins, when each takes as long: those at work are half through, as it were.
fn wait(took: Duration, position: u64, free: u64, slots: u64) -> Duration {
    let ends_first = (position + 1).saturating_sub(free);
    if ends_first == 0 {
        return Duration::ZERO;
    }
    let halves = u32::try_from(ends_first.saturating_mul(2) - 1).unwrap_or(u32::MAX);
    took.saturating_mul(halves) / u32::try_from(slots.max(1).saturating_mul(2)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{NodeId, Timestamp, WorkerId};

    fn worker(running: u32, engine_ready: bool, disk_full: bool) -> WorkerInfo {
        WorkerInfo {
            worker: WorkerId::unique(),
            node: NodeId::new("n"),
            slots: 2,
            running,
            engine_ready,
            disk_full,
            clearing: false,
            engine: String::new(),
            seen_at: Timestamp::now(),
        }
    }

    #[test]
    fn what_nothing_can_do_without_is_told_first() {
        let missing = |workers: &[WorkerInfo]| Crew::of(workers).missing().map(|(what, _)| what);
        assert_eq!(missing(&[]), Some(WaitsFor::Worker));
        assert_eq!(missing(&[worker(0, false, false), worker(0, false, true)]), Some(WaitsFor::Engine));
        assert_eq!(missing(&[worker(0, false, false), worker(0, true, true)]), Some(WaitsFor::Disk));
        assert_eq!(missing(&[worker(2, true, false), worker(0, false, true)]), None);
    }

    #[test]
    fn a_build_that_is_done_alone_waits_for_a_whole_worker_and_others_behind_it() {
        let minute = Duration::from_secs(60);
        let told = |workers: &[WorkerInfo], alone| {
            let crew = Crew::of(workers);
            (crew.next(alone).split(':').next().expect("text").to_owned(), crew.wait(minute, 0, alone).as_secs())
        };
        let half = [worker(1, true, false)];
        assert_eq!(told(&half, false), ("it is the next one; a worker is about to take it".into(), 0));
        assert_eq!(told(&half, true), ("workers were lost with it, so it is done alone".into(), 30));
        let clearing = [WorkerInfo { clearing: true, ..worker(1, true, false) }];
        let kept = "it is the next one; every slot for builds (2) is taken, or kept for a build that is done alone";
        assert_eq!(told(&clearing, false), (kept.into(), 15));
        let idle = [worker(1, true, false), worker(0, true, false)];
        assert_eq!(told(&idle, true), ("it is the next one; a worker is about to take it".into(), 0));
    }

    #[test]
    fn the_estimate_counts_those_before_it_and_the_slots() {
        let seconds = |position, free, slots| wait(Duration::from_secs(60), position, free, slots).as_secs();
        assert_eq!(seconds(0, 1, 4), 0, "there is a slot for it");
        assert_eq!(seconds(0, 0, 1), 30);
        assert_eq!(seconds(2, 0, 1), 150);
        assert_eq!(seconds(2, 0, 2), 75);
        assert!(seconds(u64::MAX - 1, 0, 0) > 1_000_000, "and no number is too large");
    }
}
