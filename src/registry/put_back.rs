//! A tag is made to name again what it named before.

use http::{Method, StatusCode, header};

use super::client::{Ask, Refusal, RegistryClient, read_limited, take_back};
use super::refusal;
use crate::domain::{Credentials, Digest, ImageRef};

impl RegistryClient {
    /// Lets the tag name this manifest, which the repository must still have (OCI distribution specification, "Pushing manifests").
    ///
    /// # Errors
    /// As [`Self::may_push`]; the registry's own word when the manifest is gone.
    pub async fn put_back(&self, image: &ImageRef, digest: &Digest, credentials: Option<&Credentials>) -> Result<(), Refusal> {
        let ask = Ask { method: Method::GET, image, path: format!("manifests/{digest}"), actions: "pull", credentials };
        let found = self.ask(&ask).await?.response;
        if !found.status().is_success() {
            return Err(refusal::from_answer(image.host(), credentials, found).await);
        }
        let kind = found.headers().get(header::CONTENT_TYPE).cloned();
        let manifest = read_limited(image.host(), found).await?;
        // What asks to write is told which token that takes.
        let ask = Ask { method: Method::POST, image, path: "blobs/uploads/".into(), actions: "pull,push", credentials };
        let admitted = self.ask(&ask).await?;
        if !admitted.response.status().is_success() {
            return Err(refusal::from_answer(image.host(), credentials, admitted.response).await);
        }
        let mut url = admitted.response.url().clone();
        url.set_path(&format!("/v2/{}/manifests/{}", image.path(), image.tag()));
        let mut put = admitted.client.put(url).body(manifest);
        for (name, value) in [(header::CONTENT_TYPE, kind), (header::AUTHORIZATION, admitted.authorization.clone())] {
            put = value.into_iter().fold(put, |put, value| put.header(name.clone(), value));
        }
        take_back(admitted).await;
        let answer = put.send().await.map_err(|error| refusal::from_transport(image.host(), &error))?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK => Ok(()),
            _ => Err(refusal::from_answer(image.host(), credentials, answer).await),
        }
    }
}
