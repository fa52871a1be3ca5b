//! Runs as clients see them.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::apps::spec;
use crate::domain::{ErrorKind, Run, RunState, Timestamp};
use crate::http::App;
use crate::http::apps::ContainerFields;
use crate::http::view::ErrorKindView;

/// One life of a container, from the wish for it to its history.
#[derive(Serialize, ToSchema)]
#[schema(as = Run)]
pub struct RunView {
    #[schema(format = "uuid")]
    id: String,
    owner: String,
    /// None for a container that was asked for directly.
    app: Option<RunAppView>,
    #[schema(value_type = RunStateView)]
    state: RunState,
    /// `R` while it runs or is about to, `F` when it has finished.
    #[schema(pattern = "^[RF]$")]
    status: &'static str,
    /// The engine does not answer now: this is what was known last, and may not be so any more.
    stale: bool,
    exit_code: Option<i64>,
    oom_killed: bool,
    /// The engine's id of the container, for `/api/v1/containers/{container}` and for Docker's own tools; stays in the history.
    container: Option<String>,
    container_name: String,
    /// Whether the container was there and is not any more.
    container_removed: bool,
    /// How often it was started again by the engine, or at the engine, since somebody had it started.
    restarts: u64,
    error: Option<RunErrorView>,
    /// With its digest, where the registry told one.
    image: Option<String>,
    image_id: Option<String>,
    stop_requested: bool,
    node: Option<String>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = "date-time")]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    finished_at: Option<Timestamp>,
    /// As it was when the run was asked for.
    #[schema(value_type = ContainerFields)]
    spec: Map<String, Value>,
    links: RunLinks,
}

#[derive(ToSchema)]
#[schema(as = RunState, rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum RunStateView {
    Pending,
    Pulling,
    Starting,
    Running,
    Exited,
    Failed,
    Stopped,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RunOfApp)]
struct RunAppView {
    #[schema(format = "uuid")]
    id: String,
    /// As it was called then.
    name: String,
    /// Of the description that it was made from.
    generation: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RunError)]
struct RunErrorView {
    #[schema(value_type = ErrorKindView)]
    kind: ErrorKind,
    code: String,
    /// Verbatim from the engine or the registry, where it comes from them.
    message: String,
}

#[derive(Serialize, ToSchema)]
struct RunLinks {
    #[serde(rename = "self")]
    own: String,
    logs: String,
    container: Option<String>,
    app: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct RunPage {
    pub items: Vec<RunView>,
    pub next_cursor: Option<String>,
}

impl RunView {
    #[must_use]
    pub fn of(app: &App, run: &Run) -> Self {
        let own = format!("/api/v1/runs/{}", run.id);
        let (stale, there) = (app.apps.is_stale(run), run.container.as_ref().filter(|_| !run.removed));
        let app = run.app.as_ref();
        Self {
            id: run.id.to_string(),
            owner: run.owner.to_string(),
            app: app.map(|app| RunAppView { id: app.id.to_string(), name: app.name.to_string(), generation: app.generation }),
            state: run.state,
            status: run.state.letter(),
            stale,
            exit_code: run.exit_code,
            oom_killed: run.oom_killed,
            container: run.container.clone(),
            container_name: run.name.clone(),
            container_removed: run.removed,
            restarts: run.restarts,
            error: run.error.as_ref().map(|error| RunErrorView {
                kind: error.kind,
                code: error.code.clone(),
                message: error.message.clone(),
            }),
            image: run.image.clone(),
            image_id: run.image_id.as_ref().map(ToString::to_string),
            stop_requested: run.stop_requested,
            node: run.node.as_ref().map(ToString::to_string),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            spec: spec::show(&run.spec),
            links: RunLinks {
                logs: format!("{own}/logs"),
                container: there.map(|id| format!("/api/v1/containers/{id}")),
                app: app.map(|app| format!("/api/v1/apps/{}", app.id)),
                own,
            },
        }
    }
}
