//! `POST /api/v1/builds/{id}/retry`.

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use secrecy::SecretString;
use serde::Deserialize;

use super::builds::shown;
use super::multipart::{self, Parts};
use super::openapi::forms::{BuildPath, RetryForm};
use super::query::build_id;
use super::view::BuildView;
use super::{App, Caller, body, replay};
use crate::auth::Principal;
use crate::builds::{Draft, PartKind, TextPart};
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/builds/{id}/retry", post(retry))
}

/// The form as JSON.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Json {
    username: Option<SecretString>,
    password: Option<SecretString>,
    registry: Names,
    force: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Json {
    fn draft(self) -> Draft {
        let mut draft = Draft::default();
        let names = match self.registry {
            Names::One(name) => vec![name],
            Names::Many(names) => names,
        };
        let own = [(TextPart::Username, self.username), (TextPart::Password, self.password)];
        for (part, value) in own.into_iter().filter_map(|(part, value)| Some((part, value?))) {
            draft.text(part, value);
        }
        if let Some(force) = self.force {
            draft.text(TextPart::Force, force.to_string().into());
        }
        for name in names {
            draft.text(TextPart::Registry, name.into());
        }
        draft
    }
}

/// The parts of the form.
struct Anew;

impl Parts for Anew {
    fn kind(&self, name: &str) -> PartKind {
        let kind = PartKind::of(name);
        match name {
            "force" => PartKind::Text(TextPart::Force),
            "username" | "password" | "registry" => kind,
            _ if matches!(kind, PartKind::Secret(_)) => kind,
            _ => PartKind::Unknown,
        }
    }
}

/// Do it again: a new build of the same inputs, for the same owner. Where its image is still on its engine, only what is missing is
/// pushed; destinations that have the image are carried over. Credentials that came with the first build were erased at its end, and
/// are sent again; kept ones are used as they are now. The secrets
/// and ssh keys of the first build were erased as well: with each of them sent again it can be built again, without them only pushed.
/// The new build is as old as the first: a tag that a younger build has pushed since is left alone (`superseded`), unless `force` is sent.
/// A token that is limited to destinations repeats only builds for these (403 `image_not_allowed`).
#[utoipa::path(post, path = "/api/v1/builds/{id}/retry", tag = "builds", operation_id = "retry_build", params(BuildPath),
    request_body(content((Option<RetryForm> = "application/json"), (RetryForm = "multipart/form-data"))),
    responses((status = 202, description = "Accepted, durably: the new build.", body = BuildView,
            headers(("Location" = String, description = "The new build."), ("ETag" = String, description = "Names this state of it."))),
        (status = 400, description = "Not an id, or what is wrong with the form (`credentials_needed`: send them again; `secret_missing`, \
            `secret_unknown`: not the secrets that the first build had)."),
        (status = 404, description = "There is no such build."),
        (status = 409, description = "`not_finished`: it goes on; `cannot_build_again`: its image is gone, and what it takes to build it was erased."),
        (status = 429, description = "`quota_exceeded`: `detail` names the quota, its limit and its use.")))]
pub(super) async fn retry(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response> {
    let first = build_id(&id)?;
    let (headers, draft) = read(&app, &caller, request).await?;
    let content = draft.fingerprint();
    let (app, caller) = (&app, &*caller);
    replay::once(app, caller, &format!("POST builds/{id}/retry"), &headers, &content, |new| async move {
        let (stored, position) = app.builds.retry(caller, new, first, draft).await?;
        let location = format!("/api/v1/builds/{}", stored.record.id);
        Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], shown(app, &stored, position).await).into_response())
    })
    .await
}

async fn read(app: &App, caller: &Principal, request: Request) -> Result<(HeaderMap, Draft)> {
    let headers = request.headers().clone();
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    if kind.is_some_and(|kind| kind.starts_with(b"multipart/form-data")) {
        return Ok((headers, multipart::read(&app.builds, caller, request, &mut Anew).await?));
    }
    app.builds.admit_upload(caller).await?;
    let (headers, bytes) = body::read(request).await?;
    let json = if bytes.is_empty() { Json::default() } else { body::parse(&bytes)? };
    Ok((headers, json.draft()))
}
