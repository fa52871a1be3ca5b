//! Whether a registry shows an image that is named by its digest: who can say what a digest is of need not be allowed to have it.

use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use super::client::{Ask, RegistryClient, read_limited};
use super::refusal::{self, Refusal};
use crate::domain::{Credentials, Digest, ErrorKind, ImageRef};

impl RegistryClient {
    /// Has the registry show the manifest of this digest, which is looked at: a word for it would do for any registry, also one of the
    /// asker's own making.
    ///
    /// # Errors
    /// `base_image_not_found` when it has none; else as [`RegistryClient::may_push`].
    pub async fn must_show(&self, image: &ImageRef, digest: &Digest, credentials: Option<&Credentials>) -> Result<(), Refusal> {
        let ask = Ask { method: Method::GET, image, path: format!("manifests/{digest}"), actions: "pull", credentials };
        let response = self.ask(&ask).await?.response;
        let absent = |why: &str| {
            let message = format!("{}@{digest} {why}", image.repository());
            Err(refusal::error(ErrorKind::User, "base_image_not_found", message).into())
        };
        match response.status() {
            StatusCode::NOT_FOUND => return absent("is not at its registry"),
            status if status.is_success() => {}
            _ => return Err(refusal::from_answer(image.host(), credentials, response).await),
        }
        let shown = read_limited(image.host(), response).await?;
        if digest.as_str() == format!("sha256:{}", hex::encode(Sha256::digest(&shown))) {
            return Ok(());
        }
        absent("is not what its registry shows under that digest")
    }
}
