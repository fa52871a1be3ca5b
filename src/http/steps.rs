//! `GET /api/v1/builds/{id}/steps`.

use axum::extract::{Extension, Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::openapi::forms::BuildPath;
use super::query::build_id;
use super::{App, Caller};
use crate::builds::{Step, StepState};
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/builds/{id}/steps", get(steps))
}

/// All of them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BuildSteps {
    items: Vec<StepView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Step)]
struct StepView {
    /// By the order in which they began, from 1; `?step=` of the log takes it.
    number: usize,
    /// As the builder names it.
    name: String,
    /// The build stage; `internal` for what no instruction asked for.
    stage: Option<String>,
    instruction: String,
    /// Of the Dockerfile, where only one line has this instruction.
    line: Option<u32>,
    /// `skipped`: it had begun, and was given up because another one failed or the build was ended.
    #[schema(value_type = StepStateView)]
    state: StepState,
    #[schema(format = "date-time")]
    started_at: String,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
}

/// Mirrors [`StepState`] for the OpenAPI.
#[derive(utoipa::ToSchema)]
#[schema(as = StepState, rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum StepStateView {
    Running,
    Done,
    Cached,
    Failed,
    Skipped,
}

impl StepView {
    fn of((index, step): (usize, Step)) -> Self {
        Self {
            number: index + 1,
            stage: step.stage().map(str::to_owned),
            instruction: step.instruction().to_owned(),
            line: step.line,
            state: step.state,
            started_at: step.started_at.to_string(),
            finished_at: step.finished_at.map(|at| at.to_string()),
            name: step.name,
        }
    }
}

/// What the builder did, step by step: the first 500 that have begun. An attempt that was cut off is not told any more.
#[utoipa::path(get, path = "/api/v1/builds/{id}/steps", tag = "builds", operation_id = "get_steps", params(BuildPath),
    responses((status = 200, description = "The steps, in the order in which they began.", body = BuildSteps),
        (status = 400, description = "Not an id."), (status = 404, description = "There is no such build.")))]
pub(super) async fn steps(State(app): State<App>, Extension(caller): Caller, Path(id): Path<String>) -> Result<Json<BuildSteps>> {
    let steps = app.builds.steps(&caller, build_id(&id)?).await?;
    Ok(Json(BuildSteps { items: steps.into_iter().enumerate().map(StepView::of).collect() }))
}
