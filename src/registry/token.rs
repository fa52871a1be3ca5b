//! Docker's token authentication specification: a token is fetched where the registry says, if its credentials may go there.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::{HeaderValue, header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::challenge::may_have_credentials;
use super::client::{RegistryClient, basic, read_limited};
use super::refusal::{self, Refusal};
use crate::domain::{Credentials, RunImage};
use crate::engine::{Allowance, EngineError, RegistryAuth, Token, TokenWanted};

/// How long a token is good for whose server does not say.
const USUAL_LIFE: Duration = Duration::from_secs(60);

/// What is asked of a token server.
pub(super) struct Question<'a> {
    /// The registry's.
    pub host: &'a str,
    pub realm: Url,
    pub service: Option<&'a str>,
    pub scopes: &'a [String],
    /// Whether the registry itself is spoken to in the clear.
    pub plain: bool,
}

/// A token as its server gave it.
pub(super) struct Issued {
    pub text: SecretString,
    pub life: Duration,
    pub until: Instant,
}

impl Issued {
    pub(super) fn header(&self, host: &str) -> Result<HeaderValue, Refusal> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.text.expose_secret()));
        let mut value = value.map_err(|_| refusal::not_understood(host, "its token server sent no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl RegistryClient {
    /// Asks a token server; `client` is the one for the registry.
    pub(super) async fn fetch(
        &self,
        client: &reqwest::Client,
        question: Question<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Issued, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            token: Option<SecretString>,
            access_token: Option<SecretString>,
            expires_in: Option<u64>,
        }
        let Question { host, mut realm, service, scopes, plain } = question;
        if credentials.is_some() && !may_have_credentials(host, &realm, plain) {
            return Err(refusal::foreign_realm(host, &realm));
        }
        self.reachable.check(&realm)?;
        let scopes = scopes.iter().map(|scope| ("scope", scope.as_str())).filter(|(_, scope)| !scope.is_empty());
        realm.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)).into_iter().chain(scopes));
        let mut request = client.get(realm);
        if let Some(one) = credentials {
            request = request.header(header::AUTHORIZATION, basic(one));
        }
        let asked = Instant::now();
        let response = request.send().await.map_err(|e| refusal::from_transport(host, &e))?;
        if !response.status().is_success() {
            return Err(refusal::from_answer(host, credentials, response).await);
        }
        let body: Option<Body> = serde_json::from_slice(&read_limited(host, response).await?).ok();
        let life = body.as_ref().and_then(|body| body.expires_in).map_or(USUAL_LIFE, Duration::from_secs);
        let text = body.and_then(|body| body.token.or(body.access_token));
        let text = text.ok_or_else(|| refusal::not_understood(host, "its token server sent no token"))?;
        Ok(Issued { text, life, until: asked + life.min(Duration::from_secs(24 * 3600)) })
    }
}

#[async_trait]
impl RegistryAuth for RegistryClient {
    async fn asks_for(&self, credentials: &Credentials) -> Result<bool, EngineError> {
        Ok(self.is_asked_for(credentials).await?)
    }

    async fn token(&self, credentials: &Credentials, wanted: &TokenWanted) -> Result<Token, EngineError> {
        let host = credentials.host();
        let realm = Url::parse(&wanted.realm).ok().filter(|realm| matches!(realm.scheme(), "https" | "http"));
        let realm = realm.ok_or_else(|| refusal::not_understood(host, "it names no token server that can be asked"))?;
        let plain = self.is_insecure(host);
        let service = Some(wanted.service.as_str()).filter(|service| !service.is_empty());
        let question = Question { host, realm, service, scopes: &wanted.scopes, plain };
        let Issued { text, life, .. } = self.fetch(&self.client_for(host, plain), question, Some(credentials)).await?;
        Ok(Token { text, life })
    }

    async fn pulls_left(&self, image: &RunImage, credentials: Option<&Credentials>) -> Result<Option<Allowance>, EngineError> {
        Ok(RegistryClient::pulls_left(self, image, credentials).await?)
    }
}
