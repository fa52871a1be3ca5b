//! Which image a run is made from, and whether its owner may use what is already here.
//!
//! An engine has one store of images for everybody. What somebody's credentials brought here, or somebody's build made, is for
//! others as if it were not here: they pull it with credentials of their own. What was brought without credentials is everybody's.

use std::collections::HashSet;

use tokio::sync::watch;

use super::pulls::Pull;
use crate::domain::{
    BuildId, BuildRecord, BuildState, Credentials, DestinationState, Digest, ErrorKind, ImageSource, Owner, PulledImage, Run,
    RunError, RunImage, Scope, Timestamp, build_of_tag, local_tag,
};
use crate::engine::containers::EngineImage;
use crate::error::Error;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

use super::Fleet;
use super::steps::{Fault, Result};

/// How long a registry may take to tell how many pulls are left.
const LEFT_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    pub id: Digest,
    /// For people: with its digest, where the registry told one.
    pub shown: String,
}

pub(super) enum Choice {
    Here(Here),
    /// It must be pulled before.
    Pull(RunImage),
    /// Its build is not done.
    Wait(BuildId),
}

impl Fleet {
    pub(super) async fn choose_image(&self, run: &Run) -> Result<Choice> {
        match &run.spec.image {
            ImageSource::Build(id) => self.image_of_build(&run.owner, *id).await,
            ImageSource::Reference(image) => Ok(match self.usable(&run.owner, image).await? {
                Some(here) => Choice::Here(here),
                None => Choice::Pull(image.clone()),
            }),
        }
    }

    /// The image, if it is here and the owner may use it.
    pub(super) async fn usable(&self, owner: &Owner, image: &RunImage) -> Result<Option<Here>> {
        let Some(found) = self.engine().image(&image.reference()).await? else { return Ok(None) };
        let own = self.pulled(owner, image).await?.is_some_and(|own| own.body.image_id == found.id);
        if own || self.is_everybodys(owner, image, &found).await? {
            return Ok(Some(Here { shown: shown(image, &found), id: found.id }));
        }
        Ok(None)
    }

    async fn pulled(&self, owner: &Owner, image: &RunImage) -> Result<Option<Object<PulledImage>>> {
        let id = PulledImage::id(owner, &image.reference());
        Ok(self.store().object(&Scope::Owner(owner.clone()), Kind::Image, &id).await?)
    }

    async fn is_everybodys(&self, owner: &Owner, image: &RunImage, found: &EngineImage) -> Result<bool> {
        // A build's image bears the names of its destinations while it is pushed.
        for build in found.tags.iter().filter_map(|tag| build_of_tag(tag)) {
            let build = self.store().get(&Scope::All, build).await?.map(|stored| stored.record);
            let named =
                |record: &BuildRecord| record.destinations.iter().any(|to| to.image.repository() == image.image.repository());
            if build.is_some_and(|record| record.owner != *owner && named(&record)) {
                return Ok(false);
            }
        }
        let query = ObjectQuery {
            scope: Scope::All,
            kind: Kind::Image,
            owner: None,
            parent: Some(found.id.to_string()),
            before: None,
            limit: crate::domain::limits::PAGE,
        };
        let (brought, more) = self.store().objects::<PulledImage>(&query).await?;
        Ok(!more && brought.iter().all(|object| !object.body.private))
    }

    async fn image_of_build(&self, owner: &Owner, id: BuildId) -> Result<Choice> {
        let build = self.store().get(&Scope::Owner(owner.clone()), id).await?;
        let record = build.ok_or_else(|| user_error("no_such_build", format!("there is no build {id} any more")))?.record;
        match record.state {
            BuildState::Published | BuildState::Built => {}
            BuildState::Failed | BuildState::Cancelled => {
                let why = record.error.map_or_else(|| "it was cancelled".into(), |error| error.message);
                return Err(user_error("build_failed", format!("the build {id} made no image: {why}")));
            }
            _ => return Ok(Choice::Wait(id)),
        }
        let pushed = record.destinations.iter().find(|to| to.state == DestinationState::Pushed && to.digest.is_some());
        let pinned = pushed.map(|to| RunImage { image: to.image.clone(), digest: to.digest.clone() });
        if let Some(found) = self.engine().image(&local_tag(id)).await? {
            let shown = pinned.as_ref().map_or_else(|| found.id.to_string(), RunImage::reference);
            return Ok(Choice::Here(Here { id: found.id, shown }));
        }
        let Some(pinned) = pinned else {
            return Err(user_error(
                "image_not_found",
                format!("the image of the build {id} is not on this engine and was pushed nowhere"),
            ));
        };
        Ok(match self.usable(owner, &pinned).await? {
            Some(here) => Choice::Here(here),
            None => Choice::Pull(pinned),
        })
    }

