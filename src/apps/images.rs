//! An owner's images: those that were pulled for it, and those of its builds or of others that it has named.

use super::Apps;
use crate::auth::Principal;
use crate::domain::{
    BuildId, Digest, ImageRef, ImageSource, InvalidImageRef, Owner, PulledImage, RunImage, Scope, Timestamp, build_of_tag,
};
use crate::engine::containers::EngineImage;
use crate::error::{Error, Result};
use crate::fleet::PullWatch;
use crate::store::PushTurn;
use crate::store::objects::{Kind, Object, ObjectQuery};

/// Who uses an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUse {
    /// Names of the owner's containers that are made from it.
    pub containers: Vec<String>,
    /// The owner's build that has made it.
    pub build: Option<String>,
}

/// An image of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// As it was named when it was pulled or tagged.
    pub reference: String,
    pub owner: Owner,
    pub order: u64,
    pub image_id: Digest,
    /// Absent when the engine does not have it any more.
    pub size_bytes: Option<u64>,
    pub pulled_at: Timestamp,
    /// Whether others may not use it without credentials of their own.
    pub private: bool,
    pub used_by: ImageUse,
}

impl Apps {
    /// Images, newest first, and whether there are older ones.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn images(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<ImageInfo>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Image, owner, parent: None, before, limit };
        let (objects, more) = self.store().objects::<PulledImage>(&query).await?;
        let there = self.fleet.engine().images().await?;
        let mut infos = Vec::with_capacity(objects.len());
        for object in objects {
            infos.push(self.info(caller, object, &there).await?);
        }
        Ok((infos, more))
    }

    async fn info(&self, caller: &Principal, object: Object<PulledImage>, there: &[EngineImage]) -> Result<ImageInfo> {
        let PulledImage { owner, reference, image_id, pulled_at, private, .. } = object.body;
        let found = there.iter().find(|image| image.id == image_id);
        let containers = self.fleet.containers(&caller.scope())?;
        let used = containers.iter().filter(|seen| seen.summary.image_id == image_id.as_str());
        let tags = found.map_or(&[][..], |image| &image.tags);
        let build = self.own_build(&owner, tags.iter().filter_map(|tag| build_of_tag(tag))).await?;
        Ok(ImageInfo {
            used_by: ImageUse {
                containers: used.map(|seen| seen.summary.name.clone()).collect(),
                build: build.map(|id| id.to_string()),
            },
            size_bytes: found.map(|image| image.size_bytes),
            reference,
            owner,
            order: object.order,
            image_id,
            pulled_at,
            private,
        })
    }

    /// Builds of the very same thing share one image: the owner is told of an own one.
    async fn own_build(&self, owner: &Owner, builds: impl Iterator<Item = BuildId>) -> Result<Option<BuildId>> {
        for id in builds {
            if self.store().get(&Scope::Owner(owner.clone()), id).await?.is_some() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// One image, by its name.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn image(&self, caller: &Principal, image: &RunImage, owner: Option<&Owner>) -> Result<ImageInfo> {
        let owner = Self::named_scope(caller, owner)?;
        let id = PulledImage::id(&owner, &image.reference());
        let found = self.store().object::<PulledImage>(&Scope::Owner(owner), Kind::Image, &id).await?;
        let object = found.ok_or(Error::NotFound("image"))?;
        let there: Vec<EngineImage> = self.fleet.engine().image(object.body.image_id.as_str()).await?.into_iter().collect();
        self.info(caller, object, &there).await
    }

    /// Pulls an image for the caller, with the credentials stored under `registry`, or those for its host if there are any.
    /// Dropping what is answered stops the pull, unless somebody else waits for it.
    ///
    /// # Errors
    /// When the credentials are not there.
    pub async fn pull(&self, caller: &Principal, image: &RunImage, registry: Option<&str>) -> Result<PullWatch> {
        Ok(self.fleet.pull_image(&caller.owner, image, registry).await?)
    }

    /// Gives an image of the caller's, or of a build of the caller's, another name, which is the caller's alone: nobody else's runs and builds know it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the engine's words when the image is not there any more.
    pub async fn tag(&self, caller: &Principal, source: &ImageSource, to: &ImageRef) -> Result<ImageInfo> {
        let (image_id, private) = match source {
            ImageSource::Reference(image) => {
                let from = self.image(caller, image, None).await?;
                (from.image_id, from.private)
            }
            ImageSource::Build(id) => {
                let own = self.own_build(&caller.owner, std::iter::once(*id)).await?.ok_or(Error::NotFound("build"))?;
                (self.fleet.built_image(&caller.owner, own).await?, true)
            }
        };
        let target = RunImage { image: to.clone(), digest: None };
        self.fleet.keep_image(&caller.owner, &target, &image_id, None, private).await?;
        self.image(caller, &target, None).await
    }

    /// Pushes an image of the caller's by its name; the digest that the registry took.
    ///
    /// # Errors
    /// [`Error::Invalid`] `invalid_image` for a name with a digest, for a registry is given images by tag;
    /// [`Error::Forbidden`] `image_not_allowed` for a token that is limited to other destinations; the registry's words.
    pub async fn push(&self, caller: &Principal, image: &RunImage, registry: Option<&str>) -> Result<Digest> {
        if image.digest.is_some() {
            let told = format!("{:?} {}: tag it, and push that name", image.written(), InvalidImageRef::HasDigest);
            return Err(Error::invalid("invalid_image", "image", told));
        }
        if caller.foreign_image(std::slice::from_ref(&image.image)).is_some() {
            let detail = format!("{} is not among the destinations of this token", image.image);
            return Err(Error::Forbidden { code: "image_not_allowed", detail });
        }
        let info = self.image(caller, image, None).await?;
        let credentials = self.fleet.credentials_for(&caller.owner, registry, image).await?;
        let (lines, mut told) = tokio::sync::mpsc::channel(64);
        let turn = PushTurn::take(self.store(), &image.image, caller.owner.as_str()).await;
        let pushing = self.fleet.publisher().publish(&info.image_id, &image.image, credentials.as_ref(), &lines);
        tokio::select! {
            pushed = pushing => Ok(pushed?),
            // What is there in the end is read back: a push that has lost its turn is not taken for one that is through.
            never = async { turn.lost().await; std::future::pending().await } => never,
            () = async { while told.recv().await.is_some() {} } => unreachable!("it does not end, because `lines` is not dropped"),
        }
    }

    /// Removes an image of the caller's: its record, and its name on the engine when nobody else needs it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `image_in_use`, which names the containers.
    pub async fn remove_image(&self, caller: &Principal, image: &RunImage, owner: Option<&Owner>) -> Result<()> {
        let info = self.image(caller, image, owner).await?;
        let own: Vec<&String> = info.used_by.containers.iter().collect();
        if !own.is_empty() {
            let detail = format!("the image is used by {}", info.used_by.containers.join(", "));
            return Err(Error::Conflict { code: "image_in_use", detail });
        }
        if let Some(record) = self.fleet.own_image(&info.owner, image).await? {
            self.fleet.forget_image(&record).await?;
        }
        Ok(())
    }
}
