//! The contract of [`crate::store::Store`], method by method: what goes to the writer and what to the readers.

use std::sync::Arc;
use std::time::Duration;

use super::clock::to_millis;
use super::live::Look;
use super::writer::Txn;
use super::{SqliteStore, aside, ended, events, list, objects, queue, quota, rows};
use crate::domain::{BuildId, BuildState, Event, Fence, LogLine, NodeId, Owner, Scope, Timestamp, Usage, WorkerId};
use crate::store::objects::{Hits, Kind, Object, ObjectQuery, Write};
use crate::store::{
    Change, Claim, Deleted, Ended, Guard, ImageRemoval, ListQuery, NewBuild, OUTCOME_KEPT, Page, QueueStats, Reaped, Removal,
    Renewal, Result, StoreError, Stored, Wakes, WorkerInfo,
};

impl SqliteStore {
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T> + Send + 'static,
    {
        let result = self.inner.writer.run(work).await;
        match &result {
            Err(StoreError::Full | StoreError::Unavailable(_)) => self.inner.contact.failed(),
            _ => self.inner.contact.succeeded(),
        }
        result
    }

    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    {
        self.inner.readers.run(query).await
    }

    pub async fn submit(&self, new: &NewBuild) -> Result<(Stored, Option<u64>)> {
        let accept = rows::Accept::of(new)?;
        let stored = self.write(move |txn| rows::submit(txn, accept)).await?;
        let place = self.inner.live.places(&[new.record.id])[0];
        Ok((Arc::unwrap_or_clone(stored), place))
    }

    pub async fn get(&self, scope: &Scope, id: BuildId) -> Result<Option<Stored>> {
        Ok(self
            .look(id)
            .await?
            .filter(|(stored, _)| scope.covers(&stored.record.owner))
            .map(|(stored, _)| Arc::unwrap_or_clone(stored)))
    }

    /// The build and its place in the queue, from memory or else from the file.
    async fn look(&self, id: BuildId) -> Result<Option<(Arc<Stored>, Option<u64>)>> {
        let ticket = match self.inner.live.look(id) {
            Look::Here(stored, place) => return Ok(Some((stored, place))),
            Look::Absent(ticket) => ticket,
        };
        let live = Arc::clone(&self.inner.live);
        self.read(move |conn| {
            let read = rows::Entry::find(conn, id)?.map(|entry| (Arc::new(entry.stored), entry.weight));
            let place = live.fill(id, ticket, read.clone());
            Ok(read.map(|(stored, _)| (stored, place)))
        })
        .await
    }

    pub async fn get_placed(&self, scope: &Scope, id: BuildId) -> Result<Option<(Stored, Option<u64>)>> {
        let mut found = self.look(id).await?;
        if found.as_ref().is_some_and(|(stored, place)| (stored.record.state == BuildState::Queued) != place.is_some()) {
            self.inner.live.caught_up().await;
            found = self.look(id).await?;
        }
        let found = found.filter(|(stored, _)| scope.covers(&stored.record.owner));
        Ok(found.map(|(stored, place)| {
            let place = place.filter(|_| stored.record.state == BuildState::Queued);
            (Arc::unwrap_or_clone(stored), place)
        }))
    }

    pub async fn dockerfile(&self, scope: &Scope, id: BuildId) -> Result<Option<Vec<u8>>> {
        let scope = scope.clone();
        self.read(move |conn| rows::dockerfile(conn, &scope, id)).await
    }

    pub async fn list(&self, query: &ListQuery) -> Result<Page> {
        let query = query.clone();
        self.read(move |conn| list::list(conn, &query)).await
    }

    pub async fn claim(&self, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
        let (worker, node) = (worker.clone(), node.clone());
        self.write(move |txn| queue::claim(txn, &worker, &node, lease)).await
    }

    pub async fn renew(&self, id: BuildId, fence: Fence, lease: Duration) -> Result<Renewal> {
        self.write(move |txn| queue::renew(txn, id, fence, lease)).await
    }

    pub async fn update(&self, id: BuildId, guard: &Guard, change: Change) -> Result<Option<Stored>> {
        let guard = guard.clone();
        self.write(move |txn| rows::update(txn, id, &guard, &change)).await
    }

    pub async fn append_log(&self, id: BuildId, fence: Fence, batch: u64, lines: &[LogLine]) -> Result<u64> {
        let bodies = events::bodies(lines);
        self.write(move |txn| events::append_log(txn, id, fence, batch, &bodies)).await
    }

    pub async fn events(&self, scope: &Scope, id: BuildId, after: u64, limit: usize) -> Result<Option<Vec<Event>>> {
        let scope = scope.clone();
        self.read(move |conn| events::events(conn, &scope, id, after, limit)).await
    }

    pub async fn drop_hot_log(&self, id: BuildId) -> Result<()> {
        self.write(move |txn| events::drop_hot_log(txn, id)).await
    }

    pub async fn unarchived(&self, before: Timestamp, limit: usize) -> Result<Vec<BuildId>> {
        self.read(move |conn| events::unarchived(conn, before, limit)).await
    }

    pub async fn positions(&self, ids: &[BuildId]) -> Result<Vec<Option<u64>>> {
        let places = self.inner.live.places(ids);
        if places.iter().all(Option::is_some) {
            return Ok(places);
        }
        self.inner.live.caught_up().await;
        Ok(self.inner.live.places(ids))
    }

    pub async fn reap(&self) -> Result<Vec<Reaped>> {
        let contact = Arc::clone(&self.inner.contact);
        self.write(move |txn| queue::reap(txn, &contact)).await
    }

    pub async fn delete(&self, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
        let scope = scope.clone();
        self.write(move |txn| aside::delete(txn, &scope, id)).await
    }

