//! A build's history: lines appended, events read, and the hot copy removed.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::live::{News, Queue};
use super::rows::{self, Entry};
use super::writer::Txn;
use crate::domain::{BuildId, Event, Fence, LogLine, Scope, Timestamp};
use crate::store::{Result, StoreError, Topic, rules};

pub(super) fn append_log(txn: &Txn<'_>, id: BuildId, fence: Fence, batch: u64, bodies: &[String]) -> Result<u64> {
    let entry = Entry::held(txn.conn, id, fence)?;
    let mut seq = entry.stored.last_seq;
    if batch <= entry.log_batch {
        return Ok(seq);
    }
    for body in bodies {
        seq += 1;
        rows::insert_event(txn, entry.num, seq, body)?;
    }
    txn.conn
        .prepare_cached("UPDATE build SET last_seq = ?2, log_batch = ?3 WHERE num = ?1")?
        .execute(params![entry.num, seq, batch])?;
    txn.wake(Topic::Build(id));
    txn.tell(News::Logged { id, last_seq: seq });
    Ok(seq)
}

pub(super) fn bodies(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(rules::log_body).collect()
}

pub(super) fn events(conn: &Connection, scope: &Scope, id: BuildId, after: u64, limit: usize) -> Result<Option<Vec<Event>>> {
    // One snapshot, or the events could be on their way out after the row said that they are there.
    let conn = conn.unchecked_transaction()?;
    let Some(entry) = Entry::find_in(&conn, scope, id)? else { return Ok(None) };
    if !entry.hot {
        return Ok(Some(Vec::new()));
    }
    let mut statement =
        conn.prepare_cached("SELECT seq, at, body FROM event WHERE build = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
    // SQLite's numbers are signed: what is above is above every event too.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![entry.num, after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        events.push(rules::decode_event(row.get(0)?, Timestamp::from_millis(row.get(1)?), body)?);
    }
    Ok(Some(events))
}

/// The record's mark is no news for readers of the log, which ended before: it appends no event.
pub(super) fn drop_hot_log(txn: &Txn<'_>, id: BuildId) -> Result<()> {
    let Some(entry) = Entry::find(txn.conn, id)? else { return Ok(()) };
    let mut stored = entry.stored;
    if !stored.record.state.is_terminal() {
        return Err(StoreError::Refused("the log of a build that goes on is not archived".into()));
    }
    if stored.record.log_archived && !entry.hot {
        return Ok(());
    }
    stored.record.log_archived = true;
    stored.revision += 1;
    let json = rules::encode_record(&stored.record);
    txn.conn.prepare_cached("UPDATE build SET record = ?2, revision = ?3, hot = 0 WHERE num = ?1")?.execute(params![
        entry.num,
        json,
        stored.revision
    ])?;
    doom(txn, entry.num)?;
    txn.wake(Topic::Build(id));
    txn.tell(News::Saved { stored: Arc::new(stored), weight: json.len(), queue: Queue::Same });
    Ok(())
}

/// Leaves the events of a build, which nobody can see any more, to be removed later.
pub(super) fn doom(txn: &Txn<'_>, num: i64) -> Result<()> {
    txn.conn.prepare_cached("INSERT OR IGNORE INTO doomed VALUES (?1)")?.execute([num])?;
    txn.doom();
    Ok(())
}

/// Removes up to `chunk` doomed events; answers how many builds were looked at, zero when none is left.
pub(super) fn remove_doomed(conn: &Connection, chunk: usize) -> Result<usize> {
    let mut select = conn.prepare_cached("SELECT build FROM doomed LIMIT 16")?;
    let doomed: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut left = chunk;
    for build in &doomed {
        let gone = conn
            .prepare_cached("DELETE FROM event WHERE build = ?1 AND seq IN (SELECT seq FROM event WHERE build = ?1 LIMIT ?2)")?
            .execute(params![build, i64::try_from(left).unwrap_or(i64::MAX)])?;
        if gone == left {
            break;
        }
        left -= gone;
        conn.prepare_cached("DELETE FROM doomed WHERE build = ?1")?.execute([build])?;
    }
    Ok(doomed.len())
}

pub(super) fn unarchived(conn: &Connection, before: Timestamp, limit: usize) -> Result<Vec<BuildId>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM build WHERE hot = 1 AND ended_at IS NOT NULL AND ended_at < ?1 ORDER BY ended_at LIMIT ?2",
    )?;
    let mut rows = statement.query(params![before.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(parse_id(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
    }
    Ok(ids)
}

pub(super) fn parse_id(text: &str) -> Result<BuildId> {
    text.parse().map_err(|e| StoreError::Internal(format!("a stored id does not parse: {e}")))
}
