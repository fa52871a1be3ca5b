//! What BuildKit pulls base images with. A registry that asks for a token names its token server to the engine; the engine asks *us* for
//! the token, as it asks a `docker build`, and never holds the password behind it. It gets a password only for a registry that
//! wants just that from it.
//!
//! An engine keeps tokens beyond a build, and asks a later one to prove with a signature that they are its own. A build here proves
//! itself with a key that lives as long as its session, so that tokens are never another build's.
//!
//! Source: moby/buildkit `util/resolver/authorizer.go`, `session/auth/auth.go`.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};

use crate::domain::Credentials;
use crate::engine::{RegistryAuth, TokenWanted};

/// The names by which engines and registries call Docker Hub.
const HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"];

/// The build's credentials, each for its own host only. Empty by default.
#[derive(Clone, Default)]
pub(super) struct Keyring(Option<Arc<Keys>>);

struct Keys {
    credentials: Vec<Credentials>,
    registries: Arc<dyn RegistryAuth>,
    /// Proves to the engine that a token is this session's.
    own: Ed25519KeyPair,
}

impl Keyring {
    pub(super) fn new(credentials: Vec<Credentials>, registries: Arc<dyn RegistryAuth>) -> Self {
        let own = Ed25519KeyPair::generate().expect("a key is made, because the system has random numbers");
        Self((!credentials.is_empty()).then(|| Arc::new(Keys { credentials, registries, own })))
    }

    fn for_host(&self, asked: &str) -> Option<(&Keys, &Credentials)> {
        let keys = self.0.as_deref()?;
        Some((keys, keys.credentials.iter().find(|one| same_registry(one.host(), asked))?))
    }

    /// As [`Self::for_host`]; the engine takes this refusal for: none, go on anonymously.
    fn must_know(&self, asked: &str) -> Result<(&Keys, &Credentials), Status> {
        self.for_host(asked).ok_or_else(|| Status::unimplemented("this build has no credentials for that registry"))
    }
}

/// Whether two names are of one registry: equal, or both Docker Hub's.
pub(super) fn same_registry(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || (HUB.contains(&one) && HUB.contains(&other))
}

#[tonic::async_trait]
impl Auth for Keyring {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        // An empty answer means: none, go on anonymously.
        let found = self.for_host(&request.get_ref().host);
        let answer =
            found.map(|(_, one)| CredentialsResponse { username: one.username().into(), secret: one.expose_password().into() });
        Ok(Response::new(answer.unwrap_or_default()))
    }

    async fn fetch_token(&self, request: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        let FetchTokenRequest { host, realm, service, scopes, .. } = request.into_inner();
        let (keys, credentials) = self.must_know(&host)?;
        let token = keys.registries.token(credentials, &TokenWanted { realm, service, scopes }).await;
        // In the registry's words, which end up as the build's error.
        let token = token.map_err(|error| Status::permission_denied(error.message))?;
        let expires_in = i64::try_from(token.life.as_secs()).unwrap_or(i64::MAX);
        Ok(Response::new(FetchTokenResponse { token: token.text.expose_secret().into(), expires_in, issued_at: 0 }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let (keys, _) = self.must_know(&request.get_ref().host)?;
        Ok(Response::new(GetTokenAuthorityResponse { public_key: keys.own.public_key().as_ref().to_vec() }))
    }

    /// The signature stands before what is signed (NaCl's form).
    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let VerifyTokenAuthorityRequest { host, payload, .. } = request.into_inner();
        let (keys, _) = self.must_know(&host)?;
        let signed = [keys.own.sign(&payload).as_ref(), &payload].concat();
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::domain::RunImage;
    use crate::engine::{Allowance, Token};

    struct NoTokens;

    #[async_trait::async_trait]
    impl RegistryAuth for NoTokens {
        async fn asks_for(&self, _: &Credentials) -> crate::engine::Result<bool> {
            unreachable!("nobody asks")
        }

        async fn token(&self, _: &Credentials, _: &TokenWanted) -> crate::engine::Result<Token> {
            unreachable!("nobody asks for one")
        }

        async fn pulls_left(&self, _: &RunImage, _: Option<&Credentials>) -> crate::engine::Result<Option<Allowance>> {
            unreachable!("nobody asks")
        }
    }

    #[tokio::test]
    async fn credentials_go_to_their_own_host_only() {
        let one = |host: &str, user: &str| Credentials::new(host, user, SecretString::from("pw"));
        let keyring = Keyring::new(vec![one("docker.io", "hub"), one("r.example:5000", "r")], Arc::new(NoTokens));
        for (host, user) in [
            ("r.example:5000", "r"),
            ("registry-1.docker.io", "hub"),
            ("https://index.docker.io/v1/", "hub"),
            ("docker.io", "hub"),
            ("r.example", ""),
            ("r.example:5001", ""),
            ("auth.docker.io", ""),
            ("evil.example", ""),
        ] {
            let request = Request::new(CredentialsRequest { host: host.into() });
            let answer = keyring.credentials(request).await.expect("answers").into_inner();
            assert_eq!(answer.username, user, "{host}");
            assert_eq!(answer.secret.is_empty(), user.is_empty(), "{host}");
            let request = Request::new(GetTokenAuthorityRequest { host: host.into(), salt: Vec::new() });
            assert_eq!(keyring.get_token_authority(request).await.is_err(), user.is_empty(), "{host}");
        }
    }
}
