//! Which image a run is made from, and whether its owner may use what is already here.
//!
//! An engine has one store of images for everybody. What somebody's credentials brought here, or somebody's build made, is for
//! others as if it were not here: they pull it with credentials of their own. What was brought without credentials is everybody's.

use crate::domain::{
    BuildId, BuildRecord, BuildState, Credentials, DestinationState, Digest, ErrorKind, ImageSource, Owner, PulledImage, Run,
    RunError, RunImage, Scope, build_of_tag, is_pushing, local_tag,
};
use crate::engine::containers::{CreateContainer, EngineImage};
use crate::engine::image_config::confine;

use super::Fleet;
use super::steps::{Fault, Result};

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    pub id: Digest,
    /// For people: with its digest, where the registry told one.
    pub shown: String,
}

impl Here {
    pub(super) fn kept(record: &PulledImage, image: &RunImage) -> Self {
        let digest = record.digest.as_ref().or(image.digest.as_ref());
        let shown = RunImage { image: image.image.clone(), digest: digest.cloned() }.reference();
        Self { id: record.image_id.clone(), shown }
    }
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
        let own = self.own_image(owner, image).await?;
        // What is kept for the owner has no other name on the engine.
        if let Some(kept) = own.as_ref().filter(|own| own.kept_as.is_some())
            && self.engine().image(kept.image_id.as_str()).await?.is_some()
        {
            return Ok(Some(Here::kept(kept, image)));
        }
        let Some(found) = self.engine().image(&image.reference()).await? else { return Ok(None) };
        let is_own = own.is_some_and(|own| own.kept_as.is_none() && own.image_id == found.id);
        if is_own || self.is_everybodys(owner, image, &found).await? {
            return Ok(Some(Here { shown: shown(image, &found), id: found.id }));
        }
        Ok(None)
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
        // Nor is it anybody else's while it is pushed under a name that only its owner knows it by. What is private and kept under no
        // name of ours was brought by an earlier version, under the name that everybody knows.
        let is_pushed = found.tags.iter().any(|tag| is_pushing(tag));
        let is_anothers = |one: &PulledImage| match &one.kept_as {
            None => one.private,
            Some(_) => is_pushed && one.owner != *owner && (one.private || one.reference == image.reference()),
        };
        Ok(!self.records_of(&found.id).await?.iter().any(is_anothers))
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

    /// The request, with what its image says of it held to the bounds.
    pub(super) async fn confined(&self, mut request: CreateContainer) -> Result<CreateContainer> {
        let image = self.engine().image_config(&request.image).await?;
        let image = image.ok_or_else(|| user_error("image_not_found", format!("{} is not on the engine", request.image)))?;
        confine(&mut request, image).map_err(|why| user_error("workdir_invalid", why))?;
        Ok(request)
    }

    /// The image of a build of the owner's that is done, if this engine has it.
    ///
    /// # Errors
    /// `no_such_build`, `build_failed`, `build_not_done`, `image_not_found`; when the engine or the store is away.
    pub async fn built_image(&self, owner: &Owner, id: BuildId) -> Result<Digest> {
        match self.image_of_build(owner, id).await? {
            Choice::Here(here) => Ok(here.id),
            Choice::Wait(id) => Err(user_error("build_not_done", format!("the build {id} has made no image yet"))),
            Choice::Pull(image) => Err(user_error("image_not_found", format!("{image} is not on this engine: pull it"))),
        }
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
}

pub(super) fn shown(image: &RunImage, found: &EngineImage) -> String {
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
