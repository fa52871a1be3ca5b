//! `/api/v1/runs`, and the runs of an app.

mod view;

use std::time::Duration;

use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::apps::named;
use super::builds::names;
use super::output::Asked;
use super::query::Query;
use super::{App, Caller, body, replay};
use crate::apps::{NewRun, RunFilter, spec};
use crate::domain::{Run, RunId, limits};
use crate::error::{Error, Result};
use crate::store::objects::Object;
pub use view::{RunPage, RunView};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/apps/{app}/runs", get(of_app).post(start))
        .route("/api/v1/runs", get(list))
        .route("/api/v1/runs/{run}", get(one).delete(remove))
        .route("/api/v1/runs/{run}/logs", get(logs))
        .route("/api/v1/runs/{run}/stop", post(stop))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct RunForm {
    /// Name of kept credentials to pull with; those for the image's host if absent.
    registry: Option<String>,
}

/// Start an app. The image is pulled when it is missing; the run's log tells how far that is.
#[utoipa::path(post, path = "/api/v1/apps/{app}/runs", tag = "apps", operation_id = "run_app", request_body = Option<RunForm>,
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 202, description = "Accepted, durably.", body = RunView, headers(("Location" = String, description = "The run."), ("ETag" = String, description = "Names this state of the run."))),
        (status = 400, description = "The app is not allowed as it is any more: `errors` names the fields."), (status = 404, description = "There is no such app."), (status = 429, description = "`quota_exceeded`: `detail` names the quota, its limit and its use.")))]
pub(super) async fn start(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Response> {
    let mut query = Query::of(&uri, &["owner"]);
    let found = named(&app, &caller, &key, &mut query).await;
    query.end()?;
    let (headers, bytes) = body::read(request).await?;
    let (app, caller, sent, found) = (&app, &*caller, &bytes, found?.body);
    let route = format!("POST apps/{}/runs", found.id);
    replay::once(app, caller, &route, &headers, &bytes, |id| async move {
        let mut form = spec::Form::of(sent, &["registry"])?;
        let registry = form.text("registry");
        let new = NewRun { id: Some(RunId::from(id)), registry: form.end(Some(registry))?, built_here: false };
        Ok(accepted(app, &app.apps.run_app(caller, &found, new).await?))
    })
    .await
}

/// A run that was just accepted.
pub(super) fn accepted(app: &App, run: &Run) -> Response {
    let location = format!("/api/v1/runs/{}", run.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(RunView::of(app, run))).into_response()
}

/// The run with its `ETag`.
fn shown(app: &App, run: &Object<Run>) -> Response {
    ([(header::ETAG, etag(app, run))], Json(RunView::of(app, &run.body))).into_response()
}

fn etag(app: &App, run: &Object<Run>) -> String {
    let stale = if app.apps.is_stale(&run.body) { "-stale" } else { "" };
    format!("\"{}{stale}\"", run.revision)
}

fn page(app: &App, runs: &[Object<Run>], more: bool) -> Json<RunPage> {
    let next_cursor = more.then(|| runs.last().map(|one| one.order.to_string())).flatten();
    Json(RunPage { items: runs.iter().map(|one| RunView::of(app, &one.body)).collect(), next_cursor })
}

/// An app's runs, newest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/runs", tag = "apps", operation_id = "list_runs_of_app",
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page of them.", body = RunPage), (status = 404, description = "There is no such app.")))]
pub(super) async fn of_app(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
) -> Result<Json<RunPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before) = (query.limit(), query.order());
    let found = named(&app, &caller, &key, &mut query).await;
    query.end()?;
    let (runs, more) = app.apps.runs_of(&found?.body, before, limit).await?;
    Ok(page(&app, &runs, more))
}

/// Runs of all apps and of none, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "apps", operation_id = "list_runs",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, description = "A page of them.", body = RunPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<RunPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let filter = RunFilter { limit: query.limit(), before: query.order(), owner: query.owner() };
    query.end()?;
    let (runs, more) = app.apps.runs(&caller, &filter).await?;
    Ok(page(&app, &runs, more))
}

/// # Errors
/// `invalid_id` when the text is no id.
fn run_id(text: &str) -> Result<RunId> {
    text.parse().map_err(|e: crate::domain::InvalidId| Error::invalid("invalid_id", "run", e.to_string()))
}

