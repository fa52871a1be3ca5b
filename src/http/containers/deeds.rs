//! What is done to a container.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::view::DetailsView;
use crate::apps::Deed;
use crate::auth::Principal;
use crate::domain::Scope;
use crate::domain::quantity::Span;
use crate::error::Result;
use crate::http::query::Query;
use crate::http::{App, Caller, replay};

/// Longest time that a container may be given to end.
const LONGEST_GRACE: Duration = Duration::from_secs(600);
/// Signals by their names (signal(7)), which engines of all systems know.
const SIGNALS: [&str; 16] = [
    "HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "WINCH", "URG",
];

/// One container as it is now.
pub(super) async fn details(app: &App, caller: &Principal, key: &str, size: bool) -> Result<DetailsView> {
    let info = app.apps.container(caller, key).await?;
    let details = app.apps.details(&info.seen.summary.id, size).await?;
    let scope = info.seen.owner().map_or(Scope::All, |owner| Scope::Owner(owner.clone()));
    let names = app.apps.place_names(&scope).await?;
    Ok(DetailsView::of(&info.seen, details, info.run.as_ref(), &names))
}

/// Start a container that has ended. Answers when it runs.
#[utoipa::path(post, path = "/api/v1/containers/{container}/start", tag = "containers", operation_id = "start_container",
    params(("container" = String, Path, description = "Its id, its name, or its run's id.")),
    responses((status = 200, description = "As it is now.", body = DetailsView), (status = 404, description = "There is no such container."),
        (status = 409, description = "The engine's reason why it does not start."), (status = 429, description = "`quota_exceeded`: it would take more than there is left.")))]
pub async fn start(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    act(&app, &caller, &key, &headers, &Deed::Start).await
}

/// Stop a container. Answers when it has ended. Nothing happens when it does not run.
#[utoipa::path(post, path = "/api/v1/containers/{container}/stop", tag = "containers", operation_id = "stop_container",
    params(("container" = String, Path, description = "Its id, its name, or its run's id."),
        ("grace" = Option<String>, Query, example = "10s", description = "How long it may take to end by itself.")),
    responses((status = 200, description = "As it is now.", body = DetailsView), (status = 404, description = "There is no such container.")))]
pub async fn stop(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let mut query = Query::of(&uri, &["grace"]);
    let grace = query.read("grace", grace);
    query.end()?;
    act(&app, &caller, &key, &headers, &Deed::Stop(grace)).await
}

/// Stop a container, and start it again.
#[utoipa::path(post, path = "/api/v1/containers/{container}/restart", tag = "containers", operation_id = "restart_container",
    params(("container" = String, Path, description = "Its id, its name, or its run's id."),
        ("grace" = Option<String>, Query, example = "10s", description = "How long it may take to end by itself.")),
    responses((status = 200, description = "As it is now.", body = DetailsView), (status = 404, description = "There is no such container."),
        (status = 409, description = "The engine's reason why it does not start.")))]
pub async fn restart(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let mut query = Query::of(&uri, &["grace"]);
    let grace = query.read("grace", grace);
    query.end()?;
    act(&app, &caller, &key, &headers, &Deed::Restart(grace)).await
}

/// Send its process a signal; `KILL` if none is named.
#[utoipa::path(post, path = "/api/v1/containers/{container}/kill", tag = "containers", operation_id = "kill_container",
    params(("container" = String, Path, description = "Its id, its name, or its run's id."),
        ("signal" = Option<String>, Query, example = "USR1", description = "By its name, with or without `SIG`.")),
    responses((status = 200, description = "As it is now.", body = DetailsView), (status = 404, description = "There is no such container."),
        (status = 409, description = "`not_running`.")))]
pub async fn kill(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let mut query = Query::of(&uri, &["signal"]);
    let signal = query.read("signal", signal).unwrap_or_else(|| "SIGKILL".into());
    query.end()?;
    act(&app, &caller, &key, &headers, &Deed::Kill(signal)).await
}

async fn act(app: &App, caller: &Principal, key: &str, headers: &HeaderMap, deed: &Deed) -> Result<Response> {
    replay::once(app, caller, &format!("POST containers/{key} {deed:?}"), headers, &[], |_| async {
        let info = app.apps.act(caller, key, deed).await?;
        Ok(Json(details(app, caller, &info.seen.summary.id, false).await?).into_response())
    })
    .await
}

fn grace(text: &str) -> std::result::Result<Duration, String> {
    let span: Span = text.parse()?;
    if span.0 > LONGEST_GRACE { Err(format!("may be {} at most", Span(LONGEST_GRACE))) } else { Ok(span.0) }
}

fn signal(text: &str) -> std::result::Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match SIGNALS.iter().find(|known| **known == name) {
        Some(name) => Ok(format!("SIG{name}")),
        None => Err(format!("{text:?} is no signal; signals are: {}", SIGNALS.join(", "))),
    }
}

/// Remove a container. Its run stays in the history, with the end of its output.
#[utoipa::path(delete, path = "/api/v1/containers/{container}", tag = "containers", operation_id = "remove_container",
    params(("container" = String, Path, description = "Its id, its name, or its run's id."), ("force" = Option<bool>, Query, description = "Stops it first.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such container."),
        (status = 409, description = "`container_runs`: stop it first.")))]
pub async fn remove(State(app): State<App>, Extension(caller): Caller, Path(key): Path<String>, uri: Uri) -> Result<StatusCode> {
    let mut query = Query::of(&uri, &["force"]);
    let force = query.flag("force");
    query.end()?;
    app.apps.remove_container(&caller, &key, force).await?;
    Ok(StatusCode::NO_CONTENT)
}
