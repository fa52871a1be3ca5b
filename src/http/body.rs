//! Bodies in JSON: read whole, within bounds, and refused in our own form.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::BODY_STALL;
use crate::error::{Error, Result};

/// Longest JSON body, in bytes.
const LONGEST: usize = 64 * 1024;

/// The same of one that describes a container.
const LONGEST_SPEC: usize = 2 * 1024 * 1024;

/// The whole body of a request that sends JSON, or nothing.
///
/// # Errors
/// [`Error::UnsupportedMediaType`], [`Error::TooLarge`], [`Error::ClientTimeout`].
pub async fn read(request: Request) -> Result<(HeaderMap, Bytes)> {
    read_within(request, LONGEST).await
}

/// As [`read`], with the room that a description of a container needs.
///
/// # Errors
/// As [`read`].
pub async fn read_spec(request: Request) -> Result<(HeaderMap, Bytes)> {
    read_within(request, LONGEST_SPEC).await
}

async fn read_within(request: Request, most: usize) -> Result<(HeaderMap, Bytes)> {
    let (parts, body) = request.into_parts();
    let bytes = match tokio::time::timeout(BODY_STALL, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Error::TooLarge { code: "body_too_large", detail: format!("the body may have at most {most} bytes") });
        }
        Ok(Err(error)) => return Err(Error::invalid("invalid_body", "body", format!("it was cut short: {error}"))),
        Err(_) => return Err(Error::ClientTimeout(format!("the body did not come within {} s", Duration::as_secs(&BODY_STALL)))),
    };
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !bytes.is_empty() && !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(Error::UnsupportedMediaType("send application/json".into()));
    }
    Ok((parts.headers, bytes))
}

/// # Errors
/// [`Error::Invalid`] `invalid_json` with the field, the place, and what is wrong there.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Of itself, `serde` also takes a form's fields one after another in a list.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Error::invalid("invalid_json", "body", "must be an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|wrong| {
        let path = wrong.path().to_string();
        // What is not JSON, has a field too many or too few, is wrong as a whole.
        let field = if path == "." || path.contains('?') { "body" } else { &path };
        Error::invalid("invalid_json", field, wrong.inner().to_string().replace("expected u64", "expected a whole number"))
    })?;
    reader.end().map_err(|wrong| Error::invalid("invalid_json", "body", wrong.to_string()))?;
    Ok(read)
}
