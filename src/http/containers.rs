//! `/api/v1/containers`.

pub(super) mod deeds;
pub(super) mod from;
mod view;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::sse::Event as Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;

use super::logs::wants_events;
use super::output::{Asked, streamed};
use super::query::Query;
use super::{App, Caller};
use crate::apps::ContainerFilter;
use crate::apps::engine::{ContainerState, FileChangeKind};
use crate::domain::{Scope, Timestamp};
use crate::error::{Error, Result};
use deeds::{kill, remove, restart, start, stop};
use from::run;
use view::ChangeView;
pub use view::{ChangesView, ContainerPage, ContainerView, DetailsView, ProcessesView, StatsView};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/containers", get(list).post(run))
        .route("/api/v1/containers/{container}", get(one).delete(remove))
        .route("/api/v1/containers/{container}/start", post(start))
        .route("/api/v1/containers/{container}/stop", post(stop))
        .route("/api/v1/containers/{container}/restart", post(restart))
        .route("/api/v1/containers/{container}/kill", post(kill))
        .route("/api/v1/containers/{container}/logs", get(logs))
        .route("/api/v1/containers/{container}/stats", get(stats))
        .route("/api/v1/containers/{container}/top", get(top))
        .route("/api/v1/containers/{container}/changes", get(changes))
}

/// Containers, newest first; an admin sees also those that are not Dockwright's.
#[utoipa::path(get, path = "/api/v1/containers", tag = "containers", operation_id = "list_containers",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("state" = Option<String>, Query, example = "running", description = "In the engine's words."),
        ("app" = Option<String>, Query, description = "Only those of the app of this name."),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner."),
        ("search" = Option<String>, Query, description = "A part of the name or the image.")),
    responses((status = 200, description = "A page of them.", body = ContainerPage), (status = 400, description = "A parameter is wrong; `errors` names each."),
        (status = 503, description = "The engine is away, and nobody knows.")))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<ContainerPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "state", "app", "owner", "search"]);
    let filter = ContainerFilter {
        limit: query.limit(),
        after: query.read("cursor", cursor),
        state: query.read("state", state),
        owner: query.owner(),
        app: query.text("app").map(str::to_owned),
        search: query.text("search").map(str::to_owned),
    };
    query.end()?;
    let (containers, more) = app.apps.containers(&caller, &filter)?;
    let last = containers.last().map(|seen| format!("{}-{}", seen.summary.created_at.as_millis(), seen.summary.id));
    // One owner's names where that is enough.
    let scope = match filter.owner {
        Some(owner) if caller.scope().covers(&owner) => Scope::Owner(owner),
        _ => caller.scope(),
    };
    let names = app.apps.place_names(&scope).await?;
    let items = containers.iter().map(|seen| ContainerView::of(seen, &names)).collect();
    Ok(Json(ContainerPage { items, next_cursor: last.filter(|_| more) }))
}

fn cursor(text: &str) -> std::result::Result<(Timestamp, String), String> {
    let read = || {
        let (at, id) = text.split_once('-')?;
        Some((Timestamp::from_millis(at.parse().ok()?), id.to_owned()))
    };
    read().ok_or_else(|| "is not a cursor of this list; take the next_cursor of an answer".to_owned())
}

fn state(text: &str) -> std::result::Result<ContainerState, String> {
    ContainerState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names = ContainerState::ALL.map(ContainerState::as_str);
        format!("{text:?} is no state; states are: {}", names.join(", "))
    })
}

