//! Claims, leases, and whose turn it is.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::clock::to_millis;
use super::events::parse_id;
use super::live::News;
use super::rows::{self, COLUMNS, Entry, Lease};
use super::writer::Txn;
use crate::domain::{BuildId, BuildState, Fence, NodeId, Owner, WorkerId};
use crate::store::contact::Contact;
use crate::store::rules::{self, Place};
use crate::store::{Claim, QueueStats, Reaped, Renewal, Result, SET_ASIDE, StoreError};

/// Most leases that one commit deals with.
const REAPED: usize = 200;

pub(super) fn claim(txn: &Txn<'_>, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
    while let Some((waiting, num)) = next(txn, node)? {
        let begun = waiting.and_then(|entry| {
            let fence = Fence(entry.stored.fence.0 + 1);
            let mut record = entry.stored.record.clone();
            let start = record
                .start_attempt(worker, node, fence.0, txn.now)
                .map_err(|e| StoreError::Unreadable(format!("it stood in the queue, but {e}")))?;
            Ok((entry, record, fence, start))
        });
        let (entry, record, fence, start) = match begun {
            Ok(begun) => begun,
            Err(StoreError::Unreadable(why)) => {
                set_aside(txn, num, &why)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        take_turn(txn, &record.owner)?;
        let stored = rows::save(txn, entry, record, Place::Stay, Lease::Take { fence, length: to_millis(lease) })?;
        return Ok(Some(Claim { stored, fence, start, sealed: rows::sealed(txn.conn, num)? }));
    }
    Ok(None)
}

/// Leaves a build to a version that can read it (see [`SET_ASIDE`]): the record stays as it is. The column `state`, which triggers
/// and indexes go by, takes it out of the queue; the end of its lease, at the latest the next start of a process, brings it back.
fn set_aside(txn: &Txn<'_>, num: i64, why: &str) -> Result<()> {
    let length = to_millis(SET_ASIDE);
    let id: String = txn
        .conn
        .prepare_cached("UPDATE build SET state = 'set_aside', lease_until = ?2, lease_ms = ?3 WHERE num = ?1 RETURNING id")?
        .query_row(params![num, txn.millis.saturating_add(length), length], |row| row.get(0))?;
    txn.tell(News::Gone(parse_id(&id)?));
    rules::tell_set_aside(&id, why);
    Ok(())
}

/// Whether a build `b` may be begun on the node ?1: it is bound to no other one that has a worker since ?2.
const MAY_BEGIN: &str = "NOT EXISTS (
    SELECT 1 FROM worker w WHERE w.seen >= ?2 AND w.info ->> '$.node' <> ?1
        AND w.info ->> '$.node' = CASE WHEN json_valid(b.record) THEN b.record ->> '$.bound_to' END)";

/// The build whose turn it is on a node, among the owners that may have one more in hands, if it can be read, and its number.
fn next(txn: &Txn<'_>, node: &NodeId) -> Result<Option<(Result<Entry>, i64)>> {
    let (conn, seen) = (txn.conn, txn.millis.saturating_sub(to_millis(rules::NODE_SEEN)));
    let sql = format!(
        "SELECT t.owner FROM turn t LEFT JOIN tenant n ON n.owner = t.owner
         WHERE t.waiting > 0 AND (n.cap IS NULL OR n.running < n.cap)
             AND EXISTS (SELECT 1 FROM build b WHERE b.owner = t.owner AND b.state = 'queued' AND {MAY_BEGIN})
         ORDER BY t.last, t.owner LIMIT 1"
    );
    let owner: Option<String> =
        conn.prepare_cached(&sql)?.query_row(params![node.as_str(), seen], |row| row.get(0)).optional()?;
    let Some(owner) = owner else { return Ok(None) };
    let sql = format!(
        "SELECT {COLUMNS} FROM build b WHERE b.owner = ?3 AND b.state = 'queued' AND {MAY_BEGIN}
         ORDER BY b.requeued DESC, b.priority DESC, b.num LIMIT 1"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![node.as_str(), seen, owner])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some((Entry::read(row), row.get(0)?)))
}

fn take_turn(txn: &Txn<'_>, owner: &Owner) -> Result<()> {
    txn.conn.prepare_cached("UPDATE meta SET turn = turn + 1")?.execute([])?;
    let last: i64 = txn.conn.prepare_cached("SELECT turn FROM meta")?.query_row([], |row| row.get(0))?;
    txn.conn.prepare_cached("UPDATE turn SET last = ?2 WHERE owner = ?1")?.execute(params![owner.as_str(), last])?;
    txn.tell(News::Turn { owner: owner.clone(), last });
    Ok(())
}

pub(super) fn renew(txn: &Txn<'_>, id: BuildId, fence: Fence, lease: Duration) -> Result<Renewal> {
    let entry = match Entry::held(txn.conn, id, fence) {
        Err(StoreError::Lost) => return Ok(Renewal::Lost),
        other => other?,
    };
    let length = to_millis(lease);
    txn.conn.prepare_cached("UPDATE build SET lease_until = ?2, lease_ms = ?3 WHERE num = ?1")?.execute(params![
        entry.num,
        txn.millis.saturating_add(length),
        length
    ])?;
    Ok(if entry.stored.record.cancel_requested { Renewal::CancelRequested } else { Renewal::Continue })
}

/// Deals with the leases that have run out; those of an outage's time get the grace of [`Contact::may_reap`].
pub(super) fn reap(txn: &Txn<'_>, contact: &Contact) -> Result<Vec<Reaped>> {
    let mut reaped = Vec::new();
    for (num, entry) in overdue(txn)? {
        match entry.and_then(|entry| lapse(txn, contact, entry)) {
            Ok(lapsed) => reaped.extend(lapsed),
            Err(StoreError::Unreadable(why)) => set_aside(txn, num, &why)?,
            Err(error) => return Err(error),
        }
    }
    Ok(reaped)
}

fn lapse(txn: &Txn<'_>, contact: &Contact, entry: Entry) -> Result<Option<Reaped>> {
    let overdue = Duration::from_millis(u64::try_from(txn.millis - entry.lease_until.unwrap_or_default()).unwrap_or(0));
    let length = Duration::from_millis(u64::try_from(entry.lease_ms).unwrap_or(0));
    if !contact.may_reap(overdue, length) {
        return Ok(None);
    }
    let mut record = entry.stored.record.clone();
    let build = record.id;
    let lapse = record.lapsed(txn.now).map_err(|e| StoreError::Unreadable(format!("it had a lease, but {e}")))?;
    let place = match record.state {
        // Also one that was set aside while it was queued.
        BuildState::Queued => Place::Requeue,
        after => rules::place(entry.stored.record.state, after, true)?,
    };
    rows::save(txn, entry, record, place, Lease::Keep)?;
    Ok(Some(Reaped { build, lapse }))
}

fn overdue(txn: &Txn<'_>) -> Result<Vec<(i64, Result<Entry>)>> {
    let sql = format!("SELECT {COLUMNS} FROM build b WHERE b.lease_until <= ?1 ORDER BY b.lease_until LIMIT {REAPED}");
    let mut statement = txn.conn.prepare_cached(&sql)?;
    let mut rows = statement.query([txn.millis])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push((row.get(0)?, Entry::read(row)));
    }
    Ok(entries)
}

pub(super) fn stats(conn: &Connection) -> Result<QueueStats> {
    let mut statement = conn.prepare_cached(
        "SELECT (SELECT coalesce(sum(waiting), 0) FROM turn WHERE waiting > 0),
                (SELECT count(*) FROM build WHERE lease_until IS NOT NULL)",
    )?;
    Ok(statement.query_row([], |row| Ok(QueueStats { queued: row.get(0)?, running: row.get(1)? }))?)
}
