//! One truth, two backends, one contract.
//!
//! A build lives here as its [`BuildRecord`] plus an *envelope* that only the store writes: its revision (grows at every
//! change of the record), the number of its last event, the fence of its newest claim, and the lease of that claim.
//! Every change is ONE atomic, durable commit that compares the revision it was computed from; business
//! rules stay in [`crate::domain`], and the backends stay small.
//!
//! What a commit keeps true, whatever the interleaving (each is a property in `tests/it/store_contract.rs`):
//! - `state == queued` without a lease ⇔ the build stands in the queue, exactly once;
//! - `building` or `pushing` ⇒ there is a lease (so: an owner and a deadline);
//! - terminal ⇒ neither queue, lease nor sealed credentials; what its owner's webhooks are to be told of is noted in the same commit;
//! - events are numbered 1, 2, 3 … without gaps, and each change of a record appends one [`EventBody::State`] with the record;
//! - a worker's write with a fence other than the newest, or after its lease was taken away, is refused as [`StoreError::Lost`].
//!
//! Leases are timed by the store's own clock. A notification only wakes a reader; it is never trusted to carry anything.

#![allow(clippy::missing_errors_doc, reason = "the backends' methods are those of the contract, whose page says how they fail")]
/// Sends a call to whichever backend this is.
macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Store::Sqlite($backend) => $call,
            Store::Redis($backend) => $call,
        }
    };
}

mod contact;
pub mod durations;
mod ended;
pub mod objects;
mod push_turn;
mod query;
mod recent;
pub mod redis;
mod removal;
mod repeats;
mod rules;
pub mod sqlite;
mod supersede;
pub mod tag_push;
mod types;
mod wake;

use std::time::Duration;

use crate::domain::{BuildId, BuildRecord, Event, Fence, LogLine, NodeId, Owner, Scope, Timestamp, Usage, WorkerId};

pub use ended::Ended;
pub use push_turn::PushTurn;
pub use query::{ImageFilter, ListQuery, Page};
pub use removal::{Deleted, ImageRemoval, OUTCOME_KEPT, Removal};
pub use repeats::Repeat;
pub use types::{
    Change, Claim, Guard, Leased, NewBuild, QueueStats, Reaped, Renewal, Result, SET_ASIDE, StoreError, Stored, WorkerInfo,
};
pub use wake::{Moved, Topic, Waker, Wakes};

/// The store, as one of its two backends.
#[derive(Clone)]
pub enum Store {
    Sqlite(sqlite::SqliteStore),
    Redis(redis::RedisStore),
}

impl Store {
    /// Accepts a build: record, job, Dockerfile, credentials and first event in one durable commit.
    /// Repeating it with the same id changes nothing and answers what is stored.
    pub async fn submit(&self, new: &NewBuild) -> Result<Stored> {
        Ok(self.submit_placed(new).await?.0)
    }

    /// [`Store::submit`], and the build's [`Store::position`], in one look.
    pub async fn submit_placed(&self, new: &NewBuild) -> Result<(Stored, Option<u64>)> {
        each!(self, b => b.submit(new).await)
    }

    pub async fn get(&self, scope: &Scope, id: BuildId) -> Result<Option<Stored>> {
        each!(self, b => b.get(scope, id).await)
    }

    /// The build and, while it is queued, its [`Store::position`], in one look.
    pub async fn get_placed(&self, scope: &Scope, id: BuildId) -> Result<Option<(Stored, Option<u64>)>> {
        each!(self, b => b.get_placed(scope, id).await)
    }

    pub async fn dockerfile(&self, scope: &Scope, id: BuildId) -> Result<Option<Vec<u8>>> {
        each!(self, b => b.dockerfile(scope, id).await)
    }

    pub async fn list(&self, query: &ListQuery) -> Result<Page> {
        each!(self, b => b.list(query).await)
    }

