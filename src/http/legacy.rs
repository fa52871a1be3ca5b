//! `/api/dockerfile-build/`: the same builds for the clients of the earlier publisher.

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::multipart::{self, Parts};
use super::openapi::forms::LegacyUploadForm;
use super::query::{Query, build_id};
use super::{App, Caller, Problem, replay};
use crate::builds::{Filter, PartKind, TextPart};
use crate::domain::{BuildId, BuildRecord, LegacyUpload, Timestamp, limits};
use crate::error::{Error, Result};

pub fn routes() -> Router<App> {
    let methods = || get(read).post(submit).delete(remove);
    Router::new().route("/api/dockerfile-build", methods()).route("/api/dockerfile-build/", methods())
}

/// A build as the earlier publisher showed it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LegacyBuild {
    #[schema(format = "uuid")]
    id: String,
    docker_username: Option<String>,
    docker_repo: String,
    file: String,
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    image_id: Option<String>,
    /// One line for people.
    status: String,
    #[schema(format = "date-time")]
    created_at: String,
}

#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyOne {
    data: LegacyBuild,
}

#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyMessage {
    message: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum LegacyAnswer {
    One { data: LegacyBuild },
    Many { data: Vec<LegacyBuild> },
}

impl LegacyBuild {
    fn of(record: &BuildRecord) -> Self {
        let first = record.destinations.first().map(|d| d.image.repository());
        let legacy = record.legacy.as_ref();
        Self {
            id: record.id.to_string(),
            docker_username: record.spec.username.clone(),
            docker_repo: legacy.map(|l| l.repo.clone()).or(first).unwrap_or_default(),
            file: legacy.map_or_else(|| record.spec.dockerfile.clone(), |l| l.file.clone()),
            image_id: record.image_id.as_ref().map(ToString::to_string),
            status: record.message.clone(),
            created_at: record.created_at.to_string(),
        }
    }
}

/// The part names of the older path.
#[derive(Default)]
struct Older {
    file_name: Option<String>,
}

impl Parts for Older {
    fn kind(&self, name: &str) -> PartKind {
        match name {
            "file" => PartKind::File,
            "docker_username" | "username" => PartKind::Text(TextPart::Username),
            "docker_password" | "password" => PartKind::Text(TextPart::Password),
            "docker_repo" => PartKind::Text(TextPart::Image),
            _ => PartKind::Unknown,
        }
    }

    fn file_name(&mut self, name: Option<&str>) {
        self.file_name = name.map(str::to_owned);
    }
}

/// Upload a Dockerfile, as to the earlier publisher.
#[utoipa::path(post, path = "/api/dockerfile-build/", tag = "older path", operation_id = "legacy_submit",
    request_body(content = LegacyUploadForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "Accepted.", body = LegacyOne), (status = 400, description = "All that is wrong with the upload."),
        (status = 413, description = "Larger than a limit."), (status = 415, description = "Not `multipart/form-data`."),
        (status = 507, description = "The service's disk is nearly full.")))]
pub(super) async fn submit(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let headers = request.headers().clone();
    let mut parts = Older::default();
    let mut draft = multipart::read(&app.builds, &caller, request, &mut parts).await?;
    let file = parts
        .file_name
        .as_deref()
        .and_then(|name| name.rsplit(['/', '\\']).next())
        .filter(|name| !name.is_empty())
        .unwrap_or("Dockerfile")
        .to_owned();
    let repo = match draft.take_first(TextPart::Image) {
        Some(repo) => repo,
        None => format!("{}/{}", draft.first(TextPart::Username).unwrap_or_default(), repository_name(&file)),
    };
    // Without the tag, which is the time and differs when the same is sent again.
    let content = [draft.fingerprint(), repo.clone().into_bytes()].concat();
    draft.text(TextPart::Image, SecretString::from(tagged(&repo)));
    draft.legacy(LegacyUpload { repo, file });
    let (app, caller) = (&app, &*caller);
    replay::once(app, caller, "POST dockerfile-build", &headers, &content, |id| async move {
        let (stored, _) = app.builds.submit(caller, id, draft).await?;
        Ok((StatusCode::ACCEPTED, Json(json!({"data": LegacyBuild::of(&stored.record)}))).into_response())
    })
    .await
}

/// Repositories are lower case.
fn repository_name(file: &str) -> String {
    file.to_lowercase()
}

/// The tag is the time, unless the client named one.
fn tagged(repo: &str) -> String {
    let has_tag = repo.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { repo.to_owned() } else { format!("{repo}:{}", Timestamp::now().compact()) }
}

fn asked(uri: &Uri) -> Result<Option<BuildId>> {
    let query = Query::of(uri, &["dockerfile_build_id"]);
    let id = query.text("dockerfile_build_id").map(build_id).transpose()?;
    query.end()?;
    Ok(id)
}

/// Its clients know one form of "there is none".
fn absent(id: BuildId) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": format!("There is no build {id}")}))).into_response()
}

/// One build, or the newest ones.
#[utoipa::path(get, path = "/api/dockerfile-build/", tag = "older path", operation_id = "legacy_read",
    params(("dockerfile_build_id" = Option<uuid::Uuid>, Query, description = "The build's id.")),
    responses((status = 200, description = "One build, or a list of them.", body = LegacyAnswer),
        (status = 400, description = "Not an id."), (status = 404, description = "There is none.", body = LegacyMessage)))]
pub(super) async fn read(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Response> {
    let Some(id) = asked(&uri)? else {
        let page = app.builds.list(&caller, Filter { limit: limits::PAGE, ..Filter::default() }).await?;
        let builds: Vec<LegacyBuild> = page.items.iter().map(|stored| LegacyBuild::of(&stored.record)).collect();
        return Ok(Json(json!({"data": builds})).into_response());
    };
    match app.builds.get(&caller, id).await {
        Ok(stored) => Ok(Json(json!({"data": LegacyBuild::of(&stored.record)})).into_response()),
        Err(Error::NotFound(_)) => Ok(absent(id)),
        Err(error) => Err(error),
    }
}

/// Remove a build.
#[utoipa::path(delete, path = "/api/dockerfile-build/", tag = "older path", operation_id = "legacy_delete",
    params(("dockerfile_build_id" = uuid::Uuid, Query, description = "The build's id.")),
    responses((status = 200, description = "Removed.", body = LegacyMessage),
        (status = 400, description = "No id, or not an id."), (status = 404, description = "There is none.", body = LegacyMessage)))]
pub(super) async fn remove(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Response> {
    let Some(id) = asked(&uri)? else {
        return Ok(Problem::from(Error::invalid("id_missing", "dockerfile_build_id", "name the build to remove")).into_response());
    };
    match app.builds.delete(&caller, id, false).await {
        Ok(_) => Ok(Json(json!({"message": format!("Build {id} was removed")})).into_response()),
        Err(Error::NotFound(_)) => Ok(absent(id)),
        Err(error) => Err(error),
    }
}
