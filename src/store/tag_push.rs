//! Which build has a tag: the youngest that has pushed it, whichever ended last (THREATS, "tag race").
//!
//! It is read and written by whoever has the destination's [`super::PushTurn`], so that nothing comes between the look and the push.
//! Only what was really pushed is entered: a younger build that fails holds up no older one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::objects::{Expect, Kind, Object, Write};
use super::{Result, Store, StoreError};
use crate::domain::{BuildId, Digest, ImageRef, Owner, Scope};

/// An older build may wait for long, but not longer than this.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// A build that has pushed a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagPush {
    /// Its [`super::Stored::age`].
    pub order: u64,
    pub build: BuildId,
    pub owner: Owner,
    /// What the tag names since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Store {
    /// The youngest build that has pushed this tag.
    pub async fn tag_push(&self, tag: &ImageRef) -> Result<Option<TagPush>> {
        Ok(self.tag_push_object(tag).await?.map(|object| object.body))
    }

    async fn tag_push_object(&self, tag: &ImageRef) -> Result<Option<Object<TagPush>>> {
        self.object(&Scope::All, Kind::TagPush, &tag.to_string()).await
    }

    /// Enters a push, unless one of a younger build is entered: then answers that one. Can be repeated.
    pub async fn enter_tag_push(&self, tag: &ImageRef, push: &TagPush) -> Result<Option<TagPush>> {
        loop {
            let known = self.tag_push_object(tag).await?;
            if let Some(known) = known.as_ref().filter(|known| known.body.order > push.order || known.body == *push) {
                return Ok(Some(known.body.clone()).filter(|known| known != push));
            }
            let expect = known.map_or(Expect::Absent, |known| Expect::Revision(known.revision));
            let write = Write::put(Kind::TagPush, tag.to_string(), &push.owner, expect, push).keep(KEPT);
            match self.commit(&[write]).await {
                Err(StoreError::Conflict) => {}
                entered => return entered.map(|()| None),
            }
        }
    }
}
