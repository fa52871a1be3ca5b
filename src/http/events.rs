//! `/api/v1/events`: what changes, as it changes, for those who may see it.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use async_stream::stream;
use axum::Router;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::response::sse::Event as Sse;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::apps::AppView;
use super::containers::ContainerView;
use super::output::streamed;
use super::runs::RunView;
use super::view::BuildView;
use super::{App, Caller};
use crate::apps::engine::Seen;
use crate::auth::Principal;
use crate::domain::{AppId, BuildId, Permission, RunId};
use crate::error::Result;
use crate::store::Moved;
use crate::store::objects::Kind;

/// Things that one reader of the event stream is remembered to have seen.
const REMEMBERED: usize = 10_000;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/events", get(events))
}

/// Server-sent events of all that the caller may see: `build`, `app`, `run` and `container`, each as it is now; `deleted` with its `kind` and id; and
/// `resync` when something may have been missed and lists must be read again. With `builds:read` alone only builds are told, with `apps:read`
/// alone only the others. What happened before the connection is not told, nor are containers that are not Dockwright's.
#[utoipa::path(get, path = "/api/v1/events", tag = "system", operation_id = "get_events",
    responses((status = 200, description = "A stream without end.", body = String, content_type = "text/event-stream"),
        (status = 429, description = "`too_many_streams`: you follow 64 already.")))]
pub(super) async fn events(State(app): State<App>, Extension(caller): Caller) -> Result<Response> {
    let open = app.streams.open(&caller.owner)?;
    let mut moved = app.builds.store().wakes().moved();
    Ok(streamed(stream! {
        let _open = open;
        let mut reader = Reader { app: &app, caller: &caller, seen: HashMap::new(), containers: HashMap::new() };
        loop {
            let moved = tokio::select! { moved = moved.recv() => moved, () = app.stop.cancelled() => return };
            let told = match moved {
                Ok(moved) => reader.told(moved).await,
                Err(RecvError::Lagged(_)) => VecDeque::from([resync()]),
                Err(RecvError::Closed) => return,
            };
            for event in told {
                yield Ok::<_, Infallible>(event);
            }
        }
    }))
}

fn resync() -> Sse {
    Sse::default().event("resync").data("{}")
}

fn event(name: &str, view: impl Serialize) -> Sse {
    Sse::default().event(name).json_data(view).expect("serialises, because it holds only text and numbers")
}

fn deleted(kind: &str, id: &str) -> Sse {
    Sse::default().event("deleted").data(json!({"kind": kind, "id": id}).to_string())
}

/// What one reader has been told.
struct Reader<'a> {
    app: &'a App,
    caller: &'a Principal,
    /// The revision of each thing.
    seen: HashMap<Moved, u64>,
    containers: HashMap<RunId, Arc<Seen>>,
}

impl Reader<'_> {
    /// What to tell of something that has moved: nothing when only its log has grown.
    async fn told(&mut self, moved: Moved) -> VecDeque<Sse> {
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
            self.containers.clear();
        }
        let may = |scope| self.caller.permissions.has(scope);
        let told = match moved {
            Moved::Build(id) if may(Permission::BuildsRead) => self.build(id).await,
            Moved::App(id) if may(Permission::AppsRead) => self.app(id).await,
            Moved::Run(id) if may(Permission::AppsRead) => self.run(id).await,
            _ => Some(VecDeque::new()),
        };
        told.unwrap_or_else(|| VecDeque::from([resync()]))
    }

    /// Whether it is another than the last time.
    fn is_new(&mut self, moved: Moved, revision: u64) -> bool {
        self.seen.insert(moved, revision) != Some(revision)
    }

    /// Only of what this reader has seen: others' things do not exist for it.
    fn gone(&mut self, moved: Moved, kind: &str, id: &str) -> Option<Sse> {
        self.seen.remove(&moved).map(|_| deleted(kind, id))
    }

    /// `None`: the store could not be asked.
    async fn build(&mut self, id: BuildId) -> Option<VecDeque<Sse>> {
        let Some(stored) = self.app.builds.store().get(&self.caller.scope(), id).await.ok()? else {
            return Some(self.gone(Moved::Build(id), "build", &id.to_string()).into_iter().collect());
        };
        if !self.is_new(Moved::Build(id), stored.revision) {
            return Some(VecDeque::new());
        }
        let position = self.app.builds.position(&stored).await.ok().flatten();
        Some([event("build", BuildView::of(&stored, position))].into())
    }

    async fn app(&mut self, id: AppId) -> Option<VecDeque<Sse>> {
        let found = self.app.apps.store().object(&self.caller.scope(), Kind::App, &id.to_string()).await.ok()?;
        let Some(object) = found else {
            return Some(self.gone(Moved::App(id), "app", &id.to_string()).into_iter().collect());
        };
        if !self.is_new(Moved::App(id), object.revision) {
            return Some(VecDeque::new());
        }
        Some([event("app", AppView::of(self.app, &object.body).await.ok()?)].into())
    }

    /// A run, and its container, which wakes under the run's id.
    async fn run(&mut self, id: RunId) -> Option<VecDeque<Sse>> {
        let found = self.app.apps.fleet().records().run(&self.caller.scope(), id).await.ok()?;
        let mut told = VecDeque::new();
        match &found {
            // It is another also when its engine goes or comes.
            Some(object)
                if self.is_new(Moved::Run(id), object.revision * 2 + u64::from(self.app.apps.is_stale(&object.body))) =>
            {
                told.push_back(event("run", RunView::of(self.app, &object.body)));
            }
            Some(_) => {}
            None => told.extend(self.gone(Moved::Run(id), "run", &id.to_string())),
        }
        // While the engine is away, nothing is known of containers.
        let Ok(now) = self.app.apps.fleet().container_of(id) else { return Some(told) };
        let before = self.containers.get(&id).cloned();
        match (before, now.filter(|_| found.is_some())) {
            (Some(before), Some(now)) if before == now => {}
            (_, Some(now)) => {
                let names = self.app.apps.place_names(&crate::domain::Scope::Owner(now.owner()?.clone())).await.ok()?;
                told.push_back(event("container", ContainerView::of(&now, &names)));
                self.containers.insert(id, now);
            }
            (Some(before), None) => {
                self.containers.remove(&id);
                told.push_back(deleted("container", &before.summary.id));
            }
            (None, None) => {}
        }
        Some(told)
    }
}