/// One container, by the engine's id (12 digits are enough), its name, or its run's id.
#[utoipa::path(get, path = "/api/v1/containers/{container}", tag = "containers", operation_id = "get_container",
    params(("container" = String, Path, description = "The engine's id (12 digits are enough), its name, or its run's id."),
        ("size" = Option<bool>, Query, description = "Also how large it is, which takes the engine a while.")),
    responses((status = 200, description = "The container.", body = DetailsView), (status = 404, description = "There is no such container.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
) -> Result<Json<DetailsView>> {
    let mut query = Query::of(&uri, &["size"]);
    let size = query.flag("size");
    query.end()?;
    Ok(Json(deeds::details(&app, &caller, &key, size).await?))
}

/// What the container puts out, in the forms of a run's log; what is kept of a container that is gone has its run.
#[utoipa::path(get, path = "/api/v1/containers/{container}/logs", tag = "containers", operation_id = "get_container_logs",
    params(("container" = String, Path, description = "Its id, its name, or its run's id."), ("follow" = Option<bool>, Query, description = "Go on until it has ended."),
        ("tail" = Option<u64>, Query, minimum = 0, maximum = 100000, description = "Only so many lines, the last ones."),
        ("after" = Option<String>, Query, description = "Only what comes behind this place, a `seq` of an event."),
        ("timestamps" = Option<bool>, Query, description = "Begins each line of text with its time."),
        ("Last-Event-ID" = Option<String>, Header, description = "For events, as `after`: browsers send it when they come back.")),
    responses((status = 200, description = "The output.", content((String = "text/plain; charset=utf-8"), (String = "text/event-stream"))),
        (status = 404, description = "There is no such container.")))]
pub(super) async fn logs(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let asked = Asked::of(&uri, &headers, false)?;
    let run = app.apps.container(&caller, &key).await?.seen.run();
    let lines = app.apps.container_lines(&caller, &key, asked.query).await?;
    asked.answer(app, &caller, run, lines)
}

/// What the container uses: one sample, or with `Accept: text/event-stream` an event `stats` about every second, and `end` when it has ended.
#[utoipa::path(get, path = "/api/v1/containers/{container}/stats", tag = "containers", operation_id = "get_stats",
    params(("container" = String, Path, description = "Its id, its name, or its run's id.")),
    responses((status = 200, description = "A sample, or samples.", content((StatsView = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "There is no such container."), (status = 409, description = "`not_running`: it uses nothing.")))]
pub(super) async fn stats(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let mut samples = app.apps.stats(&caller, &key).await?;
    if !wants_events(&headers) {
        let sample = samples.next().await.ok_or_else(|| Error::Conflict {
            code: "not_running",
            detail: "the container ended before anything could be measured".into(),
        })??;
        return Ok(Json(StatsView::from(sample)).into_response());
    }
    let (stop, open) = (app.stop.clone(), app.streams.open(&caller.owner)?);
    Ok(streamed(async_stream::stream! {
        let _open = open;
        loop {
            let sample = tokio::select! { sample = samples.next() => sample, () = stop.cancelled() => return };
            match sample {
                Some(Ok(sample)) => {
                    let view = StatsView::from(sample);
                    yield Ok(Sse::default().event("stats").json_data(view).expect("serialises, because it holds only text and numbers"));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "samples of a container break off");
                    return;
                }
                None => break,
            }
        }
        yield Ok(Sse::default().event("end").data("{}"));
    }))
}

/// Its processes.
#[utoipa::path(get, path = "/api/v1/containers/{container}/top", tag = "containers", operation_id = "get_processes",
    params(("container" = String, Path, description = "Its id, its name, or its run's id.")),
    responses((status = 200, description = "As `ps` tells them.", body = ProcessesView), (status = 404, description = "There is no such container."),
        (status = 409, description = "`not_running`: it has none.")))]
pub(super) async fn top(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
) -> Result<Json<ProcessesView>> {
    let processes = app.apps.processes(&caller, &key).await?;
    Ok(Json(ProcessesView { titles: processes.titles, rows: processes.rows }))
}

/// In what its files differ from its image.
#[utoipa::path(get, path = "/api/v1/containers/{container}/changes", tag = "containers", operation_id = "get_changes",
    params(("container" = String, Path, description = "Its id, its name, or its run's id.")),
    responses((status = 200, description = "Every difference, or the first 10,000.", body = ChangesView), (status = 404, description = "There is no such container.")))]
pub(super) async fn changes(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
) -> Result<Json<ChangesView>> {
    let (changes, truncated) = app.apps.changes(&caller, &key).await?;
    let items = changes.into_iter().map(|change| ChangeView {
        path: change.path,
        kind: match change.kind {
            FileChangeKind::Modified => "modified",
            FileChangeKind::Added => "added",
            FileChangeKind::Deleted => "deleted",
        },
    });
    Ok(Json(ChangesView { items: items.collect(), truncated }))
}
