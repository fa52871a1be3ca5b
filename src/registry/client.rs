//! The few questions that are asked of a registry directly, after the OCI distribution specification: may these
//! credentials push here, what does this tag name, take this tag away.
//!
//! Redirects are not followed: what is asked for here lives at the registry itself, and credentials stay at their host.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::admission::{Admission, Asked, admission, base, challenge};
use super::challenge::Challenge;
use super::endpoint::{Scheme, authorities, is_insecure, schemes, server};
use super::reach::Reach;
use super::refusal;
pub use super::refusal::Refusal;
use super::token::Question;
use crate::domain::{Credentials, Digest, ImageRef};
use crate::egress::Egress;

/// The manifests that an engine pushes, and lists of them.
const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json";
/// Largest manifest that is read (the specification asks registries to take at least 4 MiB).
const MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Most tags of a repository that are looked through before one of its manifests is removed.
const TAGS: usize = 500;

/// How long a registry may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// For a whole request and its answer.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(20) }
    }
}

/// What a tag or digest names at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub digest: Digest,
    /// The image's id as engines know it; a list of images has none.
    pub config: Option<Digest>,
}

/// What became of a tag that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteDelete {
    Removed,
    /// There was no such tag.
    Absent,
    /// The tag names something else by now, and was left alone.
    Changed,
    /// Other tags of the repository name the same manifest, and this registry removes only manifests.
    Shared,
    /// The registry removes nothing.
    Unsupported,
}

/// Asks registries. Holds no credentials.
pub struct RegistryClient {
    insecure: RwLock<Vec<String>>,
    timeouts: Timeouts,
    pub(super) reachable: Reach,
    strict: reqwest::Client,
    lax: reqwest::Client,
}

/// One question.
pub(super) struct Ask<'a> {
    pub method: Method,
    pub image: &'a ImageRef,
    /// Behind `/v2/<path>/`.
    pub path: String,
    /// What a token is needed for: `pull`, `pull,push`, `delete`.
    pub actions: &'static str,
    pub credentials: Option<&'a Credentials>,
}

/// An answer, and what it took to get it.
pub(super) struct Answer {
    pub response: Response,
    pub client: reqwest::Client,
    asked: Asked,
    pub authorization: Option<HeaderValue>,
}

impl RegistryClient {
    /// Asks registries that are where `egress` says, and no others.
    ///
    /// # Panics
    /// When the process has no TLS provider, which its dependencies exclude.
    #[must_use]
    pub fn new(timeouts: Timeouts, egress: Egress) -> Self {
        let reachable = Reach(egress);
        let strict = builder(timeouts, &reachable).build().expect("a client builds, because its TLS provider is compiled in");
        let lax = builder(timeouts, &reachable).tls_danger_accept_invalid_certs(true).no_proxy().build();
        let lax = lax.expect("a client builds, because its TLS provider is compiled in");
        Self { insecure: RwLock::default(), timeouts, reachable, strict, lax }
    }

    /// The hosts and networks that the engine speaks to without TLS verification ([`crate::engine::EngineInfo`]).
    pub fn set_insecure(&self, registries: Vec<String>) {
        *self.insecure.write().unwrap_or_else(PoisonError::into_inner) = registries;
    }

    /// Whether the registry would take a push to this repository now. Begins an upload and takes it back.
    ///
    /// # Errors
    /// `registry_auth`, `push_denied`, `foreign_realm` (kind auth); `rate_limited`, `registry_unreachable`, `registry_timeout`,
    /// `registry_error`, `registry_tls`, `repository_unknown` (kind registry).
    pub async fn may_push(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Result<Admission, Refusal> {
        let ask = Ask { method: Method::POST, image, path: "blobs/uploads/".into(), actions: "pull,push", credentials };
        let answer = self.ask(&ask).await?;
        if !answer.response.status().is_success() {
            return Err(refusal::from_answer(image.host(), credentials, answer.response).await);
        }
        let admission = admission(image.host(), credentials, &answer.asked);
        take_back(answer).await;
        Ok(admission)
    }

    /// Whether the registry takes these credentials at all (its base, `/v2/`: OCI distribution specification, "Determining support").
    ///
    /// # Errors
    /// As [`Self::may_push`].
    pub async fn log_in(&self, credentials: &Credentials) -> Result<(), Refusal> {
        let host = credentials.host();
        let image = &base(host)?;
        let ask = Ask { method: Method::GET, image, path: String::new(), actions: "", credentials: Some(credentials) };
        let answer = self.ask(&ask).await?;
        if answer.response.status().is_success() {
            return Ok(());
        }
        Err(refusal::from_answer(host, Some(credentials), answer.response).await)
    }

    /// What the tag names; `None` when there is no such tag.
    ///
    /// # Errors
    /// As [`Self::may_push`].
    pub async fn manifest(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Result<Option<Manifest>, Refusal> {
        let path = format!("manifests/{}", image.tag());
        let answer = self.ask(&Ask { method: Method::GET, image, path, actions: "pull", credentials }).await?;
        match answer.response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => read_manifest(image, answer.response).await.map(Some),
            _ => Err(refusal::from_answer(image.host(), credentials, answer.response).await),
        }
    }

    /// The digest of what the tag names, as the registry tells it; `None` when there is no such tag, or it tells none.
    ///
    /// # Errors
    /// As [`Self::may_push`].
    pub async fn digest(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Result<Option<Digest>, Refusal> {
        let path = format!("manifests/{}", image.tag());
        let answer = self.ask(&Ask { method: Method::HEAD, image, path, actions: "pull", credentials }).await?;
        match answer.response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let told = answer.response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
                Ok(told.and_then(|digest| digest.parse().ok()))
            }
            _ => Err(refusal::from_answer(image.host(), credentials, answer.response).await),
        }
    }

