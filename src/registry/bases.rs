//! What the images that a Dockerfile names stand for now, as far as that can be told without harm: an engine's own images are
//! looked at, registries are asked for a digest alone, which no pull limit counts.

use std::time::Duration;

use futures::future::join_all;

use super::RegistryClient;
use crate::domain::{Base, Credentials, Known, RunImage};
use crate::engine::Images;

/// How long a registry may take for it.
const ASKED: Duration = Duration::from_secs(2);

/// Each of `names` as a build would find it: with `pull` at its registry, else first on the engine.
pub async fn bases<I: Images + ?Sized>(
    images: &I,
    registry: &RegistryClient,
    names: &[String],
    pull: bool,
    credentials: &[Credentials],
) -> Vec<Base> {
    let looks = names.iter().map(|name| async move {
        let is = match name.parse::<RunImage>() {
            Ok(image) => known(images, registry, &image, pull, credentials).await,
            Err(_) => Known::Nothing,
        };
        Base { image: name.clone(), is }
    });
    join_all(looks).await
}

async fn known<I: Images + ?Sized>(
    images: &I,
    registry: &RegistryClient,
    image: &RunImage,
    pull: bool,
    credentials: &[Credentials],
) -> Known {
    if let Some(digest) = &image.digest {
        return Known::Remote(digest.clone());
    }
    if !pull && let Ok(Some(id)) = images.image_id(&image.reference()).await {
        return Known::Local(id);
    }
    let own = credentials.iter().find(|one| one.host() == image.image.host());
    match tokio::time::timeout(ASKED, registry.digest(&image.image, own)).await {
        Ok(Ok(Some(digest))) => Known::Remote(digest),
        _ => Known::Nothing,
    }
}
