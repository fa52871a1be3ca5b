//! Why a registry did not do it, in its own words.

use std::time::Duration;

use http::{StatusCode, header};
use reqwest::{Response, Url};
use serde::Deserialize;

use crate::domain::{Credentials, ErrorKind, REDACTED};
use crate::egress::Refused;
use crate::engine::EngineError;

/// Longest text of a registry that is kept, in bytes.
const TEXT_BYTES: usize = 4096;
/// Passwords shorter than this are not looked for in them: they would stand there by chance.
const SHORTEST: usize = 4;

/// A registry's refusal, and when it wants to be asked again if it said so.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    pub error: EngineError,
    pub retry_after: Option<Duration>,
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self { error, retry_after: None }
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

pub(super) fn error(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> EngineError {
    EngineError { kind, code, message: message.into(), dockerfile_line: None, transient: false }
}

pub(super) fn passing(code: &'static str, message: impl Into<String>) -> EngineError {
    EngineError { transient: true, ..error(ErrorKind::Registry, code, message) }
}

pub(super) fn not_understood(host: &str, why: &str) -> Refusal {
    error(ErrorKind::Registry, "registry_error", format!("{host}: {why}")).into()
}

pub(super) fn foreign_realm(host: &str, realm: &Url) -> Refusal {
    let elsewhere = realm.host_str().unwrap_or_default();
    let message = format!(
        "{host} wants its credentials sent to {}://{elsewhere}, which is not the registry's own; they were not sent",
        realm.scheme()
    );
    error(ErrorKind::Auth, "foreign_realm", message).into()
}

/// The operator's rule leaves this host out.
pub(super) fn host_refused(refused: &Refused) -> Refusal {
    error(ErrorKind::User, "registry_host_refused", format!("{refused}; the operator names registries by --allow-registry"))
        .into()
}

/// No answer at all.
pub(super) fn from_transport(host: &str, failure: &reqwest::Error) -> Refusal {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(failure);
    while let Some(one) = cause {
        if let Some(refused @ Refused::Inside { .. }) = one.downcast_ref() {
            return host_refused(refused);
        }
        causes.push(one.to_string());
        cause = one.source();
    }
    let why = causes.last().cloned().unwrap_or_else(|| failure.to_string());
    if failure.is_timeout() {
        return passing("registry_timeout", format!("{host} did not answer in time")).into();
    }
    if causes.iter().any(|cause| cause.contains("certificate")) {
        return error(ErrorKind::Registry, "registry_tls", format!("{host}: {why}")).into();
    }
    passing("registry_unreachable", format!("cannot reach {host}: {why}")).into()
}

/// An answer that says no.
pub(super) async fn from_answer(host: &str, credentials: Option<&Credentials>, response: Response) -> Refusal {
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let said = without(credentials, said(status, response).await);
    let known = credentials.is_some_and(|one| one.host() == host);
    let scope =
        said.to_lowercase().contains("insufficient_scope") || said.to_lowercase().contains("access to the resource is denied");
    let error = match status {
        StatusCode::UNAUTHORIZED if !known => {
            error(ErrorKind::Auth, "registry_auth", format!("{host} asks for credentials and the build has none for it: {said}"))
        }
        StatusCode::UNAUTHORIZED if scope => {
            error(ErrorKind::Auth, "push_denied", format!("{host} does not let this user push there: {said}"))
        }
        StatusCode::UNAUTHORIZED => {
            error(ErrorKind::Auth, "registry_auth", format!("{host} does not accept the user name or password: {said}"))
        }
        StatusCode::FORBIDDEN => error(ErrorKind::Auth, "push_denied", format!("{host} does not allow it: {said}")),
        StatusCode::METHOD_NOT_ALLOWED => error(ErrorKind::Auth, "push_denied", format!("{host} takes no pushes: {said}")),
        StatusCode::NOT_FOUND => error(ErrorKind::Registry, "repository_unknown", format!("{host}: {said}")),
        StatusCode::TOO_MANY_REQUESTS => passing("rate_limited", format!("{host}: {said}")),
        status if status.is_server_error() => passing("registry_error", format!("{host}: {said}")),
        _ => error(ErrorKind::Registry, "registry_error", format!("{host}: {said}")),
    };
    Refusal { error, retry_after: retry_after.map(Duration::from_secs) }
}

/// Some registries say back what they were sent.
fn without(credentials: Option<&Credentials>, said: String) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let Some(one) = credentials.filter(|one| one.expose_password().len() >= SHORTEST) else { return said };
    let password = one.expose_password();
    let sent = [STANDARD.encode(format!("{}:{password}", one.username())), STANDARD.encode(password), password.to_owned()];
    sent.iter().fold(said, |said, form| said.replace(form, REDACTED))
}

/// The registry's words: its errors (OCI distribution specification, "Error Codes"), else its status and text.
async fn said(status: StatusCode, mut response: Response) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<One>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        message: Option<String>,
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > TEXT_BYTES {
            break;
        }
    }
    let parsed: Option<Body> = serde_json::from_slice(&body).ok();
    let errors = parsed.iter().flat_map(|body| &body.errors).map(|one| match &one.message {
        Some(message) if !message.is_empty() => format!("{}: {message}", one.code.to_lowercase()),
        _ => one.code.to_lowercase(),
    });
    let errors: Vec<String> = errors.chain(parsed.iter().filter_map(|body| body.details.clone())).collect();
    if !errors.is_empty() {
        return errors.join("; ");
    }
    let text = String::from_utf8_lossy(&body);
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default().chars().take(200).collect::<String>();
    if line.is_empty() || line.starts_with('<') { status.to_string() } else { format!("{status}: {line}") }
}
