//! The service itself: is it alive, is it ready, what does it run, and what is changing.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::openapi::forms::Health;
use super::view::BuildView;
use super::{App, Caller};
use crate::domain::{BuildId, Scope};
use crate::error::Result;
use crate::store::{Moved, WorkerInfo};

/// A worker that has not said for this long that it is alive does not count.
const WORKER_SEEN: Duration = Duration::from_secs(10);
/// Builds that one reader of the event stream is remembered to have seen.
const REMEMBERED: usize = 10_000;

pub fn open_routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

pub fn closed_routes() -> Router<App> {
    Router::new().route("/api/v1/system", get(system)).route("/api/v1/events", get(events))
}

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "healthz", security(()),
    responses((status = 200, description = "Yes.", body = Health)))]
pub(super) async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// One thing that must be there before builds can be accepted and done.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Check {
    ok: bool,
    detail: String,
}

impl Check {
    fn of(result: std::result::Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self { ok: true, detail },
            Err(detail) => Self { ok: false, detail },
        }
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// By name: `store`, `engine`, `disk`.
    checks: BTreeMap<&'static str, Check>,
}

/// Are store, engine and disk there? Each by name.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "readyz", security(()),
    responses((status = 200, description = "All are there.", body = Readiness), (status = 503, description = "Something is missing.", body = Readiness)))]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let store = app.builds.store().ping().await.map(|()| "answers".to_owned()).map_err(|e| e.to_string());
    let engine = match app.builds.store().workers(WORKER_SEEN).await {
        Ok(workers) => engine_check(&workers),
        Err(_) => Err("not known while the store does not answer".into()),
    };
    let checks =
        BTreeMap::from([("store", Check::of(store)), ("engine", Check::of(engine)), ("disk", Check::of(disk_check(&app)))]);
    let ready = checks.values().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Json(Readiness { status: if ready { "ready" } else { "not_ready" }, checks });
    if ready { (status, body).into_response() } else { (status, [(header::RETRY_AFTER, "2")], body).into_response() }
}

fn engine_check(workers: &[WorkerInfo]) -> std::result::Result<String, String> {
    let ready = workers.iter().filter(|worker| worker.engine_ready).count();
    match (ready, workers.len()) {
        (_, 0) => Err("no worker has shown itself lately: accepted builds wait".into()),
        (0, all) => Err(format!("the engine of none of {all} workers answers: accepted builds wait")),
        (ready, all) => Ok(format!("{ready} of {all} workers have an engine that answers")),
    }
}

fn disk_check(app: &App) -> std::result::Result<String, String> {
    let free = app.builds.contexts().free_bytes().map_err(|e| e.to_string())?;
    let floor = app.builds.policy.min_free_disk;
    if free < floor.0 {
        Err(format!("{free} bytes are free, less than {floor}: nothing is accepted"))
    } else {
        Ok(format!("{free} bytes are free"))
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct System {
    version: &'static str,
    nodes: Vec<Node>,
    queue: Queue,
    disk: Disk,
}

/// A worker and its engine.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Node {
    node: String,
    worker: String,
    engine: String,
    engine_ready: bool,
    slots: u32,
    running: u32,
    #[schema(format = "date-time")]
    seen_at: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Queue {
    queued: u64,
    running: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Disk {
    free_bytes: u64,
    floor_bytes: u64,
}

/// Version, nodes, queue and disk.
#[utoipa::path(get, path = "/api/v1/system", tag = "system", operation_id = "get_system",
    responses((status = 200, description = "The service as a whole.", body = System)))]
pub(super) async fn system(State(app): State<App>) -> Result<Json<System>> {
    let store = app.builds.store();
    let stats = store.stats().await?;
    let nodes = store.workers(WORKER_SEEN).await?.into_iter().map(|w| Node {
        node: w.node.to_string(),
        worker: w.worker.to_string(),
        engine: w.engine,
        engine_ready: w.engine_ready,
        slots: w.slots,
        running: w.running,
        seen_at: w.seen_at.to_string(),
    });
    Ok(Json(System {
        version: env!("CARGO_PKG_VERSION"),
        nodes: nodes.collect(),
        queue: Queue { queued: stats.queued, running: stats.running },
        disk: Disk { free_bytes: app.builds.contexts().free_bytes()?, floor_bytes: app.builds.policy.min_free_disk.0 },
    }))
}

/// Server-sent events of all builds that the caller may see: `build` with the build as it is now, `deleted` with its id, and `resync` when
/// something may have been missed and lists must be read again. What happened before the connection is not told.
#[utoipa::path(get, path = "/api/v1/events", tag = "system", operation_id = "get_events",
    responses((status = 200, description = "A stream without end.", body = String, content_type = "text/event-stream")))]
pub(super) async fn events(State(app): State<App>, Extension(caller): Caller) -> Response {
    let mut moved = app.builds.store().wakes().moved();
    let stop = app.stop.clone();
    let told = stream! {
        let mut seen: HashMap<BuildId, u64> = HashMap::new();
        loop {
            let id = tokio::select! { id = moved.recv() => id, () = stop.cancelled() => return };
            let event = match id {
                Ok(Moved::Build(id)) => change(&app, &caller.scope(), id, &mut seen).await,
                Ok(_) => None,
                Err(RecvError::Lagged(_)) => Some(Sse::default().event("resync").data("{}")),
                Err(RecvError::Closed) => return,
            };
            if let Some(event) = event {
                yield Ok::<_, Infallible>(event);
            }
        }
    };
    let stream = axum::response::Sse::new(told).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)).text("alive"));
    ([(header::CACHE_CONTROL, "no-cache")], stream).into_response()
}

/// What to tell of a build that has moved: nothing when only its log has grown.
async fn change(app: &App, scope: &Scope, id: BuildId, seen: &mut HashMap<BuildId, u64>) -> Option<Sse> {
    match app.builds.store().get(scope, id).await {
        Ok(Some(stored)) => {
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            if seen.insert(id, stored.revision) == Some(stored.revision) {
                return None;
            }
            let position = app.builds.position(&stored).await.ok().flatten();
            Some(
                Sse::default()
                    .event("build")
                    .json_data(BuildView::of(&stored, position))
                    .expect("serialises, because it holds only text and numbers"),
            )
        }
        // Only of builds that this reader has seen: others' do not exist for it.
        Ok(None) => seen.remove(&id).map(|_| Sse::default().event("deleted").data(json!({"id": id}).to_string())),
        Err(_) => Some(Sse::default().event("resync").data("{}")),
    }
}
