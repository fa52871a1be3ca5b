//! `POST /images/…/push` and `GET /distribution/…/json`, with credentials in the alphabet that the engine reads.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde::Serialize;

use super::Docker;
use super::build::Query;
use super::errors::{Doing, fault, sort};
use super::keyring::same_registry;
use super::lines::{progress, send};
use super::stream::{Message, Messages, Transfers};
use super::transport::{Body, broken, empty};
use crate::domain::{Credentials, Digest, ErrorKind, ImageRef};
use crate::engine::{EngineError, Lines, Pass, Result};

/// The key of Docker Hub in what engines and clients keep of registries.
const HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Serialize)]
struct AuthConfig<'a> {
    username: &'a str,
    password: &'a str,
    serveraddress: &'a str,
}

fn auth_config(credentials: &Credentials) -> AuthConfig<'_> {
    AuthConfig {
        username: credentials.username(),
        password: credentials.expose_password(),
        serveraddress: key(credentials.host()),
    }
}

fn key(host: &str) -> &str {
    if host == "docker.io" { HUB_KEY } else { host }
}

fn header(value: &impl Serialize) -> HeaderValue {
    let json = serde_json::to_vec(value).expect("strings serialise, because they are UTF-8");
    let mut header: HeaderValue = URL_SAFE.encode(json).parse().expect("base64 fits in a header");
    header.set_sensitive(true);
    header
}

/// `X-Registry-Auth`: what one registry is shown.
pub(super) fn registry_auth(image: &ImageRef, pass: Option<&Pass>) -> HeaderValue {
    match pass.filter(|pass| same_registry(pass.host(), image.host())) {
        None => header(&BTreeMap::<&str, &str>::new()),
        Some(Pass::Password(credentials)) => header(&auth_config(credentials)),
        Some(Pass::Token { host, token }) => {
            header(&BTreeMap::from([("registrytoken", token.expose_secret()), ("serveraddress", key(host))]))
        }
    }
}

/// `X-Registry-Config`: the credentials for a classic build, by registry.
pub(super) fn registry_config(credentials: &[Credentials]) -> HeaderValue {
    let by_registry: BTreeMap<&str, AuthConfig<'_>> = credentials.iter().map(|one| (key(one.host()), auth_config(one))).collect();
    header(&by_registry)
}

impl Docker {
    pub(super) async fn push_tag(&self, image: &ImageRef, pass: Option<&Pass>, lines: Lines) -> Result<Digest> {
        let mut query = Query::default();
        query.add("tag", image.tag());
        let uri = format!("/images/{}/push?{}", image.repository(), query.0);
        let mut request = self.registry_request(&uri, image, pass)?;
        *request.method_mut() = Method::POST;
        let answer = self.transport.send_ok(request, Doing::Push).await?;
        let mut messages = Messages::new(answer);
        let mut transfers = Transfers::default();
        let mut digest = None;
        while let Some(message) = messages.next().await? {
            if let Some(failure) = message.failure() {
                return Err(sort(Doing::Push, None, failure));
            }
            digest = pushed(&message).or(digest);
            send(&lines, transfers.tell(&message).map(|text| progress(None, text))).await;
        }
        digest.ok_or_else(|| fault("the engine ended the push without a digest or an error"))
    }

    pub(super) async fn distribution_digest(&self, image: &ImageRef, pass: Option<&Pass>) -> Result<Option<Digest>> {
        let request = self.registry_request(&format!("/distribution/{image}/json"), image, pass)?;
        let answer = match self.transport.send_ok(request, Doing::Push).await {
            Ok(answer) => answer,
            Err(error) if says_absent(&error.message) => return Ok(None),
            Err(error) => return Err(error),
        };
        let _connection = answer.connection;
        let body = answer.response.into_body().collect().await.map_err(broken)?.to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).map_err(|e| fault(format!("the engine's answer: {e}")))?;
        let digest = json["Descriptor"]["digest"].as_str().and_then(|digest| digest.parse().ok());
        digest.map(Some).ok_or_else(|| fault("the engine named no digest"))
    }

    fn registry_request(&self, uri: &str, image: &ImageRef, pass: Option<&Pass>) -> Result<Request<Body>> {
        let mut request = Request::new(empty());
        *request.uri_mut() = uri.parse().map_err(|_| EngineError {
            kind: ErrorKind::User,
            code: "image_invalid",
            message: format!("{image} does not fit in a request to the engine"),
            dockerfile_line: None,
            transient: false,
        })?;
        request.headers_mut().insert("x-registry-auth", registry_auth(image, pass));
        Ok(request)
    }
}

/// The digest that the registry took: in `aux`, or in a status such as `1: digest: sha256:… size: 528`.
fn pushed(message: &Message) -> Option<Digest> {
    let aux = message.aux.as_ref().and_then(|aux| aux["Digest"].as_str());
    let status = message.status.as_deref().and_then(|status| status.split_once(": digest: "));
    let status = status.and_then(|(_, rest)| rest.split_whitespace().next());
    aux.or(status).and_then(|digest| digest.parse().ok())
}

fn says_absent(message: &str) -> bool {
    let text = message.to_lowercase();
    ["manifest unknown", "not found", "name unknown", "repository name not known"].iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn credentials_are_written_in_the_alphabet_for_urls_and_for_their_host_only() {
        let secret = Pass::Password(Credentials::new("r.example", "robot", SecretString::from("pass?>~?>~word")));
        let image: ImageRef = "r.example/app:1".parse().expect("an image");
        let value = registry_auth(&image, Some(&secret));
        assert!(value.is_sensitive());
        let text = value.to_str().expect("text").to_owned();
        assert!(!text.contains(['+', '/']), "{text}");
        let json: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(text).expect("base64")).expect("JSON");
        assert_eq!(json["password"], "pass?>~?>~word");
        let other: ImageRef = "other.example/app:1".parse().expect("an image");
        let token = Pass::Token { host: "r.example".into(), token: SecretString::from("a-token") };
        let value = registry_auth(&image, Some(&token));
        let shown = URL_SAFE.decode(value.as_bytes()).expect("base64");
        assert_eq!(shown, br#"{"registrytoken":"a-token","serveraddress":"r.example"}"#);
        for pass in [secret, token] {
            assert_eq!(registry_auth(&other, Some(&pass)), URL_SAFE.encode("{}"));
        }
    }

    #[test]
    fn docker_hub_has_a_key_of_its_own() {
        let hub = Credentials::new("docker.io", "u", SecretString::from("p"));
        let json = URL_SAFE.decode(registry_config(&[hub]).as_bytes()).expect("base64");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json[HUB_KEY]["username"], "u");
    }

    #[test]
    fn the_digest_is_found_in_either_place() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let status = Message { status: Some(format!("1: digest: {digest} size: 528")), ..Message::default() };
        let aux = Message { aux: Some(serde_json::json!({"Tag": "1", "Digest": digest, "Size": 528})), ..Message::default() };
        for message in [status, aux] {
            assert_eq!(pushed(&message).expect("found").as_str(), digest);
        }
    }
}
