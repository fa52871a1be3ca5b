//! A build's row: read, inserted, and changed by a rule of the domain.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::live::{News, Queue};
use super::writer::Txn;
use super::{ended, quota};
use crate::domain::{BuildId, BuildRecord, BuildState, Fence, Quota, Scope};
use crate::store::rules::{self, Place};
use crate::store::{Change, Guard, NewBuild, Result, StoreError, Stored, Topic};

/// The columns that [`Entry::read`] takes, in its order.
pub(super) const COLUMNS: &str =
    "b.num, b.record, b.revision, b.last_seq, b.fence, b.lease_until, b.lease_ms, b.log_batch, b.hot";

/// A build with everything that only this backend knows of it.
pub(super) struct Entry {
    pub(super) num: i64,
    pub(super) stored: Stored,
    /// Length of the record's JSON.
    pub(super) weight: usize,
    pub(super) lease_until: Option<i64>,
    pub(super) lease_ms: i64,
    pub(super) log_batch: u64,
    pub(super) hot: bool,
}

/// What a change does to the lease.
#[derive(Clone, Copy)]
pub(super) enum Lease {
    Keep,
    /// A claim with this fence, for so long.
    Take {
        fence: Fence,
        length: i64,
    },
    End,
}

impl Entry {
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        let json = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let record = rules::decode_record(json)?;
        let lease_until: Option<i64> = row.get(5)?;
        Ok(Self {
            num: row.get(0)?,
            stored: Stored {
                record,
                revision: row.get(2)?,
                last_seq: row.get(3)?,
                fence: Fence(row.get(4)?),
                leased: lease_until.is_some(),
                order: order(row.get(0)?),
            },
            weight: json.len(),
            lease_until,
            lease_ms: row.get(6)?,
            log_batch: row.get(7)?,
            hot: row.get(8)?,
        })
    }

    pub(super) fn find(conn: &Connection, id: BuildId) -> Result<Option<Self>> {
        let sql = format!("SELECT {COLUMNS} FROM build b WHERE b.id = ?1");
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query([id.to_string()])?;
        rows.next()?.map(Self::read).transpose()
    }

    pub(super) fn find_in(conn: &Connection, scope: &Scope, id: BuildId) -> Result<Option<Self>> {
        Ok(Self::find(conn, id)?.filter(|entry| scope.covers(&entry.stored.record.owner)))
    }

    /// The build in the hands of the worker with this fence.
    ///
    /// # Errors
    /// `Lost` when it is not, or is gone.
    pub(super) fn held(conn: &Connection, id: BuildId, fence: Fence) -> Result<Self> {
        Self::find(conn, id)?.filter(|e| e.stored.leased && e.stored.fence == fence).ok_or(StoreError::Lost)
    }
}

/// A build to be accepted, with all that can be made ready outside of the writer's thread, which all clients share.
pub(super) struct Accept {
    stored: Arc<Stored>,
    json: String,
    body: String,
    dockerfile: Vec<u8>,
    bytes: u64,
    quota: Quota,
    sealed: Option<Vec<u8>>,
}

impl Accept {
    pub(super) fn of(new: &NewBuild) -> Result<Self> {
        if new.record.state != BuildState::Queued {
            return Err(StoreError::Refused("only a queued build can be accepted".into()));
        }
        let json = rules::encode_record(&new.record);
        let stored = Stored { record: new.record.clone(), revision: 1, last_seq: 1, fence: Fence(0), leased: false, order: 0 };
        Ok(Self {
            stored: Arc::new(stored),
            body: rules::state_body(&json),
            json,
            dockerfile: new.dockerfile.clone(),
            bytes: new.bytes(),
            quota: new.quota,
            sealed: new.sealed.clone(),
        })
    }
}

/// The order of acceptance is that of the rows.
fn order(num: i64) -> u64 {
    u64::try_from(num).unwrap_or_default()
}

pub(super) fn submit(txn: &Txn<'_>, mut new: Accept) -> Result<Arc<Stored>> {
    let record = &new.stored.record;
    let (id, priority) = (record.id, record.spec.priority.get());
    let inserted = txn
        .conn
        .prepare_cached(
            "INSERT INTO build (id, owner, state, revision, last_seq, priority, record, bytes) VALUES (?1, ?2, ?3, 1, 1, ?4, ?5, ?6)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![id.to_string(), record.owner.as_str(), record.state.as_str(), priority, new.json, new.bytes])?;
    if inserted == 0 {
        let known = Entry::find(txn.conn, id)?.ok_or_else(|| StoreError::Internal(format!("build {id} is there and is not")))?;
        return Ok(Arc::new(known.stored));
    }
    let num = txn.conn.last_insert_rowid();
    Arc::make_mut(&mut new.stored).order = order(num);
    let record = &new.stored.record;
    if new.quota.bounds_builds() {
        quota::check(txn, &record.owner, &new.quota, new.bytes)?;
    }
    txn.conn.prepare_cached("INSERT INTO dockerfile VALUES (?1, ?2)")?.execute(params![num, new.dockerfile])?;
    if let Some(sealed) = &new.sealed {
        txn.conn.prepare_cached("INSERT INTO sealed VALUES (?1, ?2)")?.execute(params![num, sealed])?;
    }
    insert_images(txn.conn, record)?;
    insert_event(txn, num, 1, &new.body)?;
    txn.wake(Topic::Queue);
    txn.wake(Topic::Build(id));
    let queue = Queue::Enter { num, requeued: false };
    txn.tell(News::Saved { stored: Arc::clone(&new.stored), weight: new.json.len(), queue });
    Ok(new.stored)
}

fn insert_images(conn: &Connection, record: &BuildRecord) -> Result<()> {
    let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO image (repository, tag, id, owner) VALUES (?1, ?2, ?3, ?4)")?;
    for image in &record.spec.images {
        for tag in ["", image.tag()] {
            insert.execute(params![image.repository(), tag, record.id.to_string(), record.owner.as_str()])?;
        }
    }
    Ok(())
}

pub(super) fn insert_event(txn: &Txn<'_>, num: i64, seq: u64, body: &str) -> Result<()> {
    txn.conn.prepare_cached("INSERT INTO event (build, seq, at, body) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        num,
        seq,
        txn.now.as_millis(),
        body
    ])?;
    Ok(())
}

