//! Reads a `multipart/form-data` upload part by part into a [`Draft`]: parts in any order, memory flat.

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use futures::StreamExt;
use secrecy::zeroize::Zeroizing;
use secrecy::{SecretSlice, SecretString};

use super::BODY_STALL;
use crate::auth::Principal;
use crate::builds::{Builds, Draft, PartKind, SecretPart};
use crate::domain::{Quota, limits};
use crate::error::{Error, Result};

/// After an early refusal, this much of the body is still read, so that a client that sends first and reads later sees the answer.
const DRAINED: usize = 16 << 20;

/// What one route takes for the names of its parts.
pub trait Parts: Send + Sync {
    fn kind(&self, name: &str) -> PartKind;
    /// A part of kind [`PartKind::Own`].
    fn own(&mut self, _name: &str, _text: SecretString) {}
    /// The name of the uploaded file, where the route wants to know it.
    fn file_name(&mut self, _name: Option<&str>) {}
}

/// Names as in `POST /api/v1/builds`.
pub struct Current;

impl Parts for Current {
    fn kind(&self, name: &str) -> PartKind {
        PartKind::of(name)
    }
}

/// Reads the whole upload.
///
/// # Errors
/// On a body that is no multipart form, is cut short, stalls or passes a limit. Faults of single parts are kept in the draft, to
/// be told together with the rest.
pub async fn read(builds: &Builds, caller: &Principal, request: Request, parts: &mut dyn Parts) -> Result<Draft> {
    if let Err(refused) = builds.admit_upload(caller).await {
        drain(request.into_body()).await;
        return Err(refused);
    }
    let quota = &caller.quota;
    let most = builds.policy.max_upload.0 + 2 * limits::DOCKERFILE_BYTES + limits::ENTRUSTED_BYTES as u64;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most) {
        drain(request.into_body()).await;
        return Err(builds.too_large(quota, length.unwrap_or_default()));
    }
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data"));
    if !is_form {
        return Err(Error::UnsupportedMediaType("send multipart/form-data (curl -F does)".into()));
    }
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|e| Error::invalid("invalid_multipart", "body", e.body_text()))?;
    let read = read_parts(builds, quota, &mut form, parts).await;
    if read.is_err() {
        drain_form(form).await;
    }
    read
}

async fn read_parts(builds: &Builds, quota: &Quota, form: &mut Multipart, parts: &mut dyn Parts) -> Result<Draft> {
    let mut draft = Draft::default();
    let mut count = 0;
    while let Some(field) = stalled(form.next_field()).await? {
        count += 1;
        if count > limits::PARTS {
            return Err(Error::invalid("too_many_parts", "body", format!("at most {} parts", limits::PARTS)));
        }
        let name = field.name().unwrap_or_default().to_owned();
        match parts.kind(&name) {
            PartKind::File => {
                parts.file_name(field.file_name());
                match small(field, usize::try_from(limits::DOCKERFILE_BYTES).unwrap_or(usize::MAX)).await? {
                    Some(bytes) => draft.file(bytes),
                    None => draft.fault(
                        "dockerfile_too_large",
                        "file",
                        format!("a Dockerfile may have at most {} bytes", limits::DOCKERFILE_BYTES),
                    ),
                }
            }
            PartKind::Context => context(builds, quota, field, &mut draft).await?,
            PartKind::Text(part) => {
                if let Some(text) = text(field, &name, &mut draft).await? {
                    draft.text(part, text);
                }
            }
            PartKind::Secret(part) => secret(field, part, &name, &mut draft).await?,
            PartKind::Own => {
                if let Some(text) = text(field, &name, &mut draft).await? {
                    parts.own(&name, text);
                }
            }
            PartKind::NotYet => {
                draft.fault("not_available", &name, "is not available in this version");
                skip(field).await?;
            }
            PartKind::Unknown => {
                draft.fault("unknown_part", &shown(&name), "is not a part of this upload");
                skip(field).await?;
            }
        }
    }
    Ok(draft)
}

/// A foreign name is told back to the client: keep it short and printable.
fn shown(name: &str) -> String {
    if name.is_empty() { "(no name)".into() } else { name.chars().filter(|c| !c.is_control()).take(80).collect() }
}

async fn context(builds: &Builds, quota: &Quota, mut field: Field<'_>, draft: &mut Draft) -> Result<()> {
    let mut incoming = builds.receive_context(quota).await?;
    let mut received = 0;
    while let Some(chunk) = stalled(field.chunk()).await? {
        received += chunk.len() as u64;
        match incoming.write(chunk).await {
            Err(Error::TooLarge { .. }) => return Err(builds.too_large(quota, received)),
            other => other?,
        }
    }
    draft.context(incoming.finish().await?);
    Ok(())
}

async fn text(field: Field<'_>, name: &str, draft: &mut Draft) -> Result<Option<SecretString>> {
    match small(field, limits::TEXT_PART_BYTES).await? {
        None => draft.fault("text_too_long", name, format!("may have at most {} bytes", limits::TEXT_PART_BYTES)),
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => draft.fault("invalid_text", name, "holds a NUL character"),
            Ok(text) => return Ok(Some(SecretString::from(text))),
            Err(_) => draft.fault("invalid_text", name, "is not UTF-8"),
        },
    }
    Ok(None)
}

async fn secret(mut field: Field<'_>, part: SecretPart, name: &str, draft: &mut Draft) -> Result<()> {
    // As long as it may become: a buffer that grows leaves its bytes behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(part.most_bytes()));
    while let Some(chunk) = stalled(field.chunk()).await? {
        if bytes.len() + chunk.len() > part.most_bytes() {
            draft.fault("secret_too_large", &shown(name), format!("may have at most {} bytes", part.most_bytes()));
            return skip(field).await;
        }
        bytes.extend_from_slice(&chunk);
    }
    draft.secret(part, &shown(name), SecretSlice::from(bytes.to_vec()));
    Ok(())
}

/// The whole part, or `None` (with the rest read and thrown away) when it is longer than `most`.
async fn small(mut field: Field<'_>, most: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stalled(field.chunk()).await? {
        if bytes.len() + chunk.len() > most {
            skip(field).await?;
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

async fn skip(mut field: Field<'_>) -> Result<()> {
    let mut skipped = 0;
    while let Some(chunk) = stalled(field.chunk()).await? {
        skipped += chunk.len();
        if skipped > DRAINED {
            return Err(Error::TooLarge {
                code: "part_too_large",
                detail: format!("a part that is refused anyway goes on beyond {DRAINED} bytes"),
            });
        }
    }
    Ok(())
}

/// A read that must go on within [`BODY_STALL`].
async fn stalled<T>(read: impl Future<Output = std::result::Result<T, axum::extract::multipart::MultipartError>>) -> Result<T> {
    match tokio::time::timeout(BODY_STALL, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::invalid(
            "invalid_multipart",
            "body",
            format!("the upload was cut short or is malformed: {}", error.body_text()),
        )),
        Err(_) => Err(Error::ClientTimeout(format!("nothing came for {} s", BODY_STALL.as_secs()))),
    }
}

pub(super) async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut read = 0;
    let reading = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            read += chunk.len();
            if read > DRAINED {
                break;
            }
        }
    };
    // A client that sends slowly does not hold the answer up for long.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), reading).await;
}

async fn drain_form(mut form: Multipart) {
    let reading = async {
        let mut read = 0;
        while let Ok(Some(mut field)) = form.next_field().await {
            while let Ok(Some(chunk)) = field.chunk().await {
                read += chunk.len();
                if read > DRAINED {
                    return;
                }
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), reading).await;
}
