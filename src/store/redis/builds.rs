//! Builds: accepted, read, changed, deleted; and their events.

use std::sync::Arc;

use redis::streams::StreamRangeReply;

use super::change::Actor;
use super::convert::{encode, parse_id};
use super::scripts::{self, Placed, Raw};
use super::{RedisStore, call_token};
use crate::domain::{BuildId, BuildState, Event, Fence, LogLine, Scope, Timestamp};
use crate::store::{Change, Deleted, Guard, NewBuild, Removal, Result, StoreError, Stored, Topic, rules};

/// Fields of a build's hash in the order of [`Raw`], `until` being present when it is leased.
const STORED: [&str; 6] = ["rec", "rev", "seq", "fence", "until", "ord"];

impl RedisStore {
    pub async fn submit(&self, new: &NewBuild) -> Result<(Stored, Option<u64>)> {
        let record = &new.record;
        if record.state != BuildState::Queued {
            return Err(StoreError::Refused("only a queued build can be accepted".into()));
        }
        let json = rules::encode_record(record);
        let mut script = scripts::SUBMIT.key(&self.inner.prefix);
        script
            .arg(record.id.to_string())
            .arg(record.owner.as_str())
            .arg(record.state.as_str())
            .arg(record.spec.priority.get())
            .arg(&json)
            .arg(rules::state_body(&json))
            .arg(new.dockerfile.as_slice())
            .arg(new.sealed.as_deref().unwrap_or_default())
            .arg(new.bytes());
        for limit in [new.quota.builds_queued, new.quota.stored_bytes, new.quota.builds_running] {
            script.arg(limit.map(|limit| limit.to_string()).unwrap_or_default());
        }
        for image in &record.spec.images {
            script.arg(image.repository()).arg(image.to_string());
        }
        let placed: Placed = self.inner.link.script(&script).await?;
        self.woke(Topic::Queue);
        self.woke(Topic::Build(record.id));
        let fresh =
            Arc::new(Stored { record: record.clone(), revision: 1, last_seq: 1, fence: Fence(0), leased: false, order: 0 });
        let (stored, place, came) = placed.decode(Some(fresh))?;
        self.recent().save(Arc::clone(&stored), came.unwrap_or(json.len()));
        Ok((Arc::unwrap_or_clone(stored), place))
    }

    pub async fn get(&self, scope: &Scope, id: BuildId) -> Result<Option<Stored>> {
        type Fields = (Option<String>, Option<u64>, Option<u64>, Option<u64>, Option<i64>, Option<u64>);
        let mut command = redis::cmd("HMGET");
        command.arg(self.key(&format!("b:{id}"))).arg(&STORED);
        let fields: Fields = self.inner.link.command(&command).await?;
        let (Some(record), Some(revision), Some(seq), Some(fence), until, Some(order)) = fields else { return Ok(None) };
        let stored = Raw((record, revision, seq, fence, u8::from(until.is_some()), order)).decode()?;
        Ok(Some(stored).filter(|s| scope.covers(&s.record.owner)))
    }

    /// Whether the owner that a build's hash names may be seen.
    pub(super) fn visible(scope: &Scope, owner: Option<String>) -> bool {
        owner.and_then(|owner| owner.parse().ok()).is_some_and(|owner| scope.covers(&owner))
    }

    pub async fn dockerfile(&self, scope: &Scope, id: BuildId) -> Result<Option<Vec<u8>>> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().hget(self.key(&format!("b:{id}")), "owner").get(self.key(&format!("d:{id}")));
        let (owner, content): (Option<String>, Option<Vec<u8>>) = self.inner.link.pipeline(&pipeline).await?;
        Ok(content.filter(|_| Self::visible(scope, owner)))
    }

    pub async fn update(&self, id: BuildId, guard: &Guard, change: Change) -> Result<Option<Stored>> {
        self.change(id, &Actor::Guarded(guard), &*change).await
    }

    pub async fn append_log(&self, id: BuildId, fence: Fence, batch: u64, lines: &[LogLine]) -> Result<u64> {
        let mut script = scripts::APPEND.key(&self.inner.prefix);
        script.arg(id.to_string()).arg(fence.0).arg(batch);
        for line in lines {
            script.arg(rules::log_body(line));
        }
        let seq: i64 = self.inner.link.script(&script).await?;
        self.woke(Topic::Build(id));
        u64::try_from(seq).map_err(|_| StoreError::Lost)
    }

    pub async fn events(&self, scope: &Scope, id: BuildId, after: u64, limit: usize) -> Result<Option<Vec<Event>>> {
        let mut pipeline = redis::pipe();
        let from = format!("{}-0", after.saturating_add(1));
        pipeline.atomic().hget(self.key(&format!("b:{id}")), "owner").xrange_count(
            self.key(&format!("e:{id}")),
            from,
            "+",
            limit,
        );
        let (owner, stream): (Option<String>, StreamRangeReply) = self.inner.link.pipeline(&pipeline).await?;
        if !Self::visible(scope, owner) {
            return Ok(None);
        }
        stream.ids.iter().map(decode_event).collect::<Result<Vec<_>>>().map(Some)
    }

    pub async fn drop_hot_log(&self, id: BuildId) -> Result<()> {
        loop {
            let (_, Some(stored)) = self.load(id).await? else { return Ok(()) };
            let mut record = stored.record;
            if !record.state.is_terminal() {
                return Err(StoreError::Refused("the log of a build that goes on is not archived".into()));
            }
            if record.log_archived {
                return Ok(());
            }
            // The record's mark is no news for readers of the log, which ended before: it appends no event.
            record.log_archived = true;
            let mut script = scripts::DROP.key(&self.inner.prefix);
            script.arg(id.to_string()).arg(stored.revision).arg(rules::encode_record(&record));
            let answer: String = self.inner.link.script(&script).await?;
            self.woke(Topic::Build(id));
            if answer != "conflict" {
                return Ok(());
            }
        }
    }

    pub async fn unarchived(&self, before: Timestamp, limit: usize) -> Result<Vec<BuildId>> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.key("hot")).arg("-inf").arg(format!("({}", before.as_millis())).arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = self.inner.link.command(&command).await?;
        ids.iter().map(|id| parse_id(id)).collect()
    }

    pub async fn delete(&self, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
        loop {
            let (_, stored) = self.load(id).await?;
            let Some(stored) = stored.filter(|s| scope.covers(&s.record.owner)) else { return Ok(None) };
            let record = stored.record;
            let removal = record.node.clone().map(|node| Removal { build: id, node, image_id: record.image_id.clone() });
            let mut script = scripts::DELETE.key(&self.inner.prefix);
            script.arg(id.to_string()).arg(call_token()).arg(stored.revision);
            match &removal {
                Some(removal) => script.arg(removal.node.as_str()).arg(encode(removal)),
                None => script.arg("").arg(""),
            };
            let answer: String = self.inner.link.script(&script).await?;
            self.woke(Topic::Build(id));
            self.woke(Topic::Queue);
            self.woke(Topic::Removals);
            match answer.as_str() {
                "done" => return Ok(Some(Deleted { record, removal })),
                "gone" => return Ok(None),
                _ => {}
            }
        }
    }
}

fn decode_event(entry: &redis::streams::StreamId) -> Result<Event> {
    let seq = entry.id.split('-').next().and_then(|seq| seq.parse().ok());
    match (seq, entry.get::<i64>("t"), entry.get::<String>("b")) {
        (Some(seq), Some(at), Some(body)) => rules::decode_event(seq, Timestamp::from_millis(at), &body),
        _ => Err(StoreError::Internal(format!("the stored event {} is not whole", entry.id))),
    }
}
