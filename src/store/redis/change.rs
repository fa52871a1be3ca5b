//! Changing a record: load, compute, commit if nothing came between, else again.

use super::scripts::{self, Raw};
use super::{RedisStore, call_token};
use crate::domain::{BuildId, BuildRecord, BuildState, Fence, Timestamp};
use crate::store::rules::{self, Place};
use crate::store::{Guard, Leased, Result, StoreError, Stored, Topic};

/// How often a change is computed anew before it is a fault. Each time, another's change has gone through.
const ATTEMPTS: usize = 100;

/// Who changes a build.
pub(super) enum Actor<'a> {
    Guarded(&'a Guard),
    /// A claim's own start, which tells `None` when its lease was taken away meanwhile.
    Claim(Fence),
    /// The end of a lease that has run out.
    Reaper(Fence),
}

type Rule<'a> = dyn Fn(&mut BuildRecord, Timestamp, Leased) -> Result<()> + Send + Sync + 'a;

enum Commit {
    Done { revision: u64, seq: u64 },
    Conflict,
    Gone,
}

impl Actor<'_> {
    /// Whether the build, if it is there, is this actor's to change.
    fn admit(&self, stored: Option<Stored>) -> Result<Option<Stored>> {
        let held = |fence: Fence| stored.as_ref().is_some_and(|s| s.leased && s.fence == fence);
        match self {
            Self::Guarded(Guard::Lease(fence)) => {
                if held(*fence) {
                    Ok(stored)
                } else {
                    Err(StoreError::Lost)
                }
            }
            Self::Guarded(Guard::Scope(scope)) => Ok(stored.filter(|s| scope.covers(&s.record.owner))),
            Self::Claim(fence) | Self::Reaper(fence) => Ok(if held(*fence) { stored } else { None }),
        }
    }

    fn place(&self, before: &Stored, after: BuildState) -> Result<Place> {
        match (self, after) {
            // Also a claim that did not get as far as its first write, which left the build `queued` with a lease.
            (Self::Reaper(_), BuildState::Queued) => Ok(Place::Requeue),
            _ => rules::place(before.record.state, after, before.leased),
        }
    }
}

impl RedisStore {
    pub(super) async fn load(&self, id: BuildId) -> Result<(Timestamp, Option<Stored>)> {
        let mut script = scripts::LOAD.key(&self.inner.prefix);
        script.arg(id.to_string());
        let (millis, raw): (i64, Option<Raw>) = self.inner.link.script(&script).await?;
        Ok((Timestamp::from_millis(millis), raw.map(Raw::decode).transpose()?))
    }

    pub(super) async fn change(&self, id: BuildId, actor: &Actor<'_>, rule: &Rule<'_>) -> Result<Option<Stored>> {
        for _ in 0..ATTEMPTS {
            let (now, stored) = self.load(id).await?;
            let Some(before) = actor.admit(stored)? else { return Ok(None) };
            let mut record = before.record.clone();
            rule(&mut record, now, before.leased)?;
            if record == before.record && !matches!(actor, Actor::Reaper(_)) {
                return Ok(Some(before));
            }
            let place = actor.place(&before, record.state)?;
            let overdue_only = matches!(actor, Actor::Reaper(_));
            if let Commit::Done { revision, seq } = self.commit(&before, &record, place, overdue_only).await? {
                let leased = before.leased && place == Place::Stay;
                return Ok(Some(Stored { record, revision, last_seq: seq, fence: before.fence, leased, order: before.order }));
            }
            if overdue_only {
                // Renewed, or changed by its worker, which is alive then. The next pass looks again.
                return Ok(None);
            }
        }
        Err(StoreError::Unavailable(format!("build {id} is changed by too many at once")))
    }

    async fn commit(&self, before: &Stored, record: &BuildRecord, place: Place, overdue_only: bool) -> Result<Commit> {
        let json = rules::encode_record(record);
        let mut script = scripts::COMMIT.key(&self.inner.prefix);
        script
            .arg(record.id.to_string())
            .arg(call_token())
            .arg(before.revision)
            .arg(before.fence.0)
            .arg(flag(before.leased))
            .arg(match place {
                Place::Stay => "stay",
                Place::Requeue => "requeue",
                Place::End => "end",
            })
            .arg(flag(overdue_only))
            .arg(record.state.as_str())
            .arg(flag(record.cancel_requested))
            .arg(&json)
            .arg(rules::state_body(&json));
        let answer: Vec<String> = self.inner.link.script(&script).await?;
        self.woke(Topic::Build(record.id));
        if place != Place::Stay {
            self.woke(Topic::Queue);
        }
        if place == Place::End {
            self.woke(Topic::Hooks);
        }
        match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["done", revision, seq] => Ok(Commit::Done { revision: number(revision)?, seq: number(seq)? }),
            ["conflict"] => Ok(Commit::Conflict),
            ["gone"] => Ok(Commit::Gone),
            other => Err(StoreError::Internal(format!("commit.lua answered {other:?}"))),
        }
    }
}

pub(super) fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| StoreError::Internal(format!("Redis answered {text:?} where a number belongs")))
}
