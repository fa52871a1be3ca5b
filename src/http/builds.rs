//! `/api/v1/builds`.

use std::time::Duration;

use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::openapi::forms::{BuildPath, Upload};
use super::query::{Query, build_id};
use super::view::{BuildPage, BuildStateView, BuildView, etag};
use super::{App, Caller, multipart, replay};
use crate::builds::{Deletion, Filter, Submitted};
use crate::domain::{BuildState, ImageRef, Owner, limits};
use crate::error::Result;
use crate::store::{ImageFilter, Stored};

/// Say that a build was answered that was there before.
pub(super) const JOINED: HeaderName = HeaderName::from_static("dockwright-joined");
pub(super) const REUSED: HeaderName = HeaderName::from_static("dockwright-reused");

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/builds", get(list).post(submit).delete(super::retention::remove_many))
        .route("/api/v1/builds/{id}", get(one).delete(remove))
        .route("/api/v1/builds/{id}/dockerfile", get(dockerfile))
        .route("/api/v1/builds/{id}/cancel", post(cancel))
}

/// Upload a Dockerfile or a context, to be built and published.
#[utoipa::path(post, path = "/api/v1/builds", tag = "builds", operation_id = "submit_build",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses((status = 202, description = "Accepted, durably.", body = BuildView,
            headers(("Location" = String, description = "The build."), ("ETag" = String, description = "Names this state of the build."),
                ("Dockwright-Joined" = String, description = "`true` when, with `reuse`, it is a build of the very same that was under way."))),
        (status = 200, description = "With `reuse`: a build of the very same, whose result is still there (`reused`).", body = BuildView,
            headers(("Location" = String, description = "The build."), ("ETag" = String, description = "Names this state of the build."),
                ("Dockwright-Reused" = String, description = "`true`."))),
        (status = 400, description = "All that is wrong with the upload, told together in `errors`."),
        (status = 409, description = "`blobs_missing`: of the manifest that was named; `missing` has their hashes."),
        (status = 413, description = "Larger than a limit, which `detail` names."),
        (status = 415, description = "Not `multipart/form-data`."),
        (status = 429, description = "`quota_exceeded`; `git_busy`: you fetch as many repositories as you may at once."),
        (status = 503, description = "`git_busy`: too many repositories are fetched at once; `git_missing`: this machine has no git."),
        (status = 502, description = "The git server does not answer as it should (`git_unreachable`, `git_certificate`)."),
        (status = 504, description = "The git source took too long (`git_timeout`)."),
        (status = 507, description = "The service's disk is nearly full.")))]
pub(super) async fn submit(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let headers = request.headers().clone();
    let draft = multipart::read(&app.builds, &caller, request, &mut multipart::Current).await?;
    let content = draft.fingerprint();
    let (app, caller) = (&app, &*caller);
    replay::once(app, caller, "POST builds", &headers, &content, |id| async move {
        Ok(answered(app, app.builds.submit_or_join(caller, id, draft).await?).await)
    })
    .await
}

/// The new build, or the one that is answered instead, which says so.
async fn answered(app: &App, submitted: Submitted) -> Response {
    let (status, stored, position) = match &submitted {
        Submitted::New(stored, position) | Submitted::Joined(stored, position) => (StatusCode::ACCEPTED, stored, *position),
        Submitted::Reused(stored) => (StatusCode::OK, stored, None),
    };
    let view = view(app, stored, position).await;
    let (view, says) = match &submitted {
        Submitted::New(..) => (view, None),
        Submitted::Joined(..) => (view.joined(), Some(JOINED)),
        Submitted::Reused(_) => (view.reused(), Some(REUSED)),
    };
    let location = format!("/api/v1/builds/{}", stored.record.id);
    let tag = etag(stored, position);
    let mut response = (status, [(header::LOCATION, location), (header::ETAG, tag)], Json(view)).into_response();
    if let Some(name) = says {
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}

async fn view(app: &App, stored: &Stored, position: Option<u64>) -> BuildView {
    let waiting = app.builds.waiting(std::slice::from_ref(stored), &[position]).await.pop().flatten();
    BuildView::of(stored, position).waiting(waiting)
}

/// The build with its `ETag`, and why it waits.
pub(super) async fn shown(app: &App, stored: &Stored, position: Option<u64>) -> Response {
    ([(header::ETAG, etag(stored, position))], Json(view(app, stored, position).await)).into_response()
}

/// Builds, newest first.
#[utoipa::path(get, path = "/api/v1/builds", tag = "builds", operation_id = "list_builds",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200, description = "At most so many; 50 if absent."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the answer before."),
        ("state" = inline(Option<BuildStateView>), Query, description = "Only builds in this state."),
        ("image" = Option<String>, Query, example = "127.0.0.1:5000/team/app", description = "A destination; without a tag, any tag of the repository."),
        ("owner" = Option<String>, Query, example = "admin", description = "Narrows an admin's list to one owner.")),
    responses((status = 200, description = "A page of them.", body = BuildPage), (status = 400, description = "A parameter is wrong; `errors` names each.")))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<BuildPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "state", "image", "owner"]);
    let limit = query.limit();
    let filter = Filter {
        limit,
        before: query.cursor(),
        state: query.read("state", state),
        image: query.read("image", image),
        owner: query.read("owner", |text| text.parse::<Owner>().map_err(|e| e.to_string())),
    };
    query.end()?;
    let page = app.builds.list(&caller, filter).await?;
    let positions = app.builds.positions(&page.items).await?;
    let waiting = app.builds.waiting(&page.items, &positions).await;
    let told = page.items.iter().zip(positions).zip(waiting);
    let items = told.map(|((stored, position), waiting)| BuildView::of(stored, position).waiting(waiting)).collect();
    let next_cursor = page.more.then(|| page.items.last().map(|stored| stored.record.id.to_string())).flatten();
    Ok(Json(BuildPage { items, next_cursor }))
}

