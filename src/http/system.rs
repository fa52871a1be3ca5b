//! The service itself: is it alive, is it ready, and what does it run.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

use super::App;
use super::openapi::forms::Health;
use crate::builds::WORKER_SEEN;
use crate::domain::{Cleaned, Scope};
use crate::error::Result;
use crate::store::WorkerInfo;
use crate::store::objects::{Kind, Object};

pub fn open_routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

pub fn closed_routes() -> Router<App> {
    Router::new().route("/api/v1/system", get(system))
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
        Ok(workers) => engine_check(&workers).and_then(|told| fleet_check(&app).map(|()| told)),
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

/// A process that has reached an engine of its own knows its containers, or says so.
fn fleet_check(app: &App) -> std::result::Result<(), String> {
    let fleet = app.apps.fleet();
    if fleet.node().is_none() || fleet.is_whole() {
        return Ok(());
    }
    Err("the engine does not tell of its containers now: they cannot be listed or started".into())
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
    /// How full it is.
    used_percent: u8,
    /// What was last cleaned away of each disk that was too full, of each node.
    cleaned: Vec<CleanedView>,
}

/// What was cleaned away from a disk that was too full.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Cleaned)]
struct CleanedView {
    /// The engine's id; `data` for the service's own folder on a machine without one.
    node: String,
    /// `engine` or `data`.
    disk: String,
    #[schema(format = "date-time")]
    at: String,
    /// Before.
    used_percent: u8,
    /// After.
    left_percent: u8,
    /// Of the builder's caches.
    cache_bytes: u64,
    /// Of ended builds.
    images: u64,
    /// Uploads of ended builds.
    contexts: u64,
}

impl CleanedView {
    fn of(object: Object<Cleaned>) -> Self {
        let Cleaned { at, disk, used_percent, left_percent, cache_bytes, images, contexts } = object.body;
        let node = object.id.rsplit_once('/').map_or(object.id.as_str(), |(node, _)| node).to_owned();
        Self { node, disk, at: at.to_string(), used_percent, left_percent, cache_bytes, images, contexts }
    }
}

/// Version, nodes, queue and disk.
#[utoipa::path(get, path = "/api/v1/system", tag = "system", operation_id = "get_system",
    responses((status = 200, description = "The service as a whole.", body = System)))]
pub(super) async fn system(State(app): State<App>) -> Result<Json<System>> {
    let store = app.builds.store();
    let stats = store.stats().await?;
    let cleaned = store.all_objects::<Cleaned>(&Scope::All, Kind::Cleaned).await?;
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
        disk: Disk {
            free_bytes: app.builds.contexts().free_bytes()?,
            floor_bytes: app.builds.policy.min_free_disk.0,
            used_percent: app.builds.contexts().used_percent()?,
            cleaned: cleaned.into_iter().map(CleanedView::of).collect(),
        },
    }))
}
