//! What an owner uses, and may use.

use rusqlite::{Connection, OptionalExtension, params};

use super::live::News;
use super::writer::Txn;
use crate::domain::{Owner, Quota, Usage};
use crate::store::{Result, StoreError, Topic};

pub(super) fn set_cap(txn: &Txn<'_>, owner: &Owner, cap: Option<u64>) -> Result<()> {
    let sql = "INSERT INTO tenant VALUES (?1, 0, 0, 0, ?2) ON CONFLICT (owner) DO UPDATE SET cap = excluded.cap";
    txn.conn.prepare_cached(sql)?.execute(params![owner.as_str(), cap])?;
    txn.tell(News::Cap { owner: owner.clone(), cap });
    txn.wake(Topic::Queue);
    Ok(())
}

/// Refuses what its owner may not have; the build itself is counted already, and goes with the refusal.
pub(super) fn check(txn: &Txn<'_>, owner: &Owner, quota: &Quota, bytes: u64) -> Result<()> {
    let sql = "SELECT t.waiting, n.bytes FROM turn t JOIN tenant n ON n.owner = t.owner WHERE t.owner = ?1";
    let (waiting, stored): (u64, u64) =
        txn.conn.prepare_cached(sql)?.query_row([owner.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let over = |quota, limit: Option<u64>, now: u64, own: u64| match limit {
        Some(limit) if now > limit => Err(StoreError::OverQuota { quota, limit, used: now.saturating_sub(own) }),
        _ => Ok(()),
    };
    over("builds_queued", quota.builds_queued, waiting, 1)?;
    over("stored_bytes", quota.stored_bytes, stored, bytes)?;
    let cap = quota.builds_running;
    let changed = txn
        .conn
        .prepare_cached("UPDATE tenant SET cap = ?2 WHERE owner = ?1 AND cap IS NOT ?2")?
        .execute(params![owner.as_str(), cap])?;
    if changed == 1 {
        txn.tell(News::Cap { owner: owner.clone(), cap });
    }
    Ok(())
}

pub(super) fn usage(conn: &Connection, owner: &Owner) -> Result<Usage> {
    let sql = "SELECT builds, bytes, running, (SELECT count(*) FROM build WHERE owner = ?1 AND state = 'queued' AND lease_until IS NULL)
               FROM tenant WHERE owner = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Usage {
            builds: row.get(0)?,
            stored_bytes: row.get(1)?,
            builds_running: row.get(2)?,
            builds_queued: row.get(3)?,
            uploads_this_minute: 0,
            ..Usage::default()
        })
    };
    Ok(conn.prepare_cached(sql)?.query_row([owner.as_str()], read).optional()?.unwrap_or_default())
}