    /// Takes the next build, if there is one: owners take turns; inside an owner the higher priority, then the older, goes first.
    /// The lease runs from now, by the store's clock; the fence and the attempt grow by one. A build's
    /// first event of the claim is durable before this answers.
    ///
    /// A build that this version cannot read is passed over: see [`SET_ASIDE`].
    pub async fn claim(&self, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
        each!(self, b => b.claim(worker, node, lease).await)
    }

    /// Prolongs a lease from now; also one that has run out, as long as nobody has taken the build since.
    pub async fn renew(&self, id: BuildId, fence: Fence, lease: Duration) -> Result<Renewal> {
        each!(self, b => b.renew(id, fence, lease).await)
    }

    /// Changes a record by a rule of the domain. `change` may be called again when another change came between;
    /// it sees the build as it is and the store's time. Appends one state event if the record differs afterwards.
    /// `Ok(None)`: no such build in the guard's scope. A build that becomes `queued` goes back to the head of its owner's queue
    /// and its lease ends; one that becomes terminal loses lease and credentials.
    ///
    /// After [`StoreError::Unavailable`] the change may have been made: a caller that repeats needs a rule that can be repeated.
    pub async fn update<F>(&self, id: BuildId, guard: &Guard, change: F) -> Result<Option<Stored>>
    where
        F: Fn(&mut BuildRecord, Timestamp, Leased) -> Result<()> + Send + Sync + 'static,
    {
        each!(self, b => b.update(id, guard, std::sync::Arc::new(change)).await)
    }

    /// Appends lines to the log. `batch` counts up from 1 within a claim; a batch that was written before is not written again.
    /// Answers the number of the newest event.
    pub async fn append_log(&self, id: BuildId, fence: Fence, batch: u64, lines: &[LogLine]) -> Result<u64> {
        each!(self, b => b.append_log(id, fence, batch, lines).await)
    }

    /// Events with a number above `after`, in order, at most `limit`. `None`: no such build. Empty also when the hot copy
    /// has expired (see [`Store::drop_hot_log`]).
    pub async fn events(&self, scope: &Scope, id: BuildId, after: u64, limit: usize) -> Result<Option<Vec<Event>>> {
        each!(self, b => b.events(scope, id, after, limit).await)
    }

    /// Marks the log as archived and removes the events. Refused unless the build is terminal; nothing happens when it is gone.
    /// The mark is the one change of a record that appends no event, for its readers have come to the end.
    pub async fn drop_hot_log(&self, id: BuildId) -> Result<()> {
        each!(self, b => b.drop_hot_log(id).await)
    }

    /// Ended builds whose events are still hot and that ended before `before`, oldest first.
    pub async fn unarchived(&self, before: Timestamp, limit: usize) -> Result<Vec<BuildId>> {
        each!(self, b => b.unarchived(before, limit).await)
    }

    /// How many builds would be claimed before this one, if it is queued.
    pub async fn position(&self, id: BuildId) -> Result<Option<u64>> {
        Ok(self.positions(&[id]).await?.pop().flatten())
    }

    /// The [`Store::position`] of each, in one look.
    pub async fn positions(&self, ids: &[BuildId]) -> Result<Vec<Option<u64>>> {
        each!(self, b => b.positions(ids).await)
    }

    /// Deals with every lease that has run out (see [`BuildRecord::lapsed`]).
    ///
    /// After an outage of the store (failures for more than 2 s, as this process saw them) a lease that ran out since the outage
    /// began is left alone for its own length, counted from the end of the outage: its worker could not renew it, and may now.
    pub async fn reap(&self) -> Result<Vec<Reaped>> {
        each!(self, b => b.reap().await)
    }

    /// Takes out the record with its job, events, Dockerfile and credentials, and in the same commit leaves the removal of its image
    /// to its node. `None`: no such build in the scope. A worker that still has it is told `Lost`.
    pub async fn delete(&self, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
        each!(self, b => b.delete(scope, id).await)
    }

    /// Live builds with sealed credentials, by id above `after`, for a key's change.
    pub async fn sealed(&self, after: Option<BuildId>, limit: usize) -> Result<Vec<(BuildId, Owner, Vec<u8>)>> {
        each!(self, b => b.sealed(after, limit).await)
    }