    /// The credentials with which the owner pulls from an image's registry, if there are any and the registry asks for them.
    ///
    /// # Errors
    /// When they are not there, or are for another host; when the registry cannot be asked.
    pub async fn credentials_for(&self, owner: &Owner, registry: Option<&str>, image: &RunImage) -> Result<Option<Credentials>> {
        let host = image.image.host();
        let found = match registry {
            Some(name) => {
                let found = self.builds().stored_credentials(owner, name).await?;
                let found =
                    found.ok_or_else(|| user_error("registry_unknown", format!("there is no stored registry {name:?}")))?;
                if found.host() != host {
                    let why = format!("the registry {name:?} is for {}, and the image is at {host}", found.host());
                    return Err(user_error("registry_mismatch", why));
                }
                Some(found)
            }
            None => self.builds().stored_for_host(owner, host).await?,
        };
        match found {
            Some(found) if self.inner.registries.asks_for(&found).await? => Ok(Some(found)),
            _ => Ok(None),
        }
    }

    /// Pulls an image for an owner, or joins the pull that is under way.
    ///
    /// # Errors
    /// When the engine or the store is away, the credentials are not there, or the disk has less room than the configured floor.
    pub async fn pull_image(&self, owner: &Owner, image: &RunImage, registry: Option<&str>) -> Result<PullWatch> {
        self.must_have_room().await?;
        let credentials = self.credentials_for(owner, registry, image).await?;
        let before = self.engine().images().await?.into_iter().map(|image| image.id).collect();
        let silence = self.settings().pull_silence;
        let pull = self.inner.pulls.join(self.engine(), owner, &image.reference(), credentials.clone(), silence);
        Ok(PullWatch { fleet: self.clone(), owner: owner.clone(), image: image.clone(), credentials, before, pull })
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

    /// Remembers that an owner has brought an image here, or given it this name.
    ///
    /// # Errors
    /// When the image is not there, or the engine or the store is away.
    pub async fn remember_image(&self, owner: &Owner, image: &RunImage, private: bool) -> Result<()> {
        let found = self.brought(image).await?;
        self.put_image(owner, image, &found, private).await
    }

    async fn brought(&self, image: &RunImage) -> Result<EngineImage> {
        let found = self.engine().image(&image.reference()).await?;
        found.ok_or_else(|| user_error("image_not_found", format!("{image} is not on the engine")))
    }

    async fn put_image(&self, owner: &Owner, image: &RunImage, found: &EngineImage, private: bool) -> Result<()> {
        let reference = image.reference();
        let id = PulledImage::id(owner, &reference);
        let record = PulledImage {
            owner: owner.clone(),
            reference,
            image_id: found.id.clone(),
            node: self.node().ok_or_else(super::seen::away)?,
            private,
            pulled_at: Timestamp::now(),
        };
        // The parent of an object never changes, and the image behind a tag does.
        self.store().commit(&[Write::remove(Kind::Image, &id, Expect::Anything)]).await?;
        let put = Write::put(Kind::Image, &id, owner, Expect::Anything, &record).under(found.id.as_str());
        Ok(self.store().commit(&[put]).await?)
    }
}

/// A pull that is under way. Dropping it stops the pull, unless somebody else waits for it.
pub struct PullWatch {
    fleet: Fleet,
    owner: Owner,
    image: RunImage,
    credentials: Option<Credentials>,
    /// What was here before.
    before: HashSet<Digest>,
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
        let found = self.fleet.brought(&self.image).await?;
        // What everybody could use before does not become one owner's by having been pulled again.
        let was_here = self.before.contains(&found.id);
        let private =
            self.credentials.is_some() && !(was_here && self.fleet.is_everybodys(&self.owner, &self.image, &found).await?);
        self.fleet.put_image(&self.owner, &self.image, &found, private).await?;
        Ok(Here { shown: shown(&self.image, &found), id: found.id })
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

fn shown(image: &RunImage, found: &EngineImage) -> String {
    let of_repository = format!("{}@", image.image.repository());
    // The engine leaves out the Hub's name.
    let familiar = of_repository.trim_start_matches("docker.io/library/").trim_start_matches("docker.io/").to_owned();
    let digest = found.digests.iter().find(|digest| digest.starts_with(&of_repository) || digest.starts_with(&familiar));
    digest
        .and_then(|digest| digest.split_once('@'))
        .map_or_else(|| image.reference(), |(_, digest)| format!("{of_repository}{digest}"))
}

pub(super) fn user_error(code: &str, message: String) -> Fault {
    Fault::Run(RunError { kind: ErrorKind::User, code: code.into(), message })
}