pub(super) fn state(text: &str) -> std::result::Result<BuildState, String> {
    BuildState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = BuildState::ALL.iter().map(|state| state.as_str()).collect();
        format!("{text:?} is no state; states are: {}", names.join(", "))
    })
}

/// With a tag exactly that destination, else any tag of the repository.
pub(super) fn image(text: &str) -> std::result::Result<ImageFilter, String> {
    let image: ImageRef = text.parse().map_err(|e: crate::domain::InvalidImageRef| format!("{text:?} {e}"))?;
    let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    Ok(ImageFilter { repository: image.repository(), tag: tagged.then(|| image.tag().to_owned()) })
}

/// One build. With `wait` it answers as soon as the build differs from `If-None-Match`, or, without that header, has ended.
#[utoipa::path(get, path = "/api/v1/builds/{id}", tag = "builds", operation_id = "get_build",
    params(BuildPath, ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait at most."),
        ("If-None-Match" = Option<String>, Header, example = "\"3\"", description = "An `ETag` seen before.")),
    responses((status = 200, description = "The build.", body = BuildView, headers(("ETag" = String, description = "Names this state of the build."))),
        (status = 304, description = "It is as `If-None-Match` says.", headers(("ETag" = String, description = "Names this state of the build."))),
        (status = 400, description = "Not an id, or a wrong parameter."), (status = 404, description = "There is no such build.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let id = build_id(&id)?;
    let mut query = Query::of(&uri, &["wait"]);
    let wait = query.number("wait", 0..=limits::WAIT_SECONDS).map(Duration::from_secs);
    query.end()?;
    let seen = headers.get(header::IF_NONE_MATCH).cloned();
    let moved = |stored: &Stored, position: Option<u64>| match &seen {
        Some(seen) => !names(seen, &etag(stored, position)),
        None => stored.record.state.is_terminal(),
    };
    let waiting = app.builds.wait(&caller, id, wait.unwrap_or_default(), &moved);
    let (stored, position) = tokio::select! {
        waited = waiting => waited?,
        // A process that ends answers those who wait with what is true now.
        () = app.stop.cancelled(), if wait.is_some() => {
            let stored = app.builds.get(&caller, id).await?;
            let position = app.builds.position(&stored).await?;
            (stored, position)
        }
    };
    if seen.as_ref().is_some_and(|seen| names(seen, &etag(&stored, position))) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag(&stored, position))]).into_response());
    }
    Ok(shown(&app, &stored, position).await)
}

/// Whether an `If-None-Match` names this tag (RFC 9110, 13.1.2: weak comparison, a list, or `*`).
pub(super) fn names(header: &HeaderValue, tag: &str) -> bool {
    header
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .any(|given| given == "*" || given.trim_start_matches("W/") == tag)
}

/// The stored Dockerfile.
#[utoipa::path(get, path = "/api/v1/builds/{id}/dockerfile", tag = "builds", operation_id = "get_dockerfile", params(BuildPath),
    responses((status = 200, description = "As it was sent.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 400, description = "Not an id."), (status = 404, description = "There is no such build.")))]
pub(super) async fn dockerfile(State(app): State<App>, Extension(caller): Caller, Path(id): Path<String>) -> Result<Response> {
    let text = app.builds.dockerfile(&caller, build_id(&id)?).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// Stop a build. Answers when it has stopped, or after 5 s with `cancel_requested` and the state as it is. Repeatable.
/// A token that is limited to destinations stops only builds for these (403 `image_not_allowed`).
#[utoipa::path(post, path = "/api/v1/builds/{id}/cancel", tag = "builds", operation_id = "cancel_build", params(BuildPath),
    responses((status = 202, description = "The build as it is now.", body = BuildView, headers(("ETag" = String, description = "Names this state of the build."))),
        (status = 400, description = "Not an id."), (status = 404, description = "There is no such build."),
        (status = 409, description = "`already_finished`: it ended before.")))]
pub(super) async fn cancel(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let build = build_id(&id)?;
    replay::once(&app, &caller, &format!("POST builds/{id}/cancel"), &headers, &[], |_| async {
        let stored = app.builds.cancel(&caller, build).await?;
        let position = app.builds.position(&stored).await?;
        Ok((StatusCode::ACCEPTED, shown(&app, &stored, position).await).into_response())
    })
    .await
}

/// Remove a build: its file, its record with the log, and its image. A live one is cancelled first.
/// A token that is limited to destinations removes only builds for these (403 `image_not_allowed`).
#[utoipa::path(delete, path = "/api/v1/builds/{id}", tag = "builds", operation_id = "delete_build",
    params(BuildPath, ("remote" = Option<bool>, Query, description = "Also the tags at the registries, where they still name this build's digest.")),
    responses((status = 200, description = "What became of each part of it.", body = Deletion),
        (status = 400, description = "Not an id, or a wrong parameter."), (status = 404, description = "There is no such build.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Deletion>> {
    let id = build_id(&id)?;
    let mut query = Query::of(&uri, &["remote"]);
    let remote = query.flag("remote");
    query.end()?;
    Ok(Json(app.builds.delete(&caller, id, remote).await?))
}
