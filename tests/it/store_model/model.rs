//! The store in a few lines: what the contract says, with nothing of how it is kept.

use std::collections::{BTreeMap, HashMap};

use dockwright::domain::{BuildId, BuildRecord, BuildState, Fence};
use dockwright::store::{Claim, NewBuild, Stored};

#[derive(Clone)]
pub struct Expected {
    pub record: BuildRecord,
    pub revision: u64,
    pub last_seq: u64,
    pub fence: Fence,
    pub leased: bool,
    /// Whether its lease has run out.
    pub overdue: bool,
    pub batch: u64,
    /// Came back into the queue.
    came_back: bool,
    /// Order of acceptance.
    order: usize,
    new: NewBuild,
}

#[derive(Default)]
pub struct Model {
    builds: BTreeMap<BuildId, Expected>,
    gone: Vec<BuildId>,
    accepted: usize,
    turns: u64,
    last_turn: HashMap<String, u64>,
}

impl Model {
    pub fn submit(&mut self, new: NewBuild) {
        let record = new.record.clone();
        let expected = Expected {
            record: record.clone(),
            revision: 1,
            last_seq: 1,
            fence: Fence(0),
            leased: false,
            overdue: false,
            batch: 0,
            came_back: false,
            order: self.accepted,
            new,
        };
        self.accepted += 1;
        self.builds.insert(record.id, expected);
    }

    pub fn nth(&self, n: usize) -> Option<BuildId> {
        (!self.builds.is_empty()).then(|| *self.builds.keys().nth(n % self.builds.len()).expect("modulo how many there are"))
    }

    pub fn accepted(&self, n: usize) -> Option<NewBuild> {
        self.nth(n).map(|id| self.builds[&id].new.clone())
    }

    pub fn build(&self, id: BuildId) -> &Expected {
        &self.builds[&id]
    }

    pub fn builds(&self) -> impl Iterator<Item = &Expected> {
        self.builds.values()
    }

    pub fn gone(&self) -> &[BuildId] {
        &self.gone
    }

    pub fn held(&mut self, id: BuildId, fence: Fence) -> Option<&mut Expected> {
        self.builds.get_mut(&id).filter(|build| build.leased && build.fence == fence)
    }

    pub fn claimed(&mut self, claim: &Claim, overdue: bool) {
        let build = self.builds.get_mut(&claim.stored.record.id).expect("it is known");
        assert_eq!((build.record.state, build.leased), (BuildState::Queued, false));
        assert_eq!(claim.fence, Fence(build.fence.0 + 1));
        assert_eq!(claim.sealed, build.new.sealed, "credentials last as long as the build does");
        let record = &claim.stored.record;
        assert!(matches!(record.state, BuildState::Building | BuildState::Pushing));
        assert_eq!(record.attempt, claim.fence.0);
        self.turns += 1;
        self.last_turn.insert(record.owner.to_string(), self.turns);
        build.fence = claim.fence;
        build.leased = true;
        build.overdue = overdue;
        build.batch = 0;
        build.record = record.clone();
        build.revision += 1;
        build.last_seq += 1;
    }

    /// A rule of the domain has changed the build, or left it as it was.
    pub fn changed(&mut self, stored: Stored) {
        let build = self.builds.get_mut(&stored.record.id).expect("it is known");
        if stored.record == build.record {
            return;
        }
        build.revision += 1;
        build.last_seq += 1;
        let before = std::mem::replace(&mut build.record, stored.record);
        let back = build.record.state == BuildState::Queued && before.state != BuildState::Queued;
        build.came_back |= back;
        if back || build.record.state.is_terminal() {
            build.leased = false;
            build.overdue = false;
        }
    }

    pub fn lapsed(&mut self, stored: Stored) {
        let before = self.builds[&stored.record.id].record.clone();
        if before.cancel_requested {
            assert_eq!(stored.record.state, BuildState::Cancelled);
        } else {
            assert_eq!(stored.record.crashes, before.crashes + 1);
        }
        self.changed(stored);
    }

    pub fn deleted(&mut self, id: BuildId) -> Expected {
        self.gone.push(id);
        self.builds.remove(&id).expect("it is known")
    }

    pub fn overdue(&self) -> Vec<BuildId> {
        self.builds.values().filter(|build| build.leased && build.overdue).map(|build| build.record.id).collect()
    }

    /// Queued, running.
    pub fn stats(&self) -> (u64, u64) {
        let running = self.builds.values().filter(|build| build.leased).count();
        (self.order().len() as u64, running as u64)
    }

    /// The queue in the order in which it would be claimed.
    pub fn order(&self) -> Vec<BuildId> {
        let mut queues: BTreeMap<&str, Vec<&Expected>> = BTreeMap::new();
        for build in self.builds.values().filter(|build| build.record.state == BuildState::Queued) {
            queues.entry(build.record.owner.as_str()).or_default().push(build);
        }
        for queue in queues.values_mut() {
            // Last is next.
            queue.sort_by_key(|build| (build.came_back, build.record.spec.priority, usize::MAX - build.order));
        }
        let mut turns = self.turns;
        let mut last_turn = self.last_turn.clone();
        let mut order = Vec::new();
        let turn_of =
            |last_turn: &HashMap<String, u64>, owner: &str| (last_turn.get(owner).copied().unwrap_or(0), owner.to_owned());
        while let Some(owner) = queues.keys().copied().min_by_key(|owner| turn_of(&last_turn, owner)) {
            let queue = queues.get_mut(owner).expect("one of its keys");
            order.push(queue.pop().expect("no queue is empty").record.id);
            if queue.is_empty() {
                queues.remove(owner);
            }
            turns += 1;
            last_turn.insert(owner.to_owned(), turns);
        }
        order
    }
}
