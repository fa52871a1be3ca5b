//! Objects, rates and the audit.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::clock::to_millis;
use super::writer::Txn;
use crate::domain::{Owner, Scope};
use crate::store::objects::{Action, Expect, Hits, Keep, Kind, Object, ObjectQuery, Write};
use crate::store::{Result, StoreError};

const COLUMNS: &str = "id, owner, num, revision, body";

fn read(row: &Row<'_>) -> Result<Object> {
    let owner: String = row.get(1)?;
    let owner: Owner = owner.parse().map_err(|e| StoreError::Internal(format!("a stored owner does not parse: {e}")))?;
    Ok(Object { id: row.get(0)?, owner, order: row.get(2)?, revision: row.get(3)?, body: row.get(4)? })
}

pub(super) fn object(conn: &Connection, now: i64, scope: &Scope, kind: Kind, id: &str) -> Result<Option<Object>> {
    let sql = format!("SELECT {COLUMNS} FROM object WHERE kind = ?1 AND id = ?2 AND (expires IS NULL OR expires > ?3)");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![kind.as_str(), id, now])?;
    let object = rows.next()?.map(read).transpose()?;
    Ok(object.filter(|object| scope.covers(&object.owner)))
}

pub(super) fn objects(conn: &Connection, now: i64, query: &ObjectQuery) -> Result<Vec<Object>> {
    let Some(owner) = query.visible_owner() else { return Ok(Vec::new()) };
    let of_owner = if owner.is_some() { "owner = ?2" } else { "?2 IS NULL" };
    let of_parent = if query.parent.is_some() { "parent = ?6" } else { "?6 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM object WHERE kind = ?1 AND {of_owner} AND {of_parent} AND num < ?3 AND (expires IS NULL OR expires > ?4)
         ORDER BY num DESC LIMIT ?5"
    );
    let before = query.before.and_then(|order| i64::try_from(order).ok()).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows =
        statement.query(params![query.kind.as_str(), owner.map(Owner::as_str), before, now, query.limit, query.parent])?;
    let mut objects = Vec::new();
    while let Some(row) = rows.next()? {
        objects.push(read(row)?);
    }
    Ok(objects)
}

pub(super) fn order_at(conn: &Connection, kind: Kind, parent: &str, rank: u64) -> Result<Option<u64>> {
    let sql = "SELECT num FROM object WHERE kind = ?1 AND parent = ?2 ORDER BY num DESC LIMIT 1 OFFSET ?3";
    Ok(conn.prepare_cached(sql)?.query_row(params![kind.as_str(), parent, rank], |row| row.get(0)).optional()?)
}

pub(super) fn commit(txn: &Txn<'_>, writes: &[Write]) -> Result<()> {
    let now = txn.now.as_millis();
    for write in writes {
        let kind = write.kind.as_str();
        txn.conn
            .prepare_cached("DELETE FROM object WHERE kind = ?1 AND id = ?2 AND expires <= ?3")?
            .execute(params![kind, write.id, now])?;
        let revision: Option<u64> = txn
            .conn
            .prepare_cached("SELECT revision FROM object WHERE kind = ?1 AND id = ?2")?
            .query_row(params![kind, write.id], |row| row.get(0))
            .optional()?;
        let as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => revision.is_none(),
            Expect::Revision(expected) => revision == Some(expected),
        };
        if !as_expected {
            // The error undoes what this commit has written so far.
            return Err(StoreError::Conflict);
        }
        apply(txn, write, now)?;
        if let Some(topic) = write.topic() {
            txn.wake(topic);
        }
    }
    Ok(())
}

fn apply(txn: &Txn<'_>, write: &Write, now: i64) -> Result<()> {
    match &write.action {
        Action::Put { owner, body, keep, parent } => txn
            .conn
            .prepare_cached(
                "INSERT INTO object (kind, id, owner, revision, expires, body, parent) VALUES (?1, ?2, ?3, 1, ?4, ?5, ?7)
                 ON CONFLICT (kind, id) DO UPDATE
                 SET owner = excluded.owner, revision = revision + 1, body = excluded.body,
                     expires = CASE WHEN ?6 THEN expires ELSE excluded.expires END",
            )?
            .execute(params![
                write.kind.as_str(),
                write.id,
                owner.as_str(),
                ends(*keep, now),
                body,
                *keep == Keep::AsItIs,
                parent
            ])?,
        Action::Remove => txn
            .conn
            .prepare_cached("DELETE FROM object WHERE kind = ?1 AND id = ?2")?
            .execute(params![write.kind.as_str(), write.id])?,
    };
    Ok(())
}

fn ends(keep: Keep, now: i64) -> Option<i64> {
    match keep {
        Keep::For(time) => Some(now.saturating_add(to_millis(time))),
        Keep::Forever | Keep::AsItIs => None,
    }
}

pub(super) fn purge(txn: &Txn<'_>, limit: usize) -> Result<u64> {
    let sql = "DELETE FROM object WHERE num IN (SELECT num FROM object WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    let purged = txn.conn.prepare_cached(sql)?.execute(params![txn.now.as_millis(), limit])?;
    Ok(purged as u64)
}

pub(super) fn hit(txn: &Txn<'_>, key: &str, window: Duration) -> Result<Hits> {
    txn.conn.prepare_cached("DELETE FROM rate WHERE ends <= ?1")?.execute([txn.millis])?;
    let (count, ends): (u64, i64) = txn
        .conn
        .prepare_cached(
            "INSERT INTO rate VALUES (?1, 1, ?2) ON CONFLICT (key) DO UPDATE SET count = count + 1 RETURNING count, ends",
        )?
        .query_row(params![key, txn.millis.saturating_add(to_millis(window))], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let left = u64::try_from(ends.saturating_sub(txn.millis)).unwrap_or(0);
    Ok(Hits { count, left: Duration::from_millis(left) })
}

pub(super) fn hits(conn: &Connection, now: i64, key: &str) -> Result<u64> {
    let sql = "SELECT count FROM rate WHERE key = ?1 AND ends > ?2";
    Ok(conn.prepare_cached(sql)?.query_row(params![key, now], |row| row.get(0)).optional()?.unwrap_or(0))
}

pub(super) fn audit_append(txn: &Txn<'_>, after: u64, entries: &[String], head: &str) -> Result<bool> {
    let last: u64 = txn.conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM audit")?.query_row([], |row| row.get(0))?;
    if last != after {
        return Ok(false);
    }
    let mut insert = txn.conn.prepare_cached("INSERT INTO audit VALUES (?1, ?2)")?;
    for (seq, entry) in (after + 1..).zip(entries) {
        insert.execute(params![seq, entry])?;
    }
    let sql = "INSERT INTO object (kind, id, owner, revision, body) VALUES (?1, '', '', 1, ?2)
               ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body";
    txn.conn.prepare_cached(sql)?.execute(params![Kind::AuditHead.as_str(), head])?;
    Ok(true)
}

pub(super) fn audit_head(conn: &Connection) -> Result<Option<String>> {
    let sql = "SELECT body FROM object WHERE kind = ?1 AND id = ''";
    Ok(conn.prepare_cached(sql)?.query_row([Kind::AuditHead.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn audit(conn: &Connection, before: Option<u64>, limit: usize) -> Result<Vec<(u64, String)>> {
    let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached("SELECT seq, entry FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")?;
    let entries = statement.query_map(params![before, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(entries.collect::<rusqlite::Result<_>>()?)
}
