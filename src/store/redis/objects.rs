//! Objects, rates and the audit.

use std::time::Duration;

use super::convert::millis;
use super::listen::told;
use super::scripts::{self, RawObject};
use super::{RedisStore, call_token};
use crate::domain::{Owner, Scope};
use crate::store::objects::{Action, Expect, Hits, Keep, Kind, Object, ObjectQuery, Write};
use crate::store::{Result, StoreError};

impl RedisStore {
    pub async fn object(&self, scope: &Scope, kind: Kind, id: &str) -> Result<Option<Object>> {
        let mut script = scripts::OBJECT.key(&self.inner.prefix);
        script.arg(kind.as_str()).arg(id);
        let raw: Option<RawObject> = self.inner.link.script(&script).await?;
        Ok(raw.map(RawObject::decode).transpose()?.filter(|object| scope.covers(&object.owner)))
    }

    pub async fn objects(&self, query: &ObjectQuery) -> Result<Vec<Object>> {
        let Some(owner) = query.visible_owner() else { return Ok(Vec::new()) };
        let mut script = scripts::OBJECTS_LIST.key(&self.inner.prefix);
        script
            .arg(query.kind.as_str())
            .arg(owner.map_or("", Owner::as_str))
            .arg(query.parent.as_deref().unwrap_or(""))
            .arg(query.before.map(|order| order.to_string()).unwrap_or_default())
            .arg(query.limit);
        let raw: Vec<RawObject> = self.inner.link.script(&script).await?;
        raw.into_iter().map(RawObject::decode).collect()
    }

    pub async fn order_at(&self, kind: Kind, parent: &str, rank: u64) -> Result<Option<u64>> {
        let mut command = redis::cmd("ZREVRANGE");
        command.arg(self.key(&format!("op:{}:{parent}", kind.as_str()))).arg(rank).arg(rank).arg("WITHSCORES");
        let found: Vec<(String, u64)> = self.inner.link.command(&command).await?;
        Ok(found.first().map(|(_, order)| *order))
    }

    pub async fn commit_objects(&self, writes: &[Write]) -> Result<()> {
        let mut script = scripts::OBJECTS.key(&self.inner.prefix);
        script.arg(call_token()).arg(writes.len());
        for write in writes {
            script.arg(write.kind.as_str()).arg(&write.id);
            match write.expect {
                Expect::Anything => script.arg("any"),
                Expect::Absent => script.arg("absent"),
                Expect::Revision(revision) => script.arg(revision),
            };
            match &write.action {
                Action::Put { owner, body, keep, parent } => {
                    let keep = match keep {
                        Keep::Forever => String::new(),
                        Keep::For(time) => millis(*time).to_string(),
                        Keep::AsItIs => "as it is".to_owned(),
                    };
                    script.arg("put").arg(owner.as_str()).arg(keep).arg(body).arg(parent.as_deref().unwrap_or(""))
                }
                Action::Remove => script.arg("remove").arg("").arg("").arg("").arg(""),
            };
            script.arg(write.topic().map(told).unwrap_or_default());
        }
        let answer: String = self.inner.link.script(&script).await?;
        // At once in this process, whatever becomes of the message.
        writes.iter().filter_map(Write::topic).for_each(|topic| self.inner.wakes.wake(topic));
        if answer == "done" { Ok(()) } else { Err(StoreError::Conflict) }
    }

    pub async fn purge_objects(&self, limit: usize) -> Result<u64> {
        let mut script = scripts::OBJECTS_PURGE.key(&self.inner.prefix);
        script.arg(limit);
        self.inner.link.script(&script).await
    }

    pub async fn hit(&self, key: &str, window: Duration) -> Result<Hits> {
        let mut script = scripts::HIT.key(&self.inner.prefix);
        script.arg(call_token()).arg(key).arg(millis(window).max(1));
        let (count, left): (u64, u64) = self.inner.link.script(&script).await?;
        Ok(Hits { count, left: Duration::from_millis(left) })
    }

    pub async fn hits(&self, key: &str) -> Result<u64> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(&format!("rate:{key}")));
        let count: Option<u64> = self.inner.link.command(&command).await?;
        Ok(count.unwrap_or(0))
    }

    pub async fn audit_append(&self, after: u64, entries: &[String], head: &str) -> Result<bool> {
        let mut script = scripts::AUDIT.key(&self.inner.prefix);
        script.arg(call_token()).arg(after).arg(head);
        for entry in entries {
            script.arg(entry);
        }
        self.inner.link.script(&script).await
    }

    pub async fn audit_head(&self) -> Result<Option<String>> {
        let mut command = redis::cmd("GET");
        command.arg(self.key("audit_head"));
        self.inner.link.command(&command).await
    }

    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, String)>> {
        let length = match before {
            Some(before) => before.saturating_sub(1),
            None => {
                let mut command = redis::cmd("LLEN");
                command.arg(self.key("audit"));
                self.inner.link.command(&command).await?
            }
        };
        if length == 0 || limit == 0 {
            return Ok(Vec::new());
        }
        let first = length.saturating_sub(limit as u64);
        let mut command = redis::cmd("LRANGE");
        command.arg(self.key("audit")).arg(first).arg(length - 1);
        let entries: Vec<String> = self.inner.link.command(&command).await?;
        Ok((first + 1..).zip(entries).collect::<Vec<_>>().into_iter().rev().collect())
    }
}
