//! Builds that have ended and are still to be told of.

use rusqlite::{Connection, params};

use super::events::parse_id;
use super::writer::Txn;
use crate::domain::{BuildId, BuildRecord, Owner};
use crate::store::objects::Kind;
use crate::store::{Ended, Result, Topic, rules};

/// Part of the commit that ends a build. An owner without webhooks costs a look at an index.
pub(super) fn note(txn: &Txn<'_>, id: BuildId, owner: &Owner) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO ended (id) SELECT ?1 WHERE EXISTS (SELECT 1 FROM object WHERE kind = ?2 AND owner = ?3)";
    let noted = txn.conn.prepare_cached(sql)?.execute(params![id.to_string(), Kind::Webhook.as_str(), owner.as_str()])?;
    if noted == 1 {
        txn.wake(Topic::Hooks);
    }
    Ok(())
}

/// Part of the commit that takes a build out: what is to be told of it stays.
pub(super) fn keep(txn: &Txn<'_>, record: &BuildRecord) -> Result<()> {
    let id = record.id.to_string();
    if txn.conn.prepare_cached("SELECT 1 FROM ended WHERE id = ?1")?.exists([&id])? {
        let json = rules::encode_record(record);
        txn.conn.prepare_cached("UPDATE ended SET record = ?2 WHERE id = ?1")?.execute([id, json])?;
    }
    Ok(())
}

pub(super) fn ended(conn: &Connection, limit: usize) -> Result<Vec<Ended>> {
    let sql =
        "SELECT e.id, coalesce(e.record, b.record, '') FROM ended e LEFT JOIN build b ON b.id = e.id ORDER BY e.num LIMIT ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, record) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str());
        let build = parse_id(id.map_err(rusqlite::Error::from)?)?;
        found.push(Ended::read(build, record.map_err(rusqlite::Error::from)?));
    }
    Ok(found)
}

pub(super) fn done(txn: &Txn<'_>, builds: &[BuildId]) -> Result<()> {
    let mut delete = txn.conn.prepare_cached("DELETE FROM ended WHERE id = ?1")?;
    for build in builds {
        delete.execute([build.to_string()])?;
    }
    Ok(())
}
