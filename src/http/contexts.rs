//! `/api/v1/contexts`: contexts in pieces, so that what is here already need not come again. See `docs/uploads.md`.

use axum::body::{Body, BodyDataStream};
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;

use super::multipart::drain;
use super::query::Query;
use super::{App, BODY_STALL, Caller, replay};
use crate::builds::{Coding, MANIFEST_BYTES, Manifest};
use crate::domain::{InvalidId, ManifestId};
use crate::error::{Error, Result};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/contexts", post(declare))
        .route("/api/v1/contexts/{id}", get(one))
        .route("/api/v1/contexts/{id}/blobs", post(send))
}

/// The path of a route about one manifest.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ManifestPath {
    /// The manifest's id.
    #[param(example = "01a1fcc6-00db-778f-aa50-18c1c74c2480")]
    id: uuid::Uuid,
}

/// A manifest as it is now.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Manifest)]
pub(super) struct ManifestView {
    #[schema(format = "uuid")]
    id: String,
    /// Names what the context holds: the same for the same files, however they were sent.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: String,
    /// SHA-256 of the blobs that are not here yet, in hexadecimal.
    missing: Vec<String>,
    /// Bytes of these together.
    missing_bytes: u64,
    /// Until then builds can be made of it, and what is here of it stays.
    #[schema(format = "date-time")]
    expires_at: String,
}

impl ManifestView {
    fn of(manifest: Manifest) -> Json<Self> {
        Json(Self {
            id: manifest.id.to_string(),
            digest: manifest.digest,
            missing: manifest.missing,
            missing_bytes: manifest.missing_bytes,
            expires_at: manifest.expires_at.to_string(),
        })
    }
}

/// A hard link is sent as the file that it is.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum EntryKind {
    File,
    Dir,
    Symlink,
    /// With `base`: not there any more.
    Gone,
}

/// One line of a manifest.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ManifestEntry {
    /// Inside the context, separated by `/`.
    path: String,
    #[schema(rename = "type", inline)]
    kind: EntryKind,
    /// Octal, like `755`; `644` for a file and `755` for a dir if absent.
    #[schema(pattern = "^[0-7]{1,4}$")]
    mode: Option<String>,
    /// Of a file, in bytes.
    size: Option<u64>,
    /// Of a file's bytes, in lower-case hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: Option<String>,
    /// Of a symlink.
    target: Option<String>,
    /// Seconds since the Unix epoch; 0 if absent.
    mtime: Option<u64>,
}

