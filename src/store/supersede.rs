//! A build that takes the place of older ones: `supersede=true`.

use super::{Guard, ImageFilter, ListQuery, Result, Store, StoreError, Stored};
use crate::domain::{BuildId, BuildRecord, BuildState, Scope};

/// In this order, so that a build that goes on meanwhile is met later.
pub(super) const LIVE: [BuildState; 3] = [BuildState::Queued, BuildState::Building, BuildState::Pushing];

/// Whether the first of two with an image in common takes the place of the other. By [`Stored::age`], as everywhere: ids are made
/// when an upload begins, and so another may have been accepted between the two.
fn replaces(by: &BuildRecord, age: u64, other: &Stored) -> bool {
    let reaches = || other.record.spec.images.iter().all(|image| by.spec.images.contains(image));
    other.age() < age && other.record.spec.project == by.spec.project && (!by.limited || reaches())
}

impl Store {
    /// Ends the older live builds of the same owner and project that have an image of this one: those that wait at once, those
    /// that are worked on by their workers, which are told. Done after the acceptance, and again when the build is claimed: a
    /// process that dies between the two leaves nothing undone, and doing it twice does nothing twice. `age` is its [`Stored::age`].
    pub async fn supersede_older(&self, by: &BuildRecord, age: u64) -> Result<()> {
        for image in &by.spec.images {
            for state in LIVE {
                let filter = ImageFilter { repository: image.repository(), tag: Some(image.tag().to_owned()) };
                let scope = Scope::Owner(by.owner.clone());
                let mut query = ListQuery { state: Some(state), image: Some(filter), ..ListQuery::of(scope) };
                loop {
                    let page = self.list(&query).await?;
                    query.before = page.items.last().map(|older| older.record.id);
                    for older in page.items.iter().filter(|other| replaces(by, age, other)) {
                        self.supersede(older.record.id, by).await?;
                    }
                    if !page.more {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn supersede(&self, older: BuildId, by: &BuildRecord) -> Result<()> {
        let younger = by.id;
        let guard = Guard::Scope(Scope::Owner(by.owner.clone()));
        let ended = self.update(older, &guard, move |record, now, leased| {
            if record.state.is_terminal() || record.cancel_requested {
                return Ok(());
            }
            record.superseded_by = Some(younger);
            if leased {
                record.cancel_requested = true;
                return Ok(());
            }
            record.superseded(Some(younger), now).map_err(|e| StoreError::Refused(e.to_string()))
        });
        ended.await.map(drop)
    }
}
