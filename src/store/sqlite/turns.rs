//! The queue in memory, for one question: how many builds go before this one?

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use rusqlite::Connection;

use super::events::parse_id;
use crate::domain::{BuildId, Owner};
use crate::store::{Result, StoreError};

/// Builds that came back go first, then the higher priority: the same order as that of the index `build_in_queue`.
type Rank = (Reverse<bool>, Reverse<i8>);

#[derive(Default)]
pub(super) struct Turns {
    owners: Vec<Waiting>,
    numbers: HashMap<Owner, usize>,
    slots: HashMap<BuildId, Slot>,
    /// Builds that are worked on, with the number of their owner.
    in_hands: HashMap<BuildId, usize>,
}

/// An owner's queue.
struct Waiting {
    owner: Owner,
    /// The number of their last turn.
    last: i64,
    /// How many builds of the owner may be in hands, and how many are.
    cap: Option<usize>,
    in_hands: usize,
    count: usize,
    /// The rows' numbers, ascending: the order of acceptance.
    ranks: BTreeMap<Rank, VecDeque<i64>>,
}

/// Where a queued build stands.
#[derive(Clone, Copy)]
struct Slot {
    owner: usize,
    rank: Rank,
    num: i64,
}

impl Turns {
    /// As the file has it.
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let mut turns = Self::default();
        let mut statement = conn.prepare("SELECT owner, last FROM turn")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            turns.had_turn(&parse_owner(row.get(0)?)?, row.get(1)?);
        }
        let mut statement =
            conn.prepare("SELECT id, owner, requeued, priority, num FROM build WHERE state = 'queued' ORDER BY num")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = parse_id(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
            turns.enter(id, &parse_owner(row.get(1)?)?, row.get(2)?, row.get(3)?, row.get(4)?);
        }
        let mut statement = conn.prepare("SELECT owner, cap FROM tenant WHERE cap IS NOT NULL")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            turns.may_have(&parse_owner(row.get(0)?)?, row.get(1)?);
        }
        Ok(turns)
    }

    /// How many builds of the owner may be in hands.
    pub(super) fn may_have(&mut self, owner: &Owner, cap: Option<u64>) {
        let number = self.number(owner);
        self.owners[number].cap = cap.map(|cap| usize::try_from(cap).unwrap_or(usize::MAX));
    }

    /// Whether somebody works on the build.
    pub(super) fn hold(&mut self, id: BuildId, owner: &Owner, held: bool) {
        if held == self.in_hands.contains_key(&id) {
            return;
        }
        let number = self.number(owner);
        if held {
            self.in_hands.insert(id, number);
            self.owners[number].in_hands += 1;
        } else {
            self.in_hands.remove(&id);
            self.owners[number].in_hands -= 1;
        }
    }

    /// It is no more, wherever it stood.
    pub(super) fn gone(&mut self, id: BuildId) {
        self.leave(id);
        if let Some(number) = self.in_hands.remove(&id) {
            self.owners[number].in_hands -= 1;
        }
    }

    pub(super) fn had_turn(&mut self, owner: &Owner, last: i64) {
        let number = self.number(owner);
        self.owners[number].last = last;
    }

    pub(super) fn enter(&mut self, id: BuildId, owner: &Owner, requeued: bool, priority: i8, num: i64) {
        let rank = (Reverse(requeued), Reverse(priority));
        let owner = self.number(owner);
        let waiting = &mut self.owners[owner];
        let queue = waiting.ranks.entry(rank).or_default();
        // A new build has the highest number, and so goes to the end.
        queue.insert(queue.partition_point(|other| *other < num), num);
        waiting.count += 1;
        self.slots.insert(id, Slot { owner, rank, num });
    }

    /// Nothing happens when it does not stand in the queue.
    pub(super) fn leave(&mut self, id: BuildId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        let waiting = &mut self.owners[slot.owner];
        let Some(queue) = waiting.ranks.get_mut(&slot.rank) else { return };
        if let Ok(index) = queue.binary_search(&slot.num) {
            queue.remove(index);
            waiting.count -= 1;
        }
        if queue.is_empty() {
            waiting.ranks.remove(&slot.rank);
        }
    }

    /// Plays the round of turns until this build's: in each round every owner with builds left gets one, in the order of their
    /// last turns, so that another owner takes as many as this build's place, and one more when their turn comes first; but no more than
    /// it may have in hands.
    pub(super) fn place(&self, id: BuildId) -> Option<u64> {
        let slot = self.slots.get(&id)?;
        let own = &self.owners[slot.owner];
        let place = own.place(slot);
        let others = self.owners.iter().enumerate().filter(|(number, other)| *number != slot.owner && other.count > 0);
        let before: usize = others
            .map(|(_, other)| other.takes().min(place + usize::from((other.last, &other.owner) < (own.last, &own.owner))))
            .sum();
        Some((place + before) as u64)
    }

    fn number(&mut self, owner: &Owner) -> usize {
        if let Some(number) = self.numbers.get(owner) {
            return *number;
        }
        self.owners.push(Waiting { owner: owner.clone(), last: 0, cap: None, in_hands: 0, count: 0, ranks: BTreeMap::new() });
        self.numbers.insert(owner.clone(), self.owners.len() - 1);
        self.owners.len() - 1
    }
}

impl Waiting {
    /// How many builds can be taken of the owner's before one of them ends.
    fn takes(&self) -> usize {
        self.cap.map_or(self.count, |cap| self.count.min(cap.saturating_sub(self.in_hands)))
    }

    /// How many of the owner's own builds go before this one.
    fn place(&self, slot: &Slot) -> usize {
        let higher: usize = self.ranks.range(..slot.rank).map(|(_, queue)| queue.len()).sum();
        let older = self.ranks.get(&slot.rank).map_or(0, |queue| queue.partition_point(|num| *num < slot.num));
        higher + older
    }
}

fn parse_owner(text: String) -> Result<Owner> {
    text.try_into().map_err(|e| StoreError::Internal(format!("a stored owner does not parse: {e}")))
}