/// Say what a context holds, one entry a line (JSON lines), and learn which of its blobs are to be sent. With `base`, say
/// only what has changed since that manifest: the lines that are other or new, and of what is not there any more its path with the type `gone`.
/// Can be repeated.
#[utoipa::path(post, path = "/api/v1/contexts", tag = "builds", operation_id = "declare_context",
    params(("base" = Option<uuid::Uuid>, Query, description = "A manifest of your own that has not expired; only changes are sent then."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip`, `zstd` or `identity`.")),
    request_body(content = ManifestEntry, content_type = "application/x-ndjson", description = "One entry a line."),
    responses((status = 201, description = "What is missing of it.", body = ManifestView,
            headers(("Location" = String, description = "The manifest."))),
        (status = 400, description = "An entry cannot be; as for archives."),
        (status = 404, description = "`base_unknown`: send all lines."),
        (status = 413, description = "Larger than a limit or the quota, which `detail` names."),
        (status = 415, description = "The encoding is not known."),
        (status = 507, description = "The service's disk is nearly full.")))]
pub(super) async fn declare(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let headers = request.headers().clone();
    let mut query = Query::of(request.uri(), &["base"]);
    let base = query.read("base", |id| id.parse::<ManifestId>().map_err(|e: InvalidId| e.to_string()));
    query.end()?;
    let (coding, mut body) = begun(request).await?;
    let received = async {
        app.builds.admit_manifest(&caller).await?;
        let mut incoming = app.builds.receive_manifest().await?;
        while let Some(bytes) = next(&mut body).await? {
            incoming.write(bytes).await.map_err(too_long)?;
        }
        incoming.finish().await
    };
    let received = match received.await {
        Ok(received) => received,
        Err(error) => return refused(body, error).await,
    };
    let content = format!("{} {}", received.sha256(), base.map(|id| id.to_string()).unwrap_or_default()).into_bytes();
    let (app, caller) = (&app, &*caller);
    replay::once(app, caller, "POST contexts", &headers, &content, |_| async move {
        let manifest = app.builds.declare_context(caller, base, received, coding).await?;
        let location = format!("/api/v1/contexts/{}", manifest.id);
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], ManifestView::of(manifest)).into_response())
    })
    .await
}

/// A manifest of your own, with what is missing of it now.
#[utoipa::path(get, path = "/api/v1/contexts/{id}", tag = "builds", operation_id = "get_context", params(ManifestPath),
    responses((status = 200, description = "The manifest.", body = ManifestView), (status = 400, description = "Not an id."),
        (status = 404, description = "There is no such manifest, or it has expired.")))]
pub(super) async fn one(State(app): State<App>, Extension(caller): Caller, Path(id): Path<String>) -> Result<Json<ManifestView>> {
    Ok(ManifestView::of(app.builds.manifest(&caller, manifest_id(&id)?).await?))
}

/// Send blobs of a manifest, as many as you like: a tar of files that are named by the SHA-256 of their bytes. Each is checked while it
/// comes; those that came before a fault are kept. Can be repeated.
#[utoipa::path(post, path = "/api/v1/contexts/{id}/blobs", tag = "builds", operation_id = "send_blobs",
    params(ManifestPath, ("Content-Encoding" = Option<String>, Header, description = "`gzip`, `zstd` or `identity`.")),
    request_body(content = String, content_type = "application/x-tar", description = "A tar."),
    responses((status = 200, description = "What is still missing.", body = ManifestView),
        (status = 400, description = "`blob_not_asked`, `blob_size`, `blob_hash`, or no tar."),
        (status = 404, description = "There is no such manifest, or it has expired."),
        (status = 413, description = "Larger than a limit or the quota, which `detail` names."),
        (status = 415, description = "The encoding is not known."),
        (status = 507, description = "The service's disk is nearly full.")))]
pub(super) async fn send(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response> {
    let id = manifest_id(&id)?;
    let (coding, mut body) = begun(request).await?;
    let taken = async {
        let mut intake = app.builds.receive_blobs(&caller, id, coding).await?;
        while let Some(bytes) = next(&mut body).await? {
            intake.write(bytes).await?;
        }
        intake.finish().await
    };
    if let Err(error) = taken.await {
        return refused(body, error).await;
    }
    Ok(ManifestView::of(app.builds.manifest(&caller, id).await?).into_response())
}

/// The limit of a manifest is not that of an upload.
fn too_long(error: Error) -> Error {
    let detail = format!("a manifest may have at most {MANIFEST_BYTES} bytes");
    if matches!(error, Error::TooLarge { .. }) { Error::TooLarge { code: "manifest_too_large", detail } } else { error }
}

/// How the body is encoded, and the body.
async fn begun(request: Request) -> Result<(Coding, BodyDataStream)> {
    let coding = coding(request.headers());
    let body = request.into_body().into_data_stream();
    match coding {
        Ok(coding) => Ok((coding, body)),
        Err(error) => refused(body, error).await,
    }
}

/// A client that sends first and reads later sees the answer, too.
async fn refused<T>(body: BodyDataStream, error: Error) -> Result<T> {
    drain(Body::from_stream(body)).await;
    Err(error)
}

async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>> {
    match tokio::time::timeout(BODY_STALL, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => Err(Error::invalid("invalid_body", "body", format!("it was cut short: {error}"))),
        Err(_) => Err(Error::ClientTimeout(format!("nothing came for {} s", BODY_STALL.as_secs()))),
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding> {
    let named = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    match named.as_deref() {
        None | Some(b"identity" | b"") => Ok(Coding::Identity),
        Some(b"gzip" | b"x-gzip") => Ok(Coding::Gzip),
        Some(b"zstd") => Ok(Coding::Zstd),
        Some(_) => Err(Error::UnsupportedMediaType("Content-Encoding: gzip, zstd or identity".into())),
    }
}

fn manifest_id(text: &str) -> Result<ManifestId> {
    text.parse().map_err(|e: InvalidId| Error::invalid("invalid_id", "id", e.to_string()))
}
