//! The images that are an owner's: what is written down of them, and the names by which the engine keeps them.
//!
//! What an owner's credentials brought, and what an owner has named, stands on the engine under a name of ours alone, which nobody can
//! guess and no Dockerfile may use: a name that people know would mean it in everybody's builds and runs.

use std::collections::HashSet;

use sha2::Digest as _;
use tokio::sync::watch;

use super::Fleet;
use super::images::{Here, shown, user_error};
use super::pulls::Pull;
use super::steps::{Fault, Result};
use crate::domain::{
    Credentials, Digest, ErrorKind, LOCAL_HOST, Owner, PulledImage, RunError, RunImage, Scope, Timestamp, limits,
};
use crate::engine::containers::EngineImage;
use crate::error::Error;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// How long a registry may take to tell how many pulls are left.
const LEFT_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What the names of one installation begin with: another one may use the same engine.
fn prefix(installation: &str) -> String {
    let hash = hex::encode(sha2::Sha256::digest(installation));
    format!("{LOCAL_HOST}/image:{}-", &hash[..16])
}

impl Fleet {
    /// Pulls an image for an owner, or joins the pull that is under way.
    ///
    /// # Errors
    /// When the engine or the store is away, the credentials are not there, or the disk has less room than the configured floor.
    pub async fn pull_image(&self, owner: &Owner, image: &RunImage, registry: Option<&str>) -> Result<PullWatch> {
        self.must_have_room().await?;
        let credentials = self.credentials_for(owner, registry, image).await?;
        let was_named = self.engine().image(&image.reference()).await?.is_some();
        let silence = self.settings().pull_silence;
        let pull = self.inner.pulls.join(self.engine(), owner, image, credentials.clone(), silence);
        Ok(PullWatch { fleet: self.clone(), owner: owner.clone(), image: image.clone(), credentials, was_named, pull })
    }

    /// On our own disk, and where the engine keeps its images, if that is on this machine.
    async fn must_have_room(&self) -> Result<()> {
        let engine = self.engine().info().await?.data_root;
        let builds = self.builds();
        let checked = builds.must_have_room().and_then(|()| match engine.as_deref().filter(|folder| folder.is_dir()) {
            Some(folder) => builds.must_have_room_in(folder),
            None => Ok(()),
        });
        checked.map_err(|error| match error {
            Error::StorageFull(message) => Fault::Run(RunError { kind: ErrorKind::Infra, code: "storage_full".into(), message }),
            other => other.into(),
        })
    }

    /// What is written down of an owner's image.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn own_image(&self, owner: &Owner, image: &RunImage) -> Result<Option<PulledImage>> {
        let id = PulledImage::id(owner, &image.reference());
        let found: Option<Object<PulledImage>> = self.store().object(&Scope::Owner(owner.clone()), Kind::Image, &id).await?;
        Ok(found.map(|object| object.body))
    }

    /// What is written down of one image, whoever's it is.
    pub(super) async fn records_of(&self, image: &Digest) -> Result<Vec<PulledImage>> {
        let mut query = ObjectQuery {
            scope: Scope::All,
            kind: Kind::Image,
            owner: None,
            parent: Some(image.to_string()),
            before: None,
            limit: limits::PAGE,
        };
        let mut all = Vec::new();
        loop {
            let (page, more) = self.store().objects::<PulledImage>(&query).await?;
            query.before = page.last().map(|object| object.order);
            all.extend(page.into_iter().map(|object| object.body));
            if !more {
                return Ok(all);
            }
        }
    }

    /// Keeps an image that is here as the owner's own, under this name of the owner's.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn keep_image(
        &self,
        owner: &Owner,
        image: &RunImage,
        id: &Digest,
        digest: Option<Digest>,
        private: bool,
    ) -> Result<PulledImage> {
        let name = format!("{}{}", prefix(&self.settings().installation), uuid::Uuid::new_v4().simple());
        let record = PulledImage { private, kept_as: Some(name.clone()), digest, ..self.new_record(owner, image, id)? };
        // Before there is the name: one that has no record is swept away.
        let before = self.put_image(&record).await?;
        self.engine().tag(id, &name).await?;
        self.untag(before).await?;
        Ok(record)
    }

    fn new_record(&self, owner: &Owner, image: &RunImage, id: &Digest) -> Result<PulledImage> {
        Ok(PulledImage {
            owner: owner.clone(),
            reference: image.reference(),
            image_id: id.clone(),
            node: self.node().ok_or_else(super::seen::away)?,
            private: false,
            kept_as: None,
            brought: false,
            digest: None,
            pulled_at: Timestamp::now(),
        })
    }

    /// Answers the name of ours by which the engine has kept what was the owner's under this name before.
    async fn put_image(&self, record: &PulledImage) -> Result<Option<String>> {
        let id = PulledImage::id(&record.owner, &record.reference);
        let before: Option<Object<PulledImage>> = self.store().object(&Scope::All, Kind::Image, &id).await?;
        // The parent of an object never changes, and the image behind a tag does.
        self.store().commit(&[Write::remove(Kind::Image, &id, Expect::Anything)]).await?;
        let put = Write::put(Kind::Image, &id, &record.owner, Expect::Anything, record);
        self.store().commit(&[put.under(record.image_id.as_str())]).await?;
        Ok(before.and_then(|before| before.body.kept_as))
    }

    async fn untag(&self, name: Option<String>) -> Result<()> {
        match name {
            Some(name) => Ok(self.engine().untag(&name).await.map(drop)?),
            None => Ok(()),
        }
    }

    /// An owner has an image no more: its record goes, and with it the name by which the engine kept it, or the public one if it
    /// came here by a pull of ours and nobody else uses the image.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn forget_image(&self, record: &PulledImage) -> Result<()> {
        let id = PulledImage::id(&record.owner, &record.reference);
        self.store().commit(&[Write::remove(Kind::Image, id, Expect::Anything)]).await?;
        if let Some(name) = &record.kept_as {
            self.engine().untag(name).await?;
        } else if record.brought && !self.is_needed(record).await? {
            self.engine().untag(&record.reference).await?;
        }
        Ok(())
    }

    /// Whether somebody may still mean an image by its name, or the name means another one by now.
    async fn is_needed(&self, record: &PulledImage) -> Result<bool> {
        let named = self.engine().image(&record.reference).await?;
        let is_same = named.is_some_and(|image| image.id == record.image_id);
        let others = self.records_of(&record.image_id).await?;
        let runs = self.containers(&Scope::All)?.iter().any(|seen| seen.summary.image_id == record.image_id.as_str());
        Ok(!is_same || runs || others.iter().any(|other| other.reference == record.reference))
    }

    /// Takes away the names of ours that keep images which are nobody's any more.
    pub(super) async fn sweep_images(&self) -> Result<()> {
        let ours = prefix(&self.settings().installation);
        // Listed before the records are read: a name has a record first.
        let mut names = self.engine().tags().await?;
        names.retain(|name| name.starts_with(&ours));
        if names.is_empty() {
            return Ok(());
        }
        let records = self.store().all_objects::<PulledImage>(&Scope::All, Kind::Image).await?;
        let known: HashSet<String> = records.into_iter().filter_map(|object| object.body.kept_as).collect();
        for name in names.iter().filter(|name| !known.contains(*name)) {
            self.engine().untag(name).await?;
        }
        Ok(())
    }
}

