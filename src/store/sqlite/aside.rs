//! What lives beside the builds: removals of images, locks, tokens, signs of life.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock::to_millis;
use super::ended;
use super::events::{doom, parse_id};
use super::live::News;
use super::rows::{self, Entry, Lease};
use super::writer::Txn;
use crate::domain::{BuildId, BuildRecord, BuildState, NodeId, Owner, Scope, WorkerId};
use crate::store::rules::Place;
use crate::store::{Deleted, ImageRemoval, OUTCOME_KEPT, Removal, Result, StoreError, Stored, Topic, WorkerInfo};

pub(super) fn delete(txn: &Txn<'_>, scope: &Scope, id: BuildId) -> Result<Option<Deleted>> {
    let Some(entry) = Entry::find_in(txn.conn, scope, id)? else { return Ok(None) };
    let record = entry.stored.record;
    let text = id.to_string();
    ended::keep(txn, &record)?;
    txn.conn.prepare_cached("DELETE FROM build WHERE num = ?1")?.execute([entry.num])?;
    for image in &record.spec.images {
        txn.conn.prepare_cached("DELETE FROM image WHERE repository = ?1 AND tag IN ('', ?2) AND id = ?3")?.execute(params![
            image.repository(),
            image.tag(),
            text
        ])?;
    }
    doom(txn, entry.num)?;
    let removal = record.node.clone().map(|node| Removal { build: id, node, image_id: record.image_id.clone() });
    if let Some(removal) = &removal {
        txn.conn
            .prepare_cached("INSERT OR REPLACE INTO removal (node, build, image_id) VALUES (?1, ?2, ?3)")?
            .execute(params![removal.node.as_str(), text, removal.image_id.as_ref().map(|digest| digest.as_str())])?;
        txn.wake(Topic::Removals);
    }
    if record.state == BuildState::Queued {
        txn.wake(Topic::Queue);
    }
    txn.wake(Topic::Build(id));
    txn.tell(News::Gone(id));
    Ok(Some(Deleted { record, removal }))
}

pub(super) fn all_sealed(conn: &Connection, after: Option<BuildId>, limit: usize) -> Result<Vec<(BuildId, Owner, Vec<u8>)>> {
    let sql =
        "SELECT b.id, b.owner, s.content FROM sealed s JOIN build b ON b.num = s.num WHERE b.id > ?1 ORDER BY b.id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![after.map(|id| id.to_string()).unwrap_or_default(), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let owner: String = row.get(1)?;
        let owner = owner.parse().map_err(|e| StoreError::Internal(format!("a stored owner does not parse: {e}")))?;
        found.push((parse_id(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?, owner, row.get(2)?));
    }
    Ok(found)
}

pub(super) fn reseal(txn: &Txn<'_>, id: BuildId, old: &[u8], new: &[u8]) -> Result<bool> {
    let sql = "UPDATE sealed SET content = ?3 WHERE num = (SELECT num FROM build WHERE id = ?1) AND content = ?2";
    Ok(txn.conn.prepare_cached(sql)?.execute(params![id.to_string(), old, new])? == 1)
}

pub(super) fn transfer(txn: &Txn<'_>, id: BuildId, from: &Owner, to: &Owner) -> Result<Option<Stored>> {
    let Some(entry) = Entry::find_in(txn.conn, &Scope::Owner(from.clone()), id)? else { return Ok(None) };
    if !entry.stored.record.state.is_terminal() {
        return Err(StoreError::Refused("a build that goes on does not change hands".into()));
    }
    let num = entry.num;
    let record = BuildRecord { owner: to.clone(), ..entry.stored.record.clone() };
    let stored = rows::save(txn, entry, record, Place::Stay, Lease::Keep)?;
    txn.conn.prepare_cached("UPDATE build SET owner = ?2 WHERE num = ?1")?.execute(params![num, to.as_str()])?;
    txn.conn.prepare_cached("UPDATE image SET owner = ?2 WHERE id = ?1")?.execute(params![id.to_string(), to.as_str()])?;
    Ok(Some(stored))
}