pub(super) fn update(txn: &Txn<'_>, id: BuildId, guard: &Guard, change: &Change) -> Result<Option<Stored>> {
    let entry = match guard {
        Guard::Lease(fence) => Entry::held(txn.conn, id, *fence)?,
        Guard::Scope(scope) => match Entry::find_in(txn.conn, scope, id)? {
            Some(entry) => entry,
            None => return Ok(None),
        },
    };
    let mut record = entry.stored.record.clone();
    change(&mut record, txn.now, entry.stored.leased)?;
    if record == entry.stored.record {
        return Ok(Some(entry.stored));
    }
    let place = rules::place(entry.stored.record.state, record.state, entry.stored.leased)?;
    save(txn, entry, record, place, Lease::Keep).map(Some)
}

/// Writes a changed record with its state event, and what follows from it for queue, lease and credentials.
pub(super) fn save(txn: &Txn<'_>, before: Entry, record: BuildRecord, place: Place, lease: Lease) -> Result<Stored> {
    let lease = if place == Place::Stay { lease } else { Lease::End };
    let (fence, until, length, batch) = match lease {
        Lease::Keep => (before.stored.fence, before.lease_until, before.lease_ms, before.log_batch),
        Lease::Take { fence, length } => (fence, Some(txn.millis.saturating_add(length)), length, 0),
        Lease::End => (before.stored.fence, None, 0, 0),
    };
    let json = rules::encode_record(&record);
    let stored = Stored {
        revision: before.stored.revision + 1,
        last_seq: before.stored.last_seq + 1,
        fence,
        leased: until.is_some(),
        order: before.stored.order,
        record,
    };
    txn.conn
        .prepare_cached(
            "UPDATE build SET record = ?2, state = ?3, revision = ?4, last_seq = ?5, fence = ?6, lease_until = ?7, lease_ms = ?8,
             log_batch = ?9, requeued = requeued OR ?10, ended_at = coalesce(ended_at, ?11) WHERE num = ?1",
        )?
        .execute(params![
            before.num,
            json,
            stored.record.state.as_str(),
            stored.revision,
            stored.last_seq,
            fence.0,
            until,
            length,
            batch,
            place == Place::Requeue,
            (place == Place::End).then_some(txn.now.as_millis()),
        ])?;
    insert_event(txn, before.num, stored.last_seq, &rules::state_body(&json))?;
    if place == Place::End {
        txn.conn.prepare_cached("DELETE FROM sealed WHERE num = ?1")?.execute([before.num])?;
        ended::note(txn, stored.record.id, &stored.record.owner)?;
    }
    let queue = match (before.stored.record.state, stored.record.state) {
        // Also one that was set aside while it was queued.
        _ if place == Place::Requeue => Queue::Enter { num: before.num, requeued: true },
        (BuildState::Queued, after) if after != BuildState::Queued => Queue::Leave,
        _ => Queue::Same,
    };
    // Also an end: its owner may have been at the number that it may have in hands.
    if queue != Queue::Same || (before.stored.leased && until.is_none()) {
        txn.wake(Topic::Queue);
    }
    txn.wake(Topic::Build(stored.record.id));
    txn.tell(News::Saved { stored: Arc::new(stored.clone()), weight: json.len(), queue });
    Ok(stored)
}

pub(super) fn sealed(conn: &Connection, num: i64) -> Result<Option<Vec<u8>>> {
    Ok(conn.prepare_cached("SELECT content FROM sealed WHERE num = ?1")?.query_row([num], |row| row.get(0)).optional()?)
}

pub(super) fn dockerfile(conn: &Connection, scope: &Scope, id: BuildId) -> Result<Option<Vec<u8>>> {
    let Some(entry) = Entry::find_in(conn, scope, id)? else { return Ok(None) };
    Ok(conn
        .prepare_cached("SELECT content FROM dockerfile WHERE num = ?1")?
        .query_row([entry.num], |row| row.get(0))
        .optional()?)
}
