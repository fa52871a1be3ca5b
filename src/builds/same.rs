//! The very same build again: joined while it goes on, or answered with its result while that is still there.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::submit::Checked;
use super::{Builds, Draft};
use crate::auth::Principal;
use crate::context::dockerfile;
use crate::domain::{Base, BuildId, BuildRecord, BuildState, Credentials, ImageRef, Owner, Priority, Scope, local_tag};
use crate::error::Result;
use crate::store::{Guard, ImageFilter, ListQuery, PushTurn, StoreError, Stored};

/// Two that ask for the same at once wait so long for each other.
const TURN: Duration = Duration::from_secs(10);

/// What a submission came to.
pub enum Submitted {
    New(Stored, Option<u64>),
    /// A build of the very same was under way.
    Joined(Stored, Option<u64>),
    /// One has ended, and what it made is still there.
    Reused(Stored),
}

/// What tells one build from another, in lower-case hexadecimal: its owner, what was sent, and every option that can change the image
/// or where it goes. Empty for a build with secrets, whose values cannot be compared, and for one whose source is not here yet.
pub(super) fn identity(record: &BuildRecord, dockerfile: &[u8]) -> String {
    if record.spec.needs_secrets() || record.context.identity().is_empty() {
        return String::new();
    }
    let mut spec = record.spec.clone();
    (spec.timeout_ms, spec.priority, spec.supersede) = (0, Priority::default(), false);
    spec.images.sort_by_key(ToString::to_string);
    let spec = serde_json::to_vec(&spec).expect("serialises, because its maps have text keys and it holds no floats");
    let mut hash = Sha256::new();
    for part in [record.owner.as_str().as_bytes(), record.context.identity().as_bytes(), dockerfile, &spec] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

impl Builds {
    /// [`Builds::submit`]; with `reuse`, a build of the very same of this owner is answered instead, if there is one.
    ///
    /// # Errors
    /// As [`Builds::submit`].
    pub async fn submit_or_join(&self, caller: &Principal, id: BuildId, draft: Draft) -> Result<Submitted> {
        self.must_have_room()?;
        let checked = self.check(caller, draft).await?;
        let record = checked.record(caller, id);
        let wanted_anew = record.spec.no_cache || record.spec.cold;
        if !checked.reuse || wanted_anew || record.identity.is_empty() {
            return self.begin(caller, record, checked).await.map(|(stored, position)| Submitted::New(stored, position));
        }
        let key = format!("same:{}", record.identity);
        // Without the turn both would be accepted: nothing is lost then but time.
        let _turn = tokio::time::timeout(TURN, PushTurn::named(&self.store, key, caller.owner.as_str())).await;
        if let Some(same) = self.same(&record, &checked).await? {
            if let Submitted::Joined(joined, _) = &same {
                self.supersede_older(&BuildRecord { id: joined.record.id, ..record }, joined.age()).await;
            }
            return Ok(same);
        }
        self.begin(caller, record, checked).await.map(|(stored, position)| Submitted::New(stored, position))
    }

    /// Looks among the newest builds of the first image, or of the owner when there is none.
    async fn same(&self, record: &BuildRecord, checked: &Checked) -> Result<Option<Submitted>> {
        let Some(newest) = self.newest_without_rival(record).await? else { return Ok(None) };
        let state = newest.record.state;
        if state.is_terminal() {
            return Ok(self.stands(&newest.record, checked).await.then_some(Submitted::Reused(newest)));
        }
        // Before it begins, it is still to look what its images are.
        let begun = !newest.record.bases.is_empty();
        if begun && !self.same_bases(&newest.record, &checked.dockerfile, &checked.given.credentials).await {
            return Ok(None);
        }
        self.join(&newest.record).await
    }

    /// Notes in the build that another has joined it; `None` when it ends at this moment.
    async fn join(&self, running: &BuildRecord) -> Result<Option<Submitted>> {
        let guard = Guard::Scope(Scope::Owner(running.owner.clone()));
        let noted = self.store.update(running.id, &guard, |record, now, _| {
            if record.state.is_terminal() || record.cancel_requested {
                return Err(StoreError::Refused("it ends".into()));
            }
            record.join(now);
            Ok(())
        });
        match noted.await {
            Ok(Some(joined)) => {
                let position = self.position(&joined).await?;
                Ok(Some(Submitted::Joined(joined, position)))
            }
            Ok(None) | Err(StoreError::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The newest build with this identity that has not failed, unless another one since then goes to one of its tags: that one, being
    /// younger, would have the tag in the end, and not what is asked for now.
    async fn newest_without_rival(&self, record: &BuildRecord) -> Result<Option<Stored>> {
        let mut found: Option<Stored> = None;
        let lists = record.spec.images.iter().map(Some).chain(record.spec.images.is_empty().then_some(None));
        for image in lists {
            let page = self.store.list(&newest(&record.owner, image)).await?.items;
            let counts = |build: &&Stored| !matches!(build.record.state, BuildState::Failed | BuildState::Cancelled);
            let counted = page.into_iter().filter(|build| counts(&build));
            let is_same = |build: &Stored| build.record.owner == record.owner && build.record.identity == record.identity;
            let first = match image {
                // All that go to this tag: the youngest must be the same.
                Some(_) => counted.max_by_key(Stored::age).filter(is_same),
                None => counted.filter(is_same).max_by_key(Stored::age),
            };
            let Some(first) = first else { return Ok(None) };
            if found.as_ref().is_some_and(|found| found.record.id != first.record.id) {
                return Ok(None);
            }
            found = Some(first);
        }
        Ok(found)
    }

    /// Whether what an ended build made is still there, and would be made of the same images today.
    async fn stands(&self, done: &BuildRecord, checked: &Checked) -> bool {
        let credentials = &checked.given.credentials;
        for (destination, digest) in done.pushed() {
            let own = credentials.iter().find(|one| one.host() == destination.image.host());
            if self.remote.names(&destination.image, own).await.as_ref() != Some(digest) {
                return false;
            }
        }
        match done.state {
            BuildState::Published => {}
            BuildState::Built if done.image_id.is_some() => {
                if self.remote.local(&local_tag(done.id)).await != done.image_id {
                    return false;
                }
            }
            _ => return false,
        }
        done.missing().next().is_none() && self.same_bases(done, &checked.dockerfile, credentials).await
    }

    async fn same_bases(&self, done: &BuildRecord, text: &[u8], credentials: &[Credentials]) -> bool {
        let outline = dockerfile::check(text).ok();
        let Some(names) = outline.and_then(|outline| outline.all_images(&done.spec.build_args)) else { return false };
        let now = self.remote.bases(&names, done.spec.pull, credentials).await;
        now == done.bases && now.iter().all(Base::is_known)
    }
}

/// The owner's newest builds, or, with a tag, everybody's that go there.
fn newest(owner: &Owner, image: Option<&ImageRef>) -> ListQuery {
    let filter = |image: &ImageRef| ImageFilter { repository: image.repository(), tag: Some(image.tag().to_owned()) };
    let scope = if image.is_some() { Scope::All } else { Scope::Owner(owner.clone()) };
    ListQuery { image: image.map(filter), ..ListQuery::of(scope) }
}
