//! Live builds that repeat others: what they take over must not go before they have taken it.

use super::supersede::LIVE;
use super::{ListQuery, Result, Store};
use crate::domain::{BuildId, Digest, Scope};

/// A live build that repeats another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    pub build: BuildId,
    pub first: BuildId,
    /// The image of the first build that it is to push.
    pub image: Option<Digest>,
}

impl Store {
    /// All of them, of all owners.
    pub async fn repeats(&self) -> Result<Vec<Repeat>> {
        let mut repeats = Vec::new();
        for state in LIVE {
            let mut query = ListQuery { state: Some(state), ..ListQuery::of(Scope::All) };
            loop {
                let page = self.list(&query).await?;
                query.before = page.items.last().map(|build| build.record.id);
                repeats.extend(page.items.into_iter().filter_map(|build| {
                    let record = build.record;
                    Some(Repeat { build: record.id, first: record.retry_of?, image: record.image_id })
                }));
                if !page.more || query.before.is_none() {
                    break;
                }
            }
        }
        Ok(repeats)
    }
}