pub(super) fn removals(conn: &Connection, node: &NodeId) -> Result<Vec<Removal>> {
    let mut statement = conn.prepare_cached("SELECT build, image_id FROM removal WHERE node = ?1 ORDER BY build")?;
    let mut rows = statement.query([node.as_str()])?;
    let mut removals = Vec::new();
    while let Some(row) = rows.next()? {
        let image_id: Option<String> = row.get(1)?;
        let image_id = image_id.map(|text| text.parse()).transpose();
        removals.push(Removal {
            build: parse_id(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
            node: node.clone(),
            image_id: image_id.map_err(|e| StoreError::Internal(format!("a stored digest does not parse: {e}")))?,
        });
    }
    Ok(removals)
}

pub(super) fn removal_done(txn: &Txn<'_>, removal: &Removal, outcome: ImageRemoval) -> Result<()> {
    let build = removal.build.to_string();
    txn.conn
        .prepare_cached("DELETE FROM removal WHERE node = ?1 AND build = ?2")?
        .execute(params![removal.node.as_str(), build])?;
    txn.conn.prepare_cached("DELETE FROM removal_outcome WHERE at <= ?1")?.execute([kept_since(txn)])?;
    txn.conn.prepare_cached("INSERT OR REPLACE INTO removal_outcome VALUES (?1, ?2, ?3)")?.execute(params![
        build,
        encode(&outcome),
        txn.now.as_millis()
    ])?;
    txn.wake(Topic::Build(removal.build));
    Ok(())
}

fn kept_since(txn: &Txn<'_>) -> i64 {
    txn.now.as_millis().saturating_sub(to_millis(OUTCOME_KEPT))
}

pub(super) fn removal_outcome(conn: &Connection, since: i64, id: BuildId) -> Result<Option<ImageRemoval>> {
    let outcome: Option<String> = conn
        .prepare_cached("SELECT outcome FROM removal_outcome WHERE build = ?1 AND at > ?2")?
        .query_row(params![id.to_string(), since], |row| row.get(0))
        .optional()?;
    outcome.map(|json| decode(&json)).transpose()
}

pub(super) fn lock(txn: &Txn<'_>, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
    let taken = txn
        .conn
        .prepare_cached(
            "INSERT INTO lock VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE holder = excluded.holder OR until <= ?4",
        )?
        .execute(params![key, holder, txn.millis.saturating_add(to_millis(ttl)), txn.millis])?;
    Ok(taken == 1)
}

pub(super) fn unlock(txn: &Txn<'_>, key: &str, holder: &str) -> Result<()> {
    if txn.conn.prepare_cached("DELETE FROM lock WHERE key = ?1 AND holder = ?2")?.execute([key, holder])? == 1 {
        txn.wake(Topic::Locks);
    }
    Ok(())
}

pub(super) fn put_worker(txn: &Txn<'_>, mut info: WorkerInfo) -> Result<()> {
    info.seen_at = txn.now;
    txn.conn
        .prepare_cached("DELETE FROM worker WHERE seen <= ?1")?
        .execute([txn.millis.saturating_sub(to_millis(OUTCOME_KEPT))])?;
    txn.conn.prepare_cached("INSERT OR REPLACE INTO worker VALUES (?1, ?2, ?3)")?.execute(params![
        info.worker.as_str(),
        encode(&info),
        txn.millis
    ])?;
    Ok(())
}

pub(super) fn remove_worker(txn: &Txn<'_>, worker: &WorkerId) -> Result<()> {
    txn.conn.prepare_cached("DELETE FROM worker WHERE worker = ?1")?.execute([worker.as_str()])?;
    Ok(())
}

/// Workers seen after `since`, on the store's clock.
pub(super) fn workers(conn: &Connection, since: i64) -> Result<Vec<WorkerInfo>> {
    let mut statement = conn.prepare_cached("SELECT info FROM worker WHERE seen >= ?1 ORDER BY worker")?;
    let rows: Vec<String> = statement.query_map([since], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    rows.iter().map(|json| decode(json)).collect()
}

pub(super) fn ping(txn: &Txn<'_>) -> Result<()> {
    txn.conn.prepare_cached("UPDATE meta SET pinged = pinged + 1")?.execute([])?;
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data serialises, because its keys are text and it holds no floats")
}

fn decode<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| StoreError::Internal(format!("a stored value does not parse: {e}")))
}
