//! What lives beside the builds: removals of images, locks, tokens, signs of life; and Redis's own settings.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RedisStore;
use super::queue::millis;
use super::scripts::{self, Seen};
use crate::domain::{BuildId, NodeId, Timestamp, WorkerId};
use crate::store::{ImageRemoval, OUTCOME_KEPT, Removal, Result, StoreError, TokenRecord, Topic, WorkerInfo};

impl RedisStore {
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

    pub async fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<()> {
        let mut command = redis::cmd("HSET");
        command.arg(self.key("tokens")).arg(hex::encode(hash)).arg(encode(token));
        self.inner.link.command(&command).await
    }

    pub async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>> {
        let mut command = redis::cmd("HGET");
        command.arg(self.key("tokens")).arg(hex::encode(hash));
        let token: Option<String> = self.inner.link.command(&command).await?;
        token.map(|json| decode(&json)).transpose()
    }

    pub async fn has_tokens(&self) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(self.key("tokens"));
        self.inner.link.command(&command).await
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

pub(super) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data serialises, because its keys are text and it holds no floats")
}

fn decode<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| StoreError::Internal(format!("a stored value does not parse: {e}")))
}
