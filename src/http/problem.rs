//! The sole map from errors to statuses, as RFC 9457 problems.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::ErrorKind;
use crate::error::{Error, FieldError};

/// `application/problem+json`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says it all, and `code` says it exactly.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Stable, in `snake_case`.
    pub code: String,
    pub request_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// With `blobs_missing`: the hashes of the blobs that are not here yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    #[serde(skip)]
    retry_after: Option<u64>,
    /// For the log alone.
    #[serde(skip)]
    cause: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.into(),
            request_id: String::new(),
            errors: Vec::new(),
            missing: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid { code, fields } => Self { errors: fields, ..Self::new(StatusCode::BAD_REQUEST, code, detail) },
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", detail),
            Error::BaseUnknown => Self::new(StatusCode::NOT_FOUND, "base_unknown", detail),
            Error::Conflict { code, .. } => Self::new(StatusCode::CONFLICT, code, detail),
            Error::MissingBlobs(missing) => Self { missing, ..Self::new(StatusCode::CONFLICT, "blobs_missing", detail) },
            Error::Changed(_) => Self::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail),
            Error::Engine { kind, code, .. } => {
                let ours = matches!(kind, ErrorKind::User | ErrorKind::Limit | ErrorKind::Auth);
                Self::new(if ours { StatusCode::CONFLICT } else { StatusCode::BAD_GATEWAY }, &code, detail)
            }
            Error::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail),
            Error::Forbidden { code, .. } => Self::new(StatusCode::FORBIDDEN, code, detail),
            Error::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail),
            Error::TooMany { code, retry_after, .. } => {
                Self { retry_after: Some(retry_after.as_secs().max(1)), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
            }
            Error::UnsupportedMediaType(_) => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail),
            Error::TooLarge { code, .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail),
            Error::Unavailable { code, retry_after, source, .. } => Self {
                retry_after: Some(retry_after.as_secs().max(1)),
                cause: source.map(|s| format!("{s:#}")),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            },
            Error::BadGateway { code, .. } => Self::new(StatusCode::BAD_GATEWAY, code, detail),
            Error::GatewayTimeout { code, .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, code, detail),
            Error::StorageFull(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail),
            Error::ClientTimeout(_) => Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail),
            Error::Internal(cause) => {
                let told = "an internal error; the service's log has the rest under this request's id";
                Self { cause: Some(format!("{cause:#}")), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", told) }
            }
        }
    }
}

/// Carries a problem to the outermost layer, which knows the request's id.
#[derive(Clone)]
struct Unwritten(Problem);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"dockwright\", Bearer realm=\"dockwright\""),
            );
        }
        response.extensions_mut().insert(Unwritten(self));
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

pub fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this route does not know the method; the Allow header lists those that it knows",
    )
}

/// Gives a problem its body. An error of the framework, which has none of our form, gets one too.
pub fn write_out(mut response: Response, request_id: &str) -> Response {
    let problem = match response.extensions_mut().remove::<Unwritten>() {
        Some(Unwritten(problem)) => problem,
        None if is_foreign_error(&response) => {
            let status = response.status();
            let code = status.canonical_reason().unwrap_or("error").to_ascii_lowercase().replace([' ', '-', '\''], "_");
            Problem::new(status, &code, status.canonical_reason().unwrap_or("the request cannot be served"))
        }
        None => return response,
    };
    if let Some(cause) = &problem.cause {
        tracing::error!(request_id, status = problem.status, cause, "a request failed");
    }
    let body = serde_json::to_vec(&Problem { request_id: request_id.to_owned(), ..problem })
        .expect("serialises, because it holds only text and numbers");
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

fn is_foreign_error(response: &Response) -> bool {
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/"));
    (response.status().is_client_error() || response.status().is_server_error()) && !json
}
