//! Lists, newest first. Every combination of filters reads one index in the order of its ids.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{COLUMNS, Entry};
use crate::domain::{Owner, Scope};
use crate::store::{ListQuery, Page, Result, StoreError, rules};

pub(super) fn list(conn: &Connection, query: &ListQuery) -> Result<Page> {
    let Some(owner) = visible_owner(query)? else { return Ok(Page { items: Vec::new(), more: false }) };
    let (sql, values) = statement(query, owner.map(Owner::as_str));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut items, mut found) = (Vec::with_capacity(query.limit + 1), 0);
    while let Some(row) = rows.next()? {
        found += 1;
        items.extend(rules::listed(Entry::read(row).map(|entry| entry.stored))?);
    }
    items.truncate(query.limit);
    Ok(Page { items, more: found > query.limit })
}

/// The one owner to look at, `Some(None)` for all; `None` when the scope and the filter have nothing in common.
#[allow(clippy::option_option, reason = "none, all or one are three answers")]
fn visible_owner(query: &ListQuery) -> Result<Option<Option<&Owner>>> {
    Ok(match (&query.scope, &query.owner) {
        (Scope::All, filter) => Some(filter.as_ref()),
        (Scope::Owner(own), None) => Some(Some(own)),
        (Scope::Owner(own), Some(filter)) => (own == filter).then_some(Some(own)),
    })
}

fn statement(query: &ListQuery, owner: Option<&str>) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut add = |condition: &str, value: String| {
        values.push(value.into());
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    let from = match &query.image {
        Some(image) => {
            add("i.repository =", image.repository.clone());
            add("i.tag =", image.tag.clone().unwrap_or_default());
            if let Some(owner) = owner {
                add("i.owner =", owner.to_owned());
            }
            // CROSS JOIN keeps this order of the loops: the index of images first.
            "image i CROSS JOIN build b ON b.id = i.id"
        }
        None => {
            if let Some(owner) = owner {
                add("b.owner =", owner.to_owned());
            }
            "build b"
        }
    };
    let id = if query.image.is_some() { "i.id" } else { "b.id" };
    if let Some(state) = query.state {
        add("b.state =", state.as_str().to_owned());
    }
    if let Some(before) = query.before {
        add(&format!("{id} <"), before.to_string());
    }
    let filter = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    // One more than asked for tells whether there are more.
    (format!("SELECT {COLUMNS} FROM {from} WHERE {filter} ORDER BY {id} DESC LIMIT {}", query.limit + 1), values)
}

/// Which of these exist.
pub(super) fn existing(conn: &Connection, ids: &[crate::domain::BuildId]) -> Result<Vec<crate::domain::BuildId>> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM build WHERE id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        if statement.exists([id.to_string()]).map_err(StoreError::from)? {
            found.push(*id);
        }
    }
    Ok(found)
}
