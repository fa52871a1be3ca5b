//! Lists, newest first, each along one index of ids.

use super::RedisStore;
use super::scripts::{self, Raw};
use crate::domain::{BuildId, Owner, Scope};
use crate::store::{ListQuery, Page, Result, rules};

/// Most ids that one step looks at when it filters, so that a long search does not hold up others.
const STEP: usize = 1000;
/// Most ids asked for at once.
const BATCH: usize = 500;

impl RedisStore {
    pub async fn list(&self, query: &ListQuery) -> Result<Page> {
        let Some((index, filtered)) = index(query) else { return Ok(Page { items: Vec::new(), more: false }) };
        // One more than asked for tells whether there are more.
        let wanted = query.limit + 1;
        let mut from = query.before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let mut items = Vec::new();
        loop {
            let mut script = scripts::LIST.key(&self.inner.prefix);
            let missing = wanted - items.len();
            script.arg(&index).arg(&from).arg(missing).arg(if filtered { STEP } else { missing });
            script.arg(query.state.filter(|_| filtered).map_or("", |state| state.as_str()));
            let (below, builds): (String, Vec<Raw>) = self.inner.link.script(&script).await?;
            for raw in builds {
                items.extend(rules::listed(raw.decode())?);
            }
            if items.len() >= wanted || below.is_empty() {
                break;
            }
            from = format!("({below}");
        }
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        Ok(Page { items, more })
    }

    pub async fn existing(&self, ids: &[BuildId]) -> Result<Vec<BuildId>> {
        let mut found = Vec::new();
        for batch in ids.chunks(BATCH) {
            let mut pipeline = redis::pipe();
            for id in batch {
                pipeline.exists(self.key(&format!("b:{id}")));
            }
            let exist: Vec<bool> = self.inner.link.pipeline(&pipeline).await?;
            found.extend(batch.iter().zip(exist).filter(|(_, exists)| *exists).map(|(id, _)| *id));
        }
        Ok(found)
    }
}

/// The index to read, and whether the state is left to be filtered; `None` when scope and filter have nothing in common.
fn index(query: &ListQuery) -> Option<(String, bool)> {
    let owner: Option<&Owner> = match (&query.scope, &query.owner) {
        (Scope::All, filter) => filter.as_ref(),
        (Scope::Owner(own), Some(filter)) if own != filter => return None,
        (Scope::Owner(own), _) => Some(own),
    };
    if let Some(image) = &query.image {
        let name = match &image.tag {
            Some(tag) => format!("{}:{tag}", image.repository),
            None => image.repository.clone(),
        };
        let index = owner.map_or_else(|| format!("ix:i:{name}"), |owner| format!("ix:oi:{owner}:{name}"));
        return Some((index, query.state.is_some()));
    }
    let index = match (owner, query.state.map(|state| state.as_str())) {
        (None, None) => "ix:all".to_owned(),
        (None, Some(state)) => format!("ix:s:{state}"),
        (Some(owner), None) => format!("ix:o:{owner}"),
        (Some(owner), Some(state)) => format!("ix:os:{owner}:{state}"),
    };
    Some((index, false))
}