    pub async fn set_cap(&self, owner: &Owner, cap: Option<u64>) -> Result<()> {
        let owner = owner.clone();
        self.write(move |txn| quota::set_cap(txn, &owner, cap)).await
    }

    pub async fn usage(&self, owner: &Owner) -> Result<Usage> {
        let owner = owner.clone();
        self.read(move |conn| quota::usage(conn, &owner)).await
    }

    pub async fn sealed(&self, after: Option<BuildId>, limit: usize) -> Result<Vec<(BuildId, Owner, Vec<u8>)>> {
        self.read(move |conn| aside::all_sealed(conn, after, limit)).await
    }

    pub async fn reseal(&self, id: BuildId, old: &[u8], new: &[u8]) -> Result<bool> {
        let (old, new) = (old.to_vec(), new.to_vec());
        self.write(move |txn| aside::reseal(txn, id, &old, &new)).await
    }

    pub async fn transfer(&self, id: BuildId, from: &Owner, to: &Owner) -> Result<Option<Stored>> {
        let (from, to) = (from.clone(), to.clone());
        self.write(move |txn| aside::transfer(txn, id, &from, &to)).await
    }

    pub async fn ended(&self, limit: usize) -> Result<Vec<Ended>> {
        self.read(move |conn| ended::ended(conn, limit)).await
    }

    pub async fn ended_done(&self, builds: &[BuildId]) -> Result<()> {
        let builds = builds.to_vec();
        self.write(move |txn| ended::done(txn, &builds)).await
    }

    pub async fn removals(&self, node: &NodeId) -> Result<Vec<Removal>> {
        let node = node.clone();
        self.read(move |conn| aside::removals(conn, &node)).await
    }

    pub async fn removal_done(&self, removal: &Removal, outcome: ImageRemoval) -> Result<()> {
        let removal = removal.clone();
        self.write(move |txn| aside::removal_done(txn, &removal, outcome)).await
    }

    pub async fn removal_outcome(&self, id: BuildId) -> Result<Option<ImageRemoval>> {
        let since = self.inner.clock.wall().as_millis().saturating_sub(to_millis(OUTCOME_KEPT));
        self.read(move |conn| aside::removal_outcome(conn, since, id)).await
    }

    pub async fn existing(&self, ids: &[BuildId]) -> Result<Vec<BuildId>> {
        let ids = ids.to_vec();
        self.read(move |conn| list::existing(conn, &ids)).await
    }

    pub async fn lock(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let (key, holder) = (key.to_owned(), holder.to_owned());
        self.write(move |txn| aside::lock(txn, &key, &holder, ttl)).await
    }

    pub async fn unlock(&self, key: &str, holder: &str) -> Result<()> {
        let (key, holder) = (key.to_owned(), holder.to_owned());
        self.write(move |txn| aside::unlock(txn, &key, &holder)).await
    }

    pub async fn object(&self, scope: &Scope, kind: Kind, id: &str) -> Result<Option<Object>> {
        let (scope, id, now) = (scope.clone(), id.to_owned(), self.inner.clock.wall().as_millis());
        self.read(move |conn| objects::object(conn, now, &scope, kind, &id)).await
    }

    pub async fn objects(&self, query: &ObjectQuery) -> Result<Vec<Object>> {
        let (query, now) = (query.clone(), self.inner.clock.wall().as_millis());
        self.read(move |conn| objects::objects(conn, now, &query)).await
    }

    pub async fn order_at(&self, kind: Kind, parent: &str, rank: u64) -> Result<Option<u64>> {
        let parent = parent.to_owned();
        self.read(move |conn| objects::order_at(conn, kind, &parent, rank)).await
    }

    pub async fn commit_objects(&self, writes: &[Write]) -> Result<()> {
        let writes = writes.to_vec();
        self.write(move |txn| objects::commit(txn, &writes)).await
    }

    pub async fn purge_objects(&self, limit: usize) -> Result<u64> {
        self.write(move |txn| objects::purge(txn, limit)).await
    }

    pub async fn hit(&self, key: &str, window: Duration) -> Result<Hits> {
        let key = key.to_owned();
        self.write(move |txn| objects::hit(txn, &key, window)).await
    }

    pub async fn hits(&self, key: &str) -> Result<u64> {
        let (key, now) = (key.to_owned(), self.inner.clock.millis());
        self.read(move |conn| objects::hits(conn, now, &key)).await
    }

    pub async fn audit_append(&self, after: u64, entries: &[String], head: &str) -> Result<bool> {
        let (entries, head) = (entries.to_vec(), head.to_owned());
        self.write(move |txn| objects::audit_append(txn, after, &entries, &head)).await
    }

    pub async fn audit_head(&self) -> Result<Option<String>> {
        self.read(objects::audit_head).await
    }

    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, String)>> {
        self.read(move |conn| objects::audit(conn, before, limit)).await
    }

    pub async fn put_worker(&self, info: &WorkerInfo) -> Result<()> {
        let info = info.clone();
        self.write(move |txn| aside::put_worker(txn, info)).await
    }

    pub async fn remove_worker(&self, worker: &WorkerId) -> Result<()> {
        let worker = worker.clone();
        self.write(move |txn| aside::remove_worker(txn, &worker)).await
    }

    pub async fn workers(&self, within: Duration) -> Result<Vec<WorkerInfo>> {
        let since = self.inner.clock.millis().saturating_sub(to_millis(within));
        self.read(move |conn| aside::workers(conn, since)).await
    }

    pub async fn stats(&self) -> Result<QueueStats> {
        self.read(queue::stats).await
    }

    pub async fn ping(&self) -> Result<()> {
        self.write(aside::ping).await
    }

    pub async fn warnings(&self) -> Result<Vec<String>> {
        Ok(self.inner.warnings.clone())
    }

    pub fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }
}
