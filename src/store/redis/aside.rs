//! What lives beside the builds: removals of images, locks, tokens, signs of life; and Redis's own settings.

use std::collections::HashMap;
use std::time::Duration;

use super::convert::{decode, encode, millis, parse_id};
use super::scripts::{self, RawSealed, Seen};
use super::{RedisStore, call_token};
use crate::domain::{BuildId, BuildRecord, NodeId, Owner, Timestamp, Usage, WorkerId};
use crate::store::{ImageRemoval, OUTCOME_KEPT, Removal, Result, StoreError, Stored, Topic, WorkerInfo, rules};

impl RedisStore {
    pub async fn set_cap(&self, owner: &Owner, cap: Option<u64>) -> Result<()> {
        let name = self.key(&format!("tn:{owner}"));
        let mut pipeline = redis::pipe();
        match cap {
            Some(cap) => pipeline.atomic().hset(name, "cap", cap).ignore(),
            None => pipeline.atomic().hdel(name, "cap").ignore(),
        };
        pipeline.publish(self.key("wake"), "q").ignore();
        let () = self.inner.link.pipeline(&pipeline).await?;
        self.woke(Topic::Queue);
        Ok(())
    }

    pub async fn usage(&self, owner: &Owner) -> Result<Usage> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().zcard(self.key(&format!("q:{owner}")));
        pipeline.cmd("HMGET").arg(self.key(&format!("tn:{owner}"))).arg(&["builds", "bytes", "running"]);
        type Counts = (Option<u64>, Option<u64>, Option<u64>);
        let (builds_queued, (builds, bytes, running)): (u64, Counts) = self.inner.link.pipeline(&pipeline).await?;
        Ok(Usage {
            builds_queued,
            builds: builds.unwrap_or(0),
            stored_bytes: bytes.unwrap_or(0),
            builds_running: running.unwrap_or(0),
            uploads_this_minute: 0,
            ..Usage::default()
        })
    }

    pub async fn sealed(&self, after: Option<BuildId>, limit: usize) -> Result<Vec<(BuildId, Owner, Vec<u8>)>> {
        let mut script = scripts::SEALED.key(&self.inner.prefix);
        script.arg(after.map(|id| id.to_string()).unwrap_or_default()).arg(limit);
        let rows: Vec<RawSealed> = self.inner.link.script(&script).await?;
        let read = |RawSealed((id, owner, sealed)): RawSealed| {
            let owner = owner.parse().map_err(|e| StoreError::Internal(format!("a stored owner does not parse: {e}")))?;
            Ok((parse_id(&id)?, owner, sealed))
        };
        rows.into_iter().map(read).collect()
    }

    pub async fn reseal(&self, id: BuildId, old: &[u8], new: &[u8]) -> Result<bool> {
        let mut script = scripts::RESEAL.key(&self.inner.prefix);
        script.arg(id.to_string()).arg(old).arg(new);
        self.inner.link.script(&script).await
    }

    pub async fn transfer(&self, id: BuildId, from: &Owner, to: &Owner) -> Result<Option<Stored>> {
        loop {
            let (_, stored) = self.load(id).await?;
            let Some(stored) = stored.filter(|s| s.record.owner == *from) else { return Ok(None) };
            if !stored.record.state.is_terminal() {
                return Err(StoreError::Refused("a build that goes on does not change hands".into()));
            }
            let record = BuildRecord { owner: to.clone(), ..stored.record.clone() };
            let json = rules::encode_record(&record);
            let mut script = scripts::TRANSFER.key(&self.inner.prefix);
            script.arg(id.to_string()).arg(call_token()).arg(stored.revision).arg(from.as_str()).arg(to.as_str());
            script.arg(&json).arg(rules::state_body(&json));
            let answer: String = self.inner.link.script(&script).await?;
            self.woke(Topic::Build(id));
            match answer.as_str() {
                "done" => {
                    return Ok(Some(Stored { record, revision: stored.revision + 1, last_seq: stored.last_seq + 1, ..stored }));
                }
                "gone" => return Ok(None),
                _ => {}
            }
        }
    }

    pub async fn removals(&self, node: &NodeId) -> Result<Vec<Removal>> {
        let mut command = redis::cmd("HVALS");
        command.arg(self.key(&format!("rm:{node}")));
        let removals: Vec<String> = self.inner.link.command(&command).await?;
        let mut removals = removals.iter().map(|json| decode::<Removal>(json)).collect::<Result<Vec<_>>>()?;
        removals.sort_by_key(|removal| removal.build);
        Ok(removals)
    }

    pub async fn removal_done(&self, removal: &Removal, outcome: ImageRemoval) -> Result<()> {
        let mut script = scripts::REMOVED.key(&self.inner.prefix);
        script.arg(removal.node.as_str()).arg(removal.build.to_string()).arg(encode(&outcome)).arg(OUTCOME_KEPT.as_secs());
        let () = self.inner.link.script(&script).await?;
        self.woke(Topic::Build(removal.build));
        Ok(())
    }

    pub async fn removal_outcome(&self, id: BuildId) -> Result<Option<ImageRemoval>> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(&format!("rmo:{id}")));
        let outcome: Option<String> = self.inner.link.command(&command).await?;
        outcome.map(|json| decode(&json)).transpose()
    }

    pub async fn lock(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let mut script = scripts::LOCK.key(&self.inner.prefix);
        script.arg(key).arg(holder).arg(millis(ttl));
        self.inner.link.script(&script).await
    }

    pub async fn unlock(&self, key: &str, holder: &str) -> Result<()> {
        let mut script = scripts::UNLOCK.key(&self.inner.prefix);
        script.arg(key).arg(holder);
        let () = self.inner.link.script(&script).await?;
        self.woke(Topic::Locks);
        Ok(())
    }

    pub async fn put_worker(&self, info: &WorkerInfo) -> Result<()> {
        let mut script = scripts::WORKER.key(&self.inner.prefix);
        script.arg(info.worker.as_str()).arg(encode(info)).arg(OUTCOME_KEPT.as_secs());
        self.inner.link.script(&script).await
    }

    pub async fn remove_worker(&self, worker: &WorkerId) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().zrem(self.key("workers"), worker.as_str()).ignore();
        pipeline.del(self.key(&format!("w:{worker}"))).ignore();
        self.inner.link.pipeline(&pipeline).await
    }

    pub async fn workers(&self, within: Duration) -> Result<Vec<WorkerInfo>> {
        let mut script = scripts::WORKERS.key(&self.inner.prefix);
        script.arg(millis(within));
        let seen: Vec<Seen> = self.inner.link.script(&script).await?;
        let info = |Seen((at, json)): Seen| {
            decode::<WorkerInfo>(&json).map(|info| WorkerInfo { seen_at: Timestamp::from_millis(at), ..info })
        };
        let mut workers = seen.into_iter().map(info).collect::<Result<Vec<_>>>()?;
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        Ok(workers)
    }

    pub async fn ping(&self) -> Result<()> {
        let mut command = redis::cmd("INCR");
        command.arg(self.key("ping"));
        self.inner.link.command::<i64>(&command).await.map(|_| ())
    }

    pub async fn warnings(&self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (name, complain) in SETTINGS {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            match self.inner.link.command::<HashMap<String, String>>(&command).await {
                Ok(answer) => warnings.extend(answer.get(*name).and_then(|value| complain(value))),
                Err(StoreError::Internal(_)) => {
                    return Ok(vec![
                        "Redis does not tell its settings (CONFIG is forbidden): see to it that appendonly is yes, \
                         appendfsync always and maxmemory-policy noeviction, or accepted builds can be lost."
                            .into(),
                    ]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(warnings)
    }
}

type Complaint = fn(&str) -> Option<String>;

/// Settings by which an accepted build could be lost (Redis documentation, "Persistence" and "Key eviction").
const SETTINGS: &[(&str, Complaint)] = &[
    ("appendonly", |value| {
        (value != "yes")
            .then(|| "Redis keeps no append-only file (appendonly no): accepted builds are lost when it stops.".into())
    }),
    ("appendfsync", |value| match value {
        "always" => None,
        "everysec" => Some(
            "Redis writes to disk once a second (appendfsync everysec): builds accepted in the last second are lost when its \
             machine crashes. Set appendfsync always."
                .into(),
        ),
        other => Some(format!(
            "Redis leaves it to the system when to write to disk (appendfsync {other}): builds accepted in the last half \
             minute can be lost when its machine crashes. Set appendfsync always."
        )),
    }),
    ("maxmemory-policy", |value| {
        (value != "noeviction").then(|| {
            format!(
                "Redis throws data away when its memory is full (maxmemory-policy {value}): accepted builds can vanish. \
                 Set maxmemory-policy noeviction."
            )
        })
    }),
];