    /// Replaces sealed credentials that are still `old`; true when they were.
    pub async fn reseal(&self, id: BuildId, old: &[u8], new: &[u8]) -> Result<bool> {
        each!(self, b => b.reseal(id, old, new).await)
    }

    /// Gives an ended build to another owner. `Ok(None)`: `from` has no such build. Refused while it is live.
    pub async fn transfer(&self, id: BuildId, from: &Owner, to: &Owner) -> Result<Option<Stored>> {
        each!(self, b => b.transfer(id, from, to).await)
    }

    /// How many builds of an owner may be in hands at once, from now on.
    pub async fn set_cap(&self, owner: &Owner, cap: Option<u64>) -> Result<()> {
        each!(self, b => b.set_cap(owner, cap).await)
    }

    /// What an account uses now.
    pub async fn usage(&self, owner: &Owner) -> Result<Usage> {
        each!(self, b => b.usage(owner).await)
    }

    /// Builds that have ended and that were not yet told of ([`Store::ended_done`]), in the order of their ends: those whose owner had a
    /// webhook (an object of [`objects::Kind::Webhook`]) in the very commit that ended them, by whatever: a worker, a cancel, a lapse.
    pub async fn ended(&self, limit: usize) -> Result<Vec<Ended>> {
        each!(self, b => b.ended(limit).await)
    }

    /// These have been told of, or were made into something that is as durable.
    pub async fn ended_done(&self, builds: &[BuildId]) -> Result<()> {
        each!(self, b => b.ended_done(builds).await)
    }

    /// Images that a node is still to remove.
    pub async fn removals(&self, node: &NodeId) -> Result<Vec<Removal>> {
        each!(self, b => b.removals(node).await)
    }

    /// The node has dealt with a removal; the outcome is kept for [`OUTCOME_KEPT`].
    pub async fn removal_done(&self, removal: &Removal, outcome: ImageRemoval) -> Result<()> {
        each!(self, b => b.removal_done(removal, outcome).await)
    }

    /// `None` while the removal is outstanding.
    pub async fn removal_outcome(&self, id: BuildId) -> Result<Option<ImageRemoval>> {
        each!(self, b => b.removal_outcome(id).await)
    }

    /// Which of these builds exist; for the janitor, that looks for what has no record.
    pub async fn existing(&self, ids: &[BuildId]) -> Result<Vec<BuildId>> {
        each!(self, b => b.existing(ids).await)
    }

    /// Takes a named lock for `ttl` by the store's clock; true when `holder` has it (again).
    pub async fn lock(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        each!(self, b => b.lock(key, holder, ttl).await)
    }

    /// Gives a lock back; nothing happens when `holder` does not have it. Wakes those who wait on [`Topic::Locks`].
    pub async fn unlock(&self, key: &str, holder: &str) -> Result<()> {
        each!(self, b => b.unlock(key, holder).await)
    }

    /// A worker's sign of life; `seen_at` is set by the store.
    pub async fn put_worker(&self, info: &WorkerInfo) -> Result<()> {
        each!(self, b => b.put_worker(info).await)
    }

    pub async fn remove_worker(&self, worker: &WorkerId) -> Result<()> {
        each!(self, b => b.remove_worker(worker).await)
    }

    /// Workers seen within `within`.
    pub async fn workers(&self, within: Duration) -> Result<Vec<WorkerInfo>> {
        each!(self, b => b.workers(within).await)
    }

    pub async fn stats(&self) -> Result<QueueStats> {
        each!(self, b => b.stats().await)
    }

    /// Answers when the backend can take a write.
    pub async fn ping(&self) -> Result<()> {
        each!(self, b => b.ping().await)
    }

    /// Plain-word warnings about settings with which an accepted build could be lost.
    pub async fn warnings(&self) -> Result<Vec<String>> {
        each!(self, b => b.warnings().await)
    }

    /// What wakes readers of this store.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        each!(self, b => b.wakes())
    }
}
