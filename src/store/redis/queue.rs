//! Claims, leases, and whose turn it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::change::Actor;
use super::convert::{millis, parse_id};
use super::scripts::{self, Overdue, Placed, Raw};
use super::{RedisStore, call_token};
use crate::domain::{AttemptStart, BuildId, BuildState, Fence, Lapse, NodeId, Scope, WorkerId};
use crate::store::{Claim, QueueStats, Reaped, Renewal, Result, SET_ASIDE, StoreError, Stored, Topic, rules};

/// Most leases that one pass deals with.
const REAPED: usize = 200;

impl RedisStore {
    pub async fn claim(&self, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
        loop {
            let mut script = scripts::CLAIM.key(&self.inner.prefix);
            script.arg(call_token()).arg(millis(lease)).arg(node.as_str()).arg(millis(rules::NODE_SEEN));
            type Taken = Option<(i64, String, Option<Vec<u8>>, Raw)>;
            let taken: Taken = self.inner.link.script(&script).await?;
            let Some((_, id, sealed, raw)) = taken else { return Ok(None) };
            self.woke(Topic::Queue);
            let (build, fence) = (parse_id(&id)?, Fence(raw.0.3));
            match self.start(build, fence, worker, node, sealed).await {
                Ok(Some(claim)) => return Ok(Some(claim)),
                // A build that was deleted, or whose lease has run out already, is not ours: the next one.
                Ok(None) => {}
                Err(StoreError::Unreadable(why)) => self.set_aside(build, fence, &why).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The domain's part of a claim. Whatever was changed since the build was taken is kept: a cancel has seen
    /// the lease and only asked for it, and the worker is told so by the record and by its first renewal.
    async fn start(
        &self,
        id: BuildId,
        fence: Fence,
        worker: &WorkerId,
        node: &NodeId,
        sealed: Option<Vec<u8>>,
    ) -> Result<Option<Claim>> {
        let began = Mutex::new(AttemptStart::Build);
        let stored = self
            .change(id, &Actor::Claim(fence), &|record, now, _| {
                let start = record
                    .start_attempt(worker, node, fence.0, now)
                    .map_err(|e| StoreError::Unreadable(format!("it stood in the queue, but {e}")))?;
                *began.lock().expect("not poisoned, because nothing panics while it is held") = start;
                Ok(())
            })
            .await?;
        let start = began.into_inner().expect("not poisoned, because nothing panics while it is held");
        Ok(stored.map(|stored| Claim { stored, fence, start, sealed }))
    }

    /// Leaves the build to whoever can read it: see [`SET_ASIDE`].
    async fn set_aside(&self, build: BuildId, fence: Fence, why: &str) -> Result<()> {
        rules::tell_set_aside(&build.to_string(), why);
        // Its lease is prolonged without a look at the record. `Lost`: somebody could read it, and has it.
        self.renew(build, fence, SET_ASIDE).await.map(drop)
    }

    pub async fn renew(&self, id: BuildId, fence: Fence, lease: Duration) -> Result<Renewal> {
        let mut script = scripts::RENEW.key(&self.inner.prefix);
        script.arg(id.to_string()).arg(fence.0).arg(millis(lease));
        let answer: String = self.inner.link.script(&script).await?;
        Ok(match answer.as_str() {
            "continue" => Renewal::Continue,
            "cancel" => Renewal::CancelRequested,
            _ => Renewal::Lost,
        })
    }

    pub async fn reap(&self) -> Result<Vec<Reaped>> {
        let mut script = scripts::OVERDUE.key(&self.inner.prefix);
        script.arg(REAPED);
        let overdue: Vec<Overdue> = self.inner.link.script(&script).await?;
        let mut reaped = Vec::new();
        for Overdue((id, fence, late, length)) in overdue {
            if !self.inner.link.contact.may_reap(Duration::from_millis(late), Duration::from_millis(length)) {
                continue;
            }
            let (build, fence) = (parse_id(&id)?, Fence(fence));
            match self.lapse(build, fence).await {
                Ok(lapsed) => reaped.extend(lapsed),
                Err(StoreError::Unreadable(why)) => self.set_aside(build, fence, &why).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(reaped)
    }

    async fn lapse(&self, build: BuildId, fence: Fence) -> Result<Option<Reaped>> {
        let stored = self
            .change(build, &Actor::Reaper(fence), &|record, now, _| {
                let lapse = record.lapsed(now);
                lapse.map(|_| ()).map_err(|e| StoreError::Unreadable(format!("it had a lease, but {e}")))
            })
            .await?;
        Ok(stored.map(|stored| {
            let lapse = match stored.record.state {
                BuildState::Queued => Lapse::Requeued,
                BuildState::Cancelled => Lapse::Cancelled,
                _ => Lapse::Poisoned,
            };
            Reaped { build, lapse }
        }))
    }

    pub async fn get_placed(&self, scope: &Scope, id: BuildId) -> Result<Option<(Stored, Option<u64>)>> {
        // Another process may have changed it: only what this very revision says is taken from memory.
        let known = self.recent().peek(id);
        let mut script = scripts::LOOK.key(&self.inner.prefix);
        script.arg(id.to_string());
        match &known {
            Some(known) => script.arg(known.revision),
            None => script.arg(""),
        };
        let Some(placed) = self.inner.link.script::<Option<Placed>>(&script).await? else { return Ok(None) };
        let (stored, place, came) = placed.decode(known)?;
        if let Some(weight) = came {
            self.recent().save(Arc::clone(&stored), weight);
        }
        Ok(Some((Arc::unwrap_or_clone(stored), place)).filter(|(stored, _)| scope.covers(&stored.record.owner)))
    }

    pub async fn positions(&self, ids: &[BuildId]) -> Result<Vec<Option<u64>>> {
        let mut script = scripts::POSITIONS.key(&self.inner.prefix);
        for id in ids {
            script.arg(id.to_string());
        }
        let positions: Vec<i64> = self.inner.link.script(&script).await?;
        Ok(positions.into_iter().map(|position| u64::try_from(position).ok()).collect())
    }

    pub async fn stats(&self) -> Result<QueueStats> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().get(self.key("queued")).zcard(self.key("leases"));
        let (queued, running): (Option<u64>, u64) = self.inner.link.pipeline(&pipeline).await?;
        Ok(QueueStats { queued: queued.unwrap_or(0), running })
    }
}
