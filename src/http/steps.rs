//! `/api/v1/builds/{id}/steps`.

use axum::extract::{Extension, Path, State};
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::openapi::forms::BuildPath;
use super::query::{Query, build_id};
use super::{App, Caller};
use crate::builds::{StepInFile, steps};
use crate::domain::StepState;
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/builds/{id}/steps", get(list))
}

/// A step of a build.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Step)]
pub(super) struct StepView {
    /// From 1, in the order in which steps began; for `?step=` of the log. Null for one that has not begun.
    number: Option<u32>,
    /// As the builder names it; of one that has not begun, as the Dockerfile has it.
    name: String,
    /// The build stage, by its name, or as `stage-0`.
    stage: Option<String>,
    /// Its keyword, like `RUN`; null for the builder's own work.
    instruction: Option<String>,
    /// Of the Dockerfile.
    line: Option<u32>,
    /// `waiting` and `skipped` ones have not begun; no step is `waiting` once the image is built or the build has ended.
    #[schema(value_type = StepStateView)]
    state: StepState,
    /// Nothing was done, for it had been done before.
    cached: bool,
    #[schema(format = "date-time")]
    started_at: Option<String>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    /// What it added to the image, once that is built.
    bytes: Option<u64>,
}

#[derive(utoipa::ToSchema)]
#[schema(as = StepState, rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum StepStateView {
    Waiting,
    Running,
    Done,
    Cached,
    Failed,
    Cancelled,
    Skipped,
}

/// What a list of steps answers.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = StepList)]
pub(super) struct StepList {
    items: Vec<StepView>,
}

impl From<StepInFile> for StepView {
    fn from(told: StepInFile) -> Self {
        let StepInFile { number, name, stage, instruction, line, state, started_at, finished_at, bytes } = told;
        Self {
            number,
            name,
            stage,
            instruction,
            line,
            state,
            cached: state == StepState::Cached,
            started_at: started_at.map(|at| at.to_string()),
            finished_at: finished_at.map(|at| at.to_string()),
            bytes,
        }
    }
}

/// What a build does, step by step, with the time and the bytes of each: of the newest attempt that built.
#[utoipa::path(get, path = "/api/v1/builds/{id}/steps", tag = "builds", operation_id = "list_steps", params(BuildPath),
    responses((status = 200, description = "In the order in which they began, then those that have not, in the order of the file; 500 at most.", body = StepList),
        (status = 400, description = "Not an id."), (status = 404, description = "There is no such build.")))]
pub(super) async fn list(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<StepList>> {
    Query::of(&uri, &[]).end()?;
    let told = steps(&app.builds, &caller, build_id(&id)?).await?;
    Ok(Json(StepList { items: told.into_iter().map(StepView::from).collect() }))
}
