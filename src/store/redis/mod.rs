//! The shared backend.

use std::time::Duration;

use secrecy::SecretString;

use crate::domain::{BuildId, Event, Fence, LogLine, NodeId, Scope, Timestamp, WorkerId};
use crate::store::{
    Change, Claim, Deleted, Guard, ImageRemoval, ListQuery, NewBuild, Page, QueueStats, Reaped, Removal, Renewal, Result,
    StoreError, Stored, TokenRecord, Wakes, WorkerInfo,
};

#[derive(Clone)]
pub struct RedisStore {
    wakes: Wakes,
}

fn away<T>() -> Result<T> {
    Err(StoreError::Unavailable("this build has no Redis backend yet".into()))
}

#[allow(unused_variables)]
impl RedisStore {
    pub fn connect(url: &SecretString, prefix: &str) -> Result<Self> {
        away()
    }

    pub async fn submit(&self, new: &NewBuild) -> Result<Stored> {
        away()
    }

    pub async fn get(&self, scope: &Scope, id: BuildId) -> Result<Option<Stored>> {
        away()
    }

    pub async fn dockerfile(&self, scope: &Scope, id: BuildId) -> Result<Option<Vec<u8>>> {
        away()
    }

    pub async fn list(&self, query: &ListQuery) -> Result<Page> {
        away()
    }

    pub async fn claim(&self, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
        away()
    }

    pub async fn renew(&self, id: BuildId, fence: Fence, lease: Duration) -> Result<Renewal> {
        away()
    }

    pub async fn update(&self, id: BuildId, guard: &Guard, change: Change) -> Result<Option<Stored>> {
        away()
    }

    pub async fn append_log(&self, id: BuildId, fence: Fence, batch: u64, lines: &[LogLine]) -> Result<u64> {
        away()
    }

    pub async fn events(&self, scope: &Scope, id: BuildId, after: u64, limit: usize) -> Result<Option<Vec<Event>>> {
        away()
    }

    pub async fn drop_hot_log(&self, id: BuildId) -> Result<()> {
        away()
    }

    pub async fn unarchived(&self, before: Timestamp, limit: usize) -> Result<Vec<BuildId>> {
        away()
    }

    pub async fn position(&self, id: BuildId) -> Result<Option<u64>> {
        away()
    }

    pub async fn reap(&self) -> Result<Vec<Reaped>> {
        away()
    }

    pub async fn delete(&self, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
        away()
    }

    pub async fn removals(&self, node: &NodeId) -> Result<Vec<Removal>> {
        away()
    }

    pub async fn removal_done(&self, removal: &Removal, outcome: ImageRemoval) -> Result<()> {
        away()
    }

    pub async fn removal_outcome(&self, id: BuildId) -> Result<Option<ImageRemoval>> {
        away()
    }

    pub async fn existing(&self, ids: &[BuildId]) -> Result<Vec<BuildId>> {
        away()
    }

    pub async fn lock(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        away()
    }

    pub async fn unlock(&self, key: &str, holder: &str) -> Result<()> {
        away()
    }

    pub async fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<()> {
        away()
    }

    pub async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>> {
        away()
    }

    pub async fn has_tokens(&self) -> Result<bool> {
        away()
    }

    pub async fn put_worker(&self, info: &WorkerInfo) -> Result<()> {
        away()
    }

    pub async fn remove_worker(&self, worker: &WorkerId) -> Result<()> {
        away()
    }

    pub async fn workers(&self, within: Duration) -> Result<Vec<WorkerInfo>> {
        away()
    }

    pub async fn stats(&self) -> Result<QueueStats> {
        away()
    }

    pub async fn ping(&self) -> Result<()> {
        away()
    }

    pub async fn warnings(&self) -> Result<Vec<String>> {
        away()
    }

    pub fn wakes(&self) -> &Wakes {
        &self.wakes
    }
}
