//! Claims, leases, and whose turn it is.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::clock::to_millis;
use super::rows::{self, COLUMNS, Entry, Lease};
use super::writer::Txn;
use crate::domain::{BuildId, BuildState, Fence, NodeId, WorkerId};
use crate::store::contact::Contact;
use crate::store::rules::{self, Place};
use crate::store::{Claim, QueueStats, Reaped, Renewal, Result, SET_ASIDE, StoreError};

/// Most leases that one commit deals with.
const REAPED: usize = 200;

pub(super) fn claim(txn: &Txn<'_>, worker: &WorkerId, node: &NodeId, lease: Duration) -> Result<Option<Claim>> {
    while let Some((waiting, num)) = next(txn.conn)? {
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
        take_turn(txn.conn, record.owner.as_str())?;
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
    rules::tell_set_aside(&id, why);
    Ok(())
}

/// The build whose turn it is, if it can be read, and its number.
fn next(conn: &Connection) -> Result<Option<(Result<Entry>, i64)>> {
    let owner: Option<String> = conn
        .prepare_cached("SELECT owner FROM turn WHERE waiting > 0 ORDER BY last, owner LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(owner) = owner else { return Ok(None) };
    let sql = format!(
        "SELECT {COLUMNS} FROM build b WHERE b.owner = ?1 AND b.state = 'queued'
         ORDER BY b.requeued DESC, b.priority DESC, b.num LIMIT 1"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([owner])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some((Entry::read(row), row.get(0)?)))
}

fn take_turn(conn: &Connection, owner: &str) -> Result<()> {
    conn.prepare_cached("UPDATE meta SET turn = turn + 1")?.execute([])?;
    conn.prepare_cached("UPDATE turn SET last = (SELECT turn FROM meta) WHERE owner = ?1")?.execute([owner])?;
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

pub(super) fn position(conn: &Connection, id: BuildId) -> Result<Option<u64>> {
    // One snapshot for all that follows.
    place(&*conn.unchecked_transaction()?, id)
}

/// Plays the round of turns until this build's: in each round every owner with builds left gets one, in the order of their
/// last turns, so that another owner takes as many as this build's place, and one more when their turn comes first.
/// Meant for a connection inside a transaction.
pub(super) fn place(conn: &Connection, id: BuildId) -> Result<Option<u64>> {
    let Some(queued) = Queued::find(conn, id)? else { return Ok(None) };
    let place = queued.place(conn)?;
    let others: u64 = conn
        .prepare_cached(
            "SELECT coalesce(sum(min(o.waiting, ?2 + ((o.last, o.owner) < (me.last, me.owner)))), 0)
             FROM turn o, turn me WHERE me.owner = ?1 AND o.owner <> ?1 AND o.waiting > 0",
        )?
        .query_row(params![queued.owner, place], |row| row.get(0))?;
    Ok(Some(place + others))
}

/// Where a build stands among its owner's queued ones.
struct Queued {
    owner: String,
    requeued: bool,
    priority: i64,
    num: i64,
}

impl Queued {
    fn find(conn: &Connection, id: BuildId) -> Result<Option<Self>> {
        Ok(conn
            .prepare_cached("SELECT owner, requeued, priority, num FROM build WHERE id = ?1 AND state = 'queued'")?
            .query_row([id.to_string()], |row| {
                Ok(Self { owner: row.get(0)?, requeued: row.get(1)?, priority: row.get(2)?, num: row.get(3)? })
            })
            .optional()?)
    }

    /// How many of its owner's builds go before it. Counted from the nearer end of the queue, so that the newest build of a long
    /// queue, which is what every accepted client asks for, costs no more than the first.
    fn place(&self, conn: &Connection) -> Result<u64> {
        let (first, last) = (self.end(conn, "min")?, self.end(conn, "max")?);
        if self.num - first <= last - self.num {
            return self.count(conn, ">", "<");
        }
        let waiting: u64 =
            conn.prepare_cached("SELECT waiting FROM turn WHERE owner = ?1")?.query_row([&self.owner], |row| row.get(0))?;
        Ok(waiting.saturating_sub(1 + self.count(conn, "<", ">")?))
    }

    /// The oldest (`min`) or newest (`max`) of those with the same rank.
    fn end(&self, conn: &Connection, which: &str) -> Result<i64> {
        let sql = format!(
            "SELECT {which}(num) FROM build INDEXED BY build_in_queue
             WHERE owner = ?1 AND state = 'queued' AND requeued = ?2 AND priority = ?3"
        );
        Ok(conn.prepare_cached(&sql)?.query_row(params![self.owner, self.requeued, self.priority], |row| row.get(0))?)
    }

    /// Those of a rank that is `rank` than this one's, and those of the same rank with a number that is `order` than this one's.
    fn count(&self, conn: &Connection, rank: &str, order: &str) -> Result<u64> {
        let queued = "SELECT count(*) FROM build INDEXED BY build_in_queue WHERE owner = ?1 AND state = 'queued'";
        let sql = format!(
            "SELECT ({queued} AND requeued {rank} ?2) + ({queued} AND requeued = ?2 AND priority {rank} ?3)
                  + ({queued} AND requeued = ?2 AND priority = ?3 AND num {order} ?4)"
        );
        let parameters = params![self.owner, self.requeued, self.priority, self.num];
        Ok(conn.prepare_cached(&sql)?.query_row(parameters, |row| row.get(0))?)
    }
}

pub(super) fn stats(conn: &Connection) -> Result<QueueStats> {
    let mut statement = conn.prepare_cached(
        "SELECT (SELECT coalesce(sum(waiting), 0) FROM turn WHERE waiting > 0),
                (SELECT count(*) FROM build WHERE lease_until IS NOT NULL)",
    )?;
    Ok(statement.query_row([], |row| Ok(QueueStats { queued: row.get(0)?, running: row.get(1)? }))?)
}