    /// Takes the tag away if it still names `digest`. Registries that know no removal of tags remove the manifest, which is
    /// done only when no other tag names it.
    ///
    /// # Errors
    /// As [`Self::may_push`].
    pub async fn delete(
        &self,
        image: &ImageRef,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<RemoteDelete, Refusal> {
        match self.manifest(image, credentials).await? {
            None => return Ok(RemoteDelete::Absent),
            Some(manifest) if manifest.digest != *digest => return Ok(RemoteDelete::Changed),
            Some(_) => {}
        }
        match self.delete_reference(image, image.tag(), credentials).await? {
            RemoteDelete::Unsupported => {}
            done => return Ok(done),
        }
        if self.others_name(image, digest, credentials).await? {
            return Ok(RemoteDelete::Shared);
        }
        self.delete_reference(image, digest.as_str(), credentials).await
    }

    async fn delete_reference(
        &self,
        image: &ImageRef,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<RemoteDelete, Refusal> {
        let path = format!("manifests/{reference}");
        let answer = self.ask(&Ask { method: Method::DELETE, image, path, actions: "pull,delete", credentials }).await?;
        match answer.response.status() {
            status if status.is_success() => Ok(RemoteDelete::Removed),
            StatusCode::NOT_FOUND => Ok(RemoteDelete::Absent),
            // Distribution 2.x takes a tag for a digest that is not one (400), and has removal switched off by default (405).
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED => {
                Ok(RemoteDelete::Unsupported)
            }
            _ => Err(refusal::from_answer(image.host(), credentials, answer.response).await),
        }
    }

    /// Whether another tag of the repository names the manifest; also when there are too many tags to know.
    async fn others_name(&self, image: &ImageRef, digest: &Digest, credentials: Option<&Credentials>) -> Result<bool, Refusal> {
        #[derive(Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let path = format!("tags/list?n={TAGS}");
        let answer = self.ask(&Ask { method: Method::GET, image, path, actions: "pull", credentials }).await?;
        let more = answer.response.headers().contains_key(header::LINK);
        let body = read_limited(image.host(), answer.response).await?;
        let tags = serde_json::from_slice::<Tags>(&body).ok().and_then(|list| list.tags).unwrap_or_default();
        if more || tags.len() >= TAGS {
            return Ok(true);
        }
        for tag in tags.iter().filter(|tag| *tag != image.tag()) {
            let Ok(other) = format!("{}:{tag}", image.repository()).parse::<ImageRef>() else { continue };
            if self.manifest(&other, credentials).await?.is_some_and(|manifest| manifest.digest == *digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends the question; when the registry asks for authentication, once more with it.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let host = ask.image.host();
        let credentials = ask.credentials.filter(|one| one.host() == host);
        let insecure = self.is_insecure(host);
        let client = self.client_for(host, insecure);
        let (url, response) = self.reach(&client, ask, insecure).await?;
        let (asked, authorization) = match (challenge(&response), credentials) {
            (Some(Challenge::Basic), Some(one)) => (Asked::Password, basic(one)),
            (Some(Challenge::Bearer { realm, service, scope }), one) => {
                let own = || format!("repository:{}:{}", ask.image.path(), ask.actions);
                let scopes = [scope.unwrap_or_else(|| if ask.path.is_empty() { String::new() } else { own() })];
                let plain = url.scheme() == "http";
                let question = Question { host, realm, service: service.as_deref(), scopes: &scopes, plain };
                let issued = self.fetch(&client, question, one).await?;
                let header = issued.header(host)?;
                (Asked::Token(issued), header)
            }
            _ => return Ok(Answer { response, client, asked: Asked::Nothing, authorization: None }),
        };
        let again = client.request(ask.method.clone(), url).header(header::ACCEPT, MANIFESTS);
        let again = again.header(header::AUTHORIZATION, authorization.clone()).header(header::CONTENT_LENGTH, 0);
        let response = again.send().await.map_err(|e| refusal::from_transport(host, &e))?;
        Ok(Answer { response, client, asked, authorization: Some(authorization) })
    }

    pub(super) fn is_insecure(&self, host: &str) -> bool {
        is_insecure(host, &self.insecure.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn client_for(&self, host: &str, insecure: bool) -> reqwest::Client {
        if insecure {
            return self.lax.clone();
        }
        let own = authorities(host);
        let merged = || builder(self.timeouts, &self.reachable).tls_certs_merge(own.clone()).build().ok();
        if own.is_empty() { self.strict.clone() } else { merged().unwrap_or_else(|| self.strict.clone()) }
    }

    /// The first answer, by the scheme that the registry turns out to speak.
    pub(super) async fn reach(
        &self,
        client: &reqwest::Client,
        ask: &Ask<'_>,
        insecure: bool,
    ) -> Result<(Url, Response), Refusal> {
        let host = ask.image.host();
        // What a TLS server answers to plain HTTP is a 400; so may be what a registry answers to the question.
        let mut doubtful = None;
        let mut failed = None;
        for scheme in schemes(host, insecure) {
            let url = url(*scheme, ask)?;
            self.reachable.check(&url)?;
            let request = client.request(ask.method.clone(), url.clone()).header(header::ACCEPT, MANIFESTS);
            match request.header(header::CONTENT_LENGTH, 0).send().await {
                Ok(response) if *scheme == Scheme::Http && response.status() == StatusCode::BAD_REQUEST => {
                    doubtful = Some((url, response));
                }
                Ok(response) => return Ok((url, response)),
                Err(error) => {
                    let over = error.is_timeout();
                    failed.get_or_insert_with(|| refusal::from_transport(host, &error));
                    if over {
                        break;
                    }
                }
            }
        }
        let failed = failed.unwrap_or_else(|| refusal::not_understood(host, "it speaks neither HTTPS nor HTTP"));
        doubtful.ok_or(failed)
    }
}

fn builder(timeouts: Timeouts, reach: &Reach) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(Arc::new(reach.clone()))
        .user_agent(concat!("dockwright/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.request)
}

fn url(scheme: Scheme, ask: &Ask<'_>) -> Result<Url, Refusal> {
    let host = ask.image.host();
    let path = if ask.path.is_empty() { String::new() } else { format!("{}/{}", ask.image.path(), ask.path) };
    let text = format!("{}://{}/v2/{path}", scheme.as_str(), server(host));
    Url::parse(&text).map_err(|e| refusal::not_understood(host, &format!("{text} is no URL: {e}")))
}

pub(super) fn basic(credentials: &Credentials) -> HeaderValue {
    use base64::Engine as _;
    let pair = format!("{}:{}", credentials.username(), credentials.expose_password());
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(text).expect("base64 fits in a header");
    value.set_sensitive(true);
    value
}

/// Ends an upload that was begun only to see whether it may be. A registry that does not end it forgets it by itself.
pub(super) async fn take_back(answer: Answer) {
    let base = answer.response.url().clone();
    let location = answer.response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(url) = location.and_then(|location| base.join(location).ok()) else { return };
    let mut request = answer.client.delete(url.clone());
    if let Some(authorization) = answer.authorization.filter(|_| url.origin() == base.origin()) {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if let Err(error) = request.send().await {
        tracing::debug!(%error, "an upload that was begun to try the credentials was not taken back");
    }
}

async fn read_manifest(image: &ImageRef, response: Response) -> Result<Manifest, Refusal> {
    use sha2::Digest as _;
    let body = read_limited(image.host(), response).await?;
    // The digest is what the bytes hash to, whatever the header says.
    let digest = format!("sha256:{}", hex::encode(sha2::Sha256::digest(&body)));
    let digest = digest.parse().expect("a hash in hexadecimal is a digest");
    let json: serde_json::Value = serde_json::from_slice(&body)
        .map_err(|e| refusal::not_understood(image.host(), &format!("its manifest is no JSON: {e}")))?;
    let config = json["config"]["digest"].as_str().and_then(|digest| digest.parse().ok());
    Ok(Manifest { digest, config })
}

pub(super) async fn read_limited(host: &str, mut response: Response) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| refusal::from_transport(host, &e))? {
        body.extend_from_slice(&chunk);
        if body.len() > MANIFEST_BYTES {
            return Err(refusal::not_understood(host, "its answer is longer than 4 MiB"));
        }
    }
    Ok(body)
}
