//! The Lua scripts, and the shape of what they answer.

use std::sync::{Arc, LazyLock};

use redis::{FromRedisValue, ParsingError, Script, Value};

use crate::domain::Fence;
use crate::store::objects::Object;
use crate::store::{Result, StoreError, Stored, rules};

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("lib.lua") $(, include_str!($file))+)));)*
    };
}

scripts! {
    SUBMIT = "place.lua" "submit.lua";
    LOAD = "load.lua";
    COMMIT = "commit.lua";
    CLAIM = "claim.lua";
    RENEW = "renew.lua";
    OVERDUE = "overdue.lua";
    LOOK = "place.lua" "look.lua";
    POSITIONS = "place.lua" "positions.lua";
    APPEND = "append.lua";
    DROP = "drop.lua";
    DELETE = "delete.lua";
    REMOVED = "removed.lua";
    LIST = "list.lua";
    LOCK = "lock.lua";
    UNLOCK = "unlock.lua";
    WORKER = "worker.lua";
    WORKERS = "workers.lua";
    OBJECT = "object.lua";
    OBJECTS = "objects.lua";
    OBJECTS_LIST = "objects_list.lua";
    OBJECTS_PURGE = "objects_purge.lua";
    HIT = "hit.lua";
    AUDIT = "audit.lua";
    SEALED = "sealed.lua";
    RESEAL = "reseal.lua";
    TRANSFER = "transfer.lua";
    ENDED = "ended.lua";
}

/// Gives a type the parser of its tuple. The library reads a list of tuples as one flat list; our scripts answer lists of lists.
macro_rules! answer {
    ($name:ident, $tuple:ty) => {
        impl FromRedisValue for $name {
            fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
                <$tuple>::from_redis_value(value).map(Self)
            }
        }
    };
}

/// `stored` of lib.lua: record, revision, last event, fence, whether it is leased, order of acceptance.
pub(super) struct Raw(pub(super) (String, u64, u64, u64, u8, u64));
answer!(Raw, (String, u64, u64, u64, u8, u64));

impl Raw {
    pub(super) fn decode(self) -> Result<Stored> {
        let (record, revision, last_seq, fence, leased, order) = self.0;
        let record = rules::decode_record(&record)?;
        Ok(Stored { record, revision, last_seq, fence: Fence(fence), leased: leased == 1, order })
    }
}

/// [`Raw`] and the build's place in the queue, -1 when it is in none. The record is empty when the caller knows it.
pub(super) struct Placed(pub(super) (String, u64, u64, u64, u8, u64, i64));
answer!(Placed, (String, u64, u64, u64, u8, u64, i64));

impl Placed {
    /// `known`: the build, of which the caller has named the revision. Answers the length of a record that came, too.
    pub(super) fn decode(self, known: Option<Arc<Stored>>) -> Result<(Arc<Stored>, Option<u64>, Option<usize>)> {
        let (record, revision, last_seq, fence, leased, order, place) = self.0;
        let place = u64::try_from(place).ok();
        let weight = record.len();
        if weight > 0 {
            return Ok((Arc::new(Raw((record, revision, last_seq, fence, leased, order)).decode()?), place, Some(weight)));
        }
        let mut stored = known.ok_or_else(|| StoreError::Internal("a script kept back a record that is not known".into()))?;
        let (fence, leased) = (Fence(fence), leased == 1);
        if (stored.last_seq, stored.fence, stored.leased, stored.order) != (last_seq, fence, leased, order) {
            let stored = Arc::make_mut(&mut stored);
            (stored.last_seq, stored.fence, stored.leased, stored.order) = (last_seq, fence, leased, order);
        }
        Ok((stored, place, None))
    }
}

/// Id, fence, milliseconds overdue, milliseconds that the lease was given for.
pub(super) struct Overdue(pub(super) (String, u64, u64, u64));
answer!(Overdue, (String, u64, u64, u64));

/// Milliseconds when seen, info.
pub(super) struct Seen(pub(super) (i64, String));
answer!(Seen, (i64, String));

/// Id, owner, sealed credentials.
pub(super) struct RawSealed(pub(super) (String, String, Vec<u8>));
answer!(RawSealed, (String, String, Vec<u8>));

/// Id, record.
pub(super) struct RawEnded(pub(super) (String, String));
answer!(RawEnded, (String, String));

/// Id, owner, order, revision, body.
pub(super) struct RawObject(pub(super) (String, String, u64, u64, String));
answer!(RawObject, (String, String, u64, u64, String));

impl RawObject {
    pub(super) fn decode(self) -> Result<Object> {
        let (id, owner, order, revision, body) = self.0;
        let owner = owner.parse().map_err(|e| StoreError::Internal(format!("a stored owner does not parse: {e}")))?;
        Ok(Object { id, owner, order, revision, body })
    }
}