/// One run. With `wait` it answers as soon as the run differs from `If-None-Match`, or, without that header, is over.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "apps", operation_id = "get_run",
    params(("run" = String, Path, description = "Its id."), ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait at most."),
        ("If-None-Match" = Option<String>, Header, example = "\"3\"", description = "An `ETag` seen before.")),
    responses((status = 200, description = "The run.", body = RunView, headers(("ETag" = String, description = "Names this state of the run."))),
        (status = 304, description = "It is as `If-None-Match` says.", headers(("ETag" = String, description = "Names this state of the run."))),
        (status = 400, description = "Not an id, or a wrong parameter."), (status = 404, description = "There is no such run.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let id = run_id(&id)?;
    let mut query = Query::of(&uri, &["wait"]);
    let wait = query.number("wait", 0..=limits::WAIT_SECONDS).map(Duration::from_secs);
    query.end()?;
    let seen = headers.get(header::IF_NONE_MATCH).cloned();
    let moved = |run: &Object<Run>| match &seen {
        Some(seen) => !names(seen, &etag(&app, run)),
        None => !run.body.state.is_live(),
    };
    let waiting = app.apps.wait_run(&caller, id, wait.unwrap_or_default(), &moved);
    let run = tokio::select! {
        waited = waiting => waited?,
        // A process that ends answers those who wait with what is true now.
        () = app.stop.cancelled(), if wait.is_some() => app.apps.run(&caller, id).await?,
    };
    if seen.as_ref().is_some_and(|seen| names(seen, &etag(&app, &run))) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag(&app, &run))]).into_response());
    }
    Ok(shown(&app, &run))
}

/// The run's log: what was built and done for it and what its container puts out, as text or (with `Accept: text/event-stream`) as server-sent
/// events `log`, `state` and, at the end, `end`. The end of the output is kept when the container is gone.
#[utoipa::path(get, path = "/api/v1/runs/{run}/logs", tag = "apps", operation_id = "get_run_logs",
    params(("run" = String, Path, description = "Its id."), ("follow" = Option<bool>, Query, description = "Go on until the run is over."),
        ("tail" = Option<u64>, Query, minimum = 0, maximum = 100000, description = "Only so many lines, the last ones."),
        ("after" = Option<String>, Query, description = "Only what comes behind this place, a `seq` of an event."),
        ("timestamps" = Option<bool>, Query, description = "Begins each line of text with its time."),
        ("Last-Event-ID" = Option<String>, Header, description = "For events, as `after`: browsers send it when they come back.")),
    responses((status = 200, description = "The log.", content((String = "text/plain; charset=utf-8"), (String = "text/event-stream"))),
        (status = 400, description = "Not an id, or a wrong parameter."), (status = 404, description = "There is no such run."),
        (status = 429, description = "`too_many_streams`: you follow 64 already.")))]
pub(super) async fn logs(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let id = run_id(&id)?;
    let asked = Asked::of(&uri, &headers, true)?;
    let lines = app.apps.lines(&caller, id, asked.query).await?;
    asked.answer(app, &caller, Some(id), lines)
}

/// Stop a run. Answers when it is over, or after some time with `stop_requested` and the state as it is. Repeatable until it is over.
#[utoipa::path(post, path = "/api/v1/runs/{run}/stop", tag = "apps", operation_id = "stop_run", params(("run" = String, Path, description = "Its id.")),
    responses((status = 202, description = "The run as it is now.", body = RunView), (status = 404, description = "There is no such run."),
        (status = 409, description = "`already_finished`: it ended before.")))]
pub(super) async fn stop(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let run = run_id(&id)?;
    replay::once(&app, &caller, &format!("POST runs/{id}/stop"), &headers, &[], |_| async {
        Ok((StatusCode::ACCEPTED, shown(&app, &app.apps.stop_run(&caller, run).await?)).into_response())
    })
    .await
}

/// Remove a run from the history, with its container and logs. A live one is stopped first.
#[utoipa::path(delete, path = "/api/v1/runs/{run}", tag = "apps", operation_id = "remove_run", params(("run" = String, Path, description = "Its id.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such run.")))]
pub(super) async fn remove(State(app): State<App>, Extension(caller): Caller, Path(id): Path<String>) -> Result<StatusCode> {
    app.apps.remove_run(&caller, run_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