/// A pull that is under way. Dropping it stops the pull, unless somebody else waits for it.
pub struct PullWatch {
    fleet: Fleet,
    owner: Owner,
    image: RunImage,
    credentials: Option<Credentials>,
    /// Whether the engine had the name before.
    was_named: bool,
    pull: watch::Receiver<Pull>,
}

impl PullWatch {
    /// How far it is.
    pub fn progress(&mut self) -> Pull {
        self.pull.borrow_and_update().clone()
    }

    /// Comes when it is further, or over.
    pub async fn moved(&mut self) {
        // A pull that was given up is seen as such by the next look.
        if self.pull.changed().await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    /// How many more pulls the registry allows, if it tells, in words. Whoever pulls is not kept waiting for long.
    pub async fn left(&self) -> Option<String> {
        let asked = self.fleet.inner.registries.pulls_left(&self.image, self.credentials.as_ref());
        let left = tokio::time::timeout(LEFT_WITHIN, asked).await.ok()?.ok().flatten()?;
        Some(format!("{}: {left}", self.image.image.host()))
    }

    /// After the pull's end: writes down that the image is the owner's to use, and answers it as it is shown.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub(super) async fn settle(&self) -> Result<Here> {
        let pinned = self.pull.borrow().pinned.clone();
        match pinned {
            Some(digest) => self.settle_private(digest).await,
            None => {
                let found = self.fleet.engine().image(&self.image.reference()).await?;
                let found = found.ok_or_else(|| user_error("image_not_found", format!("{} is not on the engine", self.image)))?;
                let record = self.fleet.new_record(&self.owner, &self.image, &found.id)?;
                let before = self.fleet.put_image(&PulledImage { brought: self.brought(&found.id).await?, ..record }).await?;
                self.fleet.untag(before).await?;
                Ok(Here { shown: shown(&self.image, &found), id: found.id })
            }
        }
    }

    /// Whether the engine has the name from this pull, or from an earlier one of ours.
    async fn brought(&self, id: &Digest) -> Result<bool> {
        let own = self.fleet.own_image(&self.owner, &self.image).await?;
        let all = self.fleet.records_of(id).await?;
        let mut earlier = own.iter().chain(&all).filter(|one| one.reference == self.image.reference());
        Ok(!self.was_named || earlier.any(|one| one.brought))
    }

    async fn settle_private(&self, digest: Digest) -> Result<Here> {
        let Self { fleet, owner, image, .. } = self;
        let exact = RunImage { image: image.image.clone(), digest: Some(digest.clone()) };
        let Some(found) = fleet.engine().image(&exact.reference()).await? else {
            // Whoever waited for the same pull may have been first.
            let own = fleet.own_image(owner, image).await?.filter(|own| own.digest.as_ref() == Some(&digest));
            let again = || Fault::Later(format!("{image} went from the engine while it was pulled"));
            return own.map(|own| Here::kept(&own, image)).ok_or_else(again);
        };
        let kept = fleet.keep_image(owner, image, &found.id, Some(digest), true).await?;
        // A tag of that repository is somebody else's doing, and stands beside the digest.
        if !is_named(&found, &exact) {
            fleet.engine().untag(&exact.reference()).await?;
        }
        Ok(Here::kept(&kept, image))
    }

    /// Waits for the end; the image's name with its digest, where the registry told one.
    ///
    /// # Errors
    /// The engine's and the registry's words.
    pub async fn finish(mut self) -> Result<String> {
        loop {
            match self.progress().ended {
                Some(Ok(())) => return Ok(self.settle().await?.shown),
                Some(Err(error)) => return Err(error.into()),
                None => self.moved().await,
            }
        }
    }
}

/// Whether the image has a tag in this repository.
fn is_named(found: &EngineImage, image: &RunImage) -> bool {
    let tags = found.tags.iter().filter_map(|tag| tag.parse::<crate::domain::ImageRef>().ok());
    tags.into_iter().any(|tag| tag.repository() == image.image.repository())
}
