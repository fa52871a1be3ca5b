//! What a registry asks for before it lets somebody push or pull, and what the engine is therefore given. An engine goes where a registry
//! sends it, so that one which is honest to us could have it send credentials elsewhere: the engine gets nothing that
//! *we* were not asked for, and a token instead of a password wherever a token was asked for.

use std::time::Instant;

use http::{Method, StatusCode, header};
use reqwest::Response;

use super::challenge::{Challenge, is_known, may_have_credentials};
use super::client::{Ask, RegistryClient};
use super::refusal::{self, Refusal};
use super::token::Issued;
use crate::domain::{Credentials, ErrorKind, ImageRef};
use crate::engine::Pass;

/// What the registry wanted to see before it answered.
pub(super) enum Asked {
    Nothing,
    Password,
    Token(Issued),
}

/// Leave to push, and what the engine needs for it.
#[derive(Debug)]
pub struct Admission {
    /// Nothing, when the registry asked for nothing: what it asks the engine for all the same it does not get.
    pub pass: Option<Pass>,
    /// When the token in it ends.
    pub until: Option<Instant>,
}

impl Admission {
    /// A push that a registry refused after its token had ended may be tried again with a new one; what went through stays there.
    pub(super) fn judge(&self, refusal: Refusal) -> Refusal {
        if refusal.error.kind != ErrorKind::Auth || self.until.is_none_or(|until| Instant::now() < until) {
            return refusal;
        }
        refusal::passing("token_ended", format!("the registry's token ended during the push ({})", refusal.error)).into()
    }
}

/// The engine gets no more than was asked for. Registries that are known by their names get the password from it, as theirs are the
/// tokens that end during a long layer.
pub(super) fn admission(host: &str, credentials: Option<&Credentials>, asked: &Asked) -> Admission {
    let nothing = Admission { pass: None, until: None };
    let Some(one) = credentials.filter(|one| one.host() == host) else { return nothing };
    match asked {
        Asked::Nothing => nothing,
        Asked::Token(issued) if !is_known(host) => {
            let pass = Pass::Token { host: host.to_owned(), token: issued.text.clone() };
            Admission { pass: Some(pass), until: Some(issued.until) }
        }
        Asked::Password | Asked::Token(_) => Admission { pass: Some(Pass::Password(one.clone())), until: None },
    }
}

impl RegistryClient {
    /// What [`crate::engine::RegistryAuth::asks_for`] tells.
    pub(super) async fn is_asked_for(&self, credentials: &Credentials) -> Result<bool, Refusal> {
        let host = credentials.host();
        let image = &base(host)?;
        let insecure = self.is_insecure(host);
        let ask = Ask { method: Method::GET, image, path: String::new(), actions: "", credentials: None };
        let (url, response) = self.reach(&self.client_for(host, insecure), &ask, insecure).await?;
        match challenge(&response) {
            Some(Challenge::Bearer { realm, .. }) if !may_have_credentials(host, &realm, url.scheme() == "http") => {
                Err(refusal::foreign_realm(host, &realm))
            }
            challenge => Ok(challenge.is_some()),
        }
    }
}

/// What a refused question must be asked with.
pub(super) fn challenge(response: &Response) -> Option<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
    Challenge::read(challenges.iter().filter_map(|value| value.to_str().ok()))
}

/// Stands for all repositories of a host.
pub(super) fn base(host: &str) -> Result<ImageRef, Refusal> {
    format!("{host}/any").parse().map_err(|e: crate::domain::InvalidImageRef| refusal::not_understood(host, &e.to_string()))
}
