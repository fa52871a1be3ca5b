//! Tags, ids and what is left of an image when a tag goes.

use std::time::SystemTime;

use async_trait::async_trait;
use bollard::errors::Error as Bollard;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures::TryStreamExt;
use uuid::Uuid;

use super::Docker;
use super::errors::{fault, from_bollard, vanished};
use crate::domain::{BuildId, Digest, ImageRef, LOCAL_HOST, Layer, build_of_tag, limits};
use crate::engine::{Images, Lines, Pass, Result, Untagged};

/// An empty tar: two blocks of zeros.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

#[async_trait]
impl Images for Docker {
    async fn image_id(&self, reference: &str) -> Result<Option<Digest>> {
        Ok(self.inspect(reference).await?.and_then(|image| image.id).and_then(|id| id.parse().ok()))
    }

    async fn tag(&self, image: &Digest, reference: &str) -> Result<()> {
        let (repository, tag) = split(reference);
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.typed.tag_image(image.as_str(), Some(options)).await.map_err(from_bollard)
    }

    async fn untag(&self, reference: &str) -> Result<Untagged> {
        let _under_way = self.removals.read().await;
        match self.remove_by_tag(reference).await {
            Ok(outcome) => Ok(outcome),
            Err(Bollard::DockerResponseServerError { status_code: 404, .. }) => Ok(Untagged::Absent),
            // Another removal of the same image was through between the engine's look and its deed.
            Err(Bollard::DockerResponseServerError { message, .. }) if message.contains("unrecognized image ID") => {
                Ok(Untagged::Removed)
            }
            // A container uses the image, and this is its only tag.
            Err(Bollard::DockerResponseServerError { status_code: 409, .. }) => self.untag_beside_container(reference).await,
            Err(error) => Err(from_bollard(error)),
        }
    }

    async fn local_builds(&self) -> Result<Vec<BuildId>> {
        let reference = format!("{LOCAL_HOST}/build");
        let filters = std::collections::HashMap::from([("reference", vec![reference.as_str()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.typed.list_images(Some(options)).await.map_err(from_bollard)?;
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        Ok(tags.filter_map(|tag| build_of_tag(&tag)).collect())
    }

    async fn tags(&self) -> Result<Vec<String>> {
        let options = ListImagesOptionsBuilder::default().build();
        let images = self.typed.list_images(Some(options)).await.map_err(from_bollard)?;
        Ok(images.into_iter().flat_map(|image| image.repo_tags).collect())
    }

    async fn push(&self, image: &ImageRef, pass: Option<&Pass>, lines: Lines) -> Result<Digest> {
        self.push_tag(image, pass, lines).await
    }

    async fn remote_digest(&self, image: &ImageRef, pass: Option<&Pass>) -> Result<Option<Digest>> {
        self.distribution_digest(image, pass).await
    }
}

impl Docker {
    async fn inspect(&self, reference: &str) -> Result<Option<bollard::models::ImageInspect>> {
        match self.typed.inspect_image(reference).await {
            Ok(image) => Ok(Some(image)),
            Err(error) => match from_bollard(error) {
                missing if missing.code == "image_missing" => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The size of the image that a build has made and tagged.
    ///
    /// Builds of the very same thing share one image, and the engine does not hold it while it exports a build: when the last tag of
    /// another such build is removed at that moment, the image goes, and this build's tag with it, or is left naming nothing. A
    /// removal that began before the tag stood may still take it; so we look when none of ours is under way. One that begins
    /// later sees the tag and keeps the image.
    ///
    /// # Errors
    /// [`crate::engine::VANISHED`] when the image went: the same build, done again, makes it again.
    pub(super) async fn size_of_built(&self, image: &Digest, tag: &str) -> Result<u64> {
        let _quiet = self.removals.write().await;
        let tagged = self.inspect(tag).await?.filter(|found| found.id.as_deref() == Some(image.as_str()));
        let tagged = tagged.ok_or_else(|| vanished("the image was removed while it was being built"))?;
        Ok(tagged.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default())
    }

    /// The newest layers of an image, empty ones too, as its history tells them.
    pub(super) async fn layers(&self, image: &Digest) -> Result<Vec<Layer>> {
        let history = self.typed.image_history(image.as_str()).await.map_err(from_bollard)?;
        let newest = history.iter().take(limits::STEPS);
        let layer = |item: &bollard::models::ImageHistoryResponseItem| Layer {
            instruction: keyword(&item.created_by),
            bytes: u64::try_from(item.size).unwrap_or_default(),
        };
        Ok(newest.rev().map(layer).collect())
    }

    /// An image's full id, and when it was made.
    pub(super) async fn made_at(&self, reference: &str) -> Result<Option<(Digest, Option<SystemTime>)>> {
        let Some(image) = self.inspect(reference).await? else { return Ok(None) };
        let created = image.created.map(SystemTime::from);
        Ok(image.id.and_then(|id| id.parse().ok()).map(|id| (id, created)))
    }

    /// Whether a container is made from the image (its own or one on top of it).
    pub(super) async fn is_held(&self, reference: &str) -> Result<bool> {
        let filters = std::collections::HashMap::from([("ancestor", vec![reference])]);
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = self.typed.list_containers(Some(options)).await.map_err(from_bollard)?;
        Ok(!containers.is_empty())
    }

    /// Removes a reference, and the image only if the engine finds nothing else that names or uses it. Never forced:
    /// by force the engine deletes an image under a stopped container.
    async fn remove_by_tag(&self, reference: &str) -> Result<Untagged, Bollard> {
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(false).build();
        let done = self.typed.remove_image(reference, Some(options), None).await?;
        Ok(if done.iter().any(|item| item.deleted.is_some()) { Untagged::Removed } else { Untagged::Kept })
    }

    /// Takes the only tag off an image that a container needs. The engine refuses that (409), and by force it would delete
    /// the image; so the tag is first moved to an empty image, which leaves the container its image, and goes with that one.
    async fn untag_beside_container(&self, reference: &str) -> Result<Untagged> {
        let empty = format!("{LOCAL_HOST}/empty:{}", Uuid::new_v4().simple());
        let (repository, tag) = split(&empty);
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(tag).build();
        let body = bollard::body_full(bytes::Bytes::from_static(&EMPTY_TAR));
        self.typed.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.map_err(from_bollard)?;
        let id = self.image_id(&empty).await?.ok_or_else(|| fault("the engine lost an image that it had just imported"))?;
        self.tag(&id, reference).await?;
        for name in [reference, &empty] {
            self.remove_by_tag(name).await.map_err(from_bollard)?;
        }
        Ok(Untagged::Kept)
    }
}

/// The instruction that made a layer: BuildKit writes it as it stands, the classic builder as the shell's command, with `#(nop)`
/// before all that is no command.
fn keyword(created_by: &str) -> String {
    let said = created_by.split_once("#(nop)").map_or(created_by, |(_, rest)| rest);
    let word = said.split_whitespace().next().unwrap_or_default();
    let is_keyword = !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase());
    if is_keyword { word.to_owned() } else { "RUN".to_owned() }
}

/// Repository and tag of a reference that has both.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}
