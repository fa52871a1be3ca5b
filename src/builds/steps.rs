//! What a build does, step by step: what has begun, from its record or its log, and what is still to come, from its Dockerfile.

mod folded;
mod plan;

use std::sync::Arc;

use super::Builds;
use crate::auth::Principal;
use crate::context::dockerfile;
use crate::domain::{BuildId, BuildState, Step, StepState, Timestamp, limits};
use crate::error::{Error, Result};
use crate::store::Stored;
pub(super) use folded::FoldedLogs;
use plan::Plan;

/// A step, and what of the Dockerfile and of the image it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInFile {
    /// From 1, in the order in which steps began; `None` for one that has not.
    pub number: Option<u32>,
    /// As the builder names it, or is expected to.
    pub name: String,
    /// The build stage, by its name or as `stage-0`; `None` where there is but one.
    pub stage: Option<String>,
    /// In upper case.
    pub instruction: Option<String>,
    /// The Dockerfile's line.
    pub line: Option<u32>,
    pub state: StepState,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// What it added to the image.
    pub bytes: Option<u64>,
}

/// The steps of a build that the caller may see: those that have begun, in the order in which they did, and then, in the order of the
/// file, those that have not. At most [`limits::STEPS`].
///
/// # Errors
/// [`Error::NotFound`] when the caller may not see such a build.
pub async fn steps(builds: &Arc<Builds>, caller: &Principal, id: BuildId) -> Result<Vec<StepInFile>> {
    let stored = builds.get(caller, id).await?;
    let text = builds.dockerfile(caller, id).await?;
    let begun = begun(builds, caller, &stored).await?;
    // A Dockerfile that was accepted can be read; without it, steps are told all the same.
    let outline = dockerfile::check(&text).ok();
    let record = &stored.record;
    let mut plan = outline.as_ref().map(|outline| Plan::of(outline, record));
    // One whose image was there already has nothing to build.
    let nothing_to_do = begun.is_empty() && record.image_id.is_some();
    let mut told: Vec<StepInFile> = begun.into_iter().map(|step| in_file(step, plan.as_mut())).collect();
    if !nothing_to_do {
        let over = record.state.is_terminal() || record.image_id.is_some();
        let state = if over { StepState::Skipped } else { StepState::Waiting };
        told.extend(plan.iter().flat_map(Plan::to_come).map(|(name, planned)| StepInFile {
            number: None,
            name,
            stage: planned.stage.clone(),
            instruction: Some(planned.instruction.keyword.clone()),
            line: Some(planned.instruction.line),
            state,
            started_at: None,
            finished_at: None,
            bytes: None,
        }));
        told.truncate(limits::STEPS);
    }
    Ok(told)
}

/// The name of the step with this number, as the log's lines have it.
///
/// # Errors
/// [`Error::NotFound`] when there is no such build, or no step of this number has begun.
pub async fn step_name(builds: &Arc<Builds>, caller: &Principal, id: BuildId, number: u32) -> Result<String> {
    let stored = builds.get(caller, id).await?;
    let found = begun(builds, caller, &stored).await?.into_iter().find(|step| step.number == number);
    found.map(|step| step.name).ok_or(Error::NotFound("step"))
}

/// Those that have begun, of the newest attempt that built.
async fn begun(builds: &Arc<Builds>, caller: &Principal, stored: &Stored) -> Result<Vec<Step>> {
    let record = &stored.record;
    if !record.steps.is_empty() {
        return Ok(record.steps.clone());
    }
    let (steps, until) = folded::fold(builds, caller.scope(), stored).await?;
    Ok(match record.state {
        BuildState::Building => steps.so_far(),
        _ => steps.ended(StepState::Cancelled, record.finished_at.or(until).unwrap_or(record.created_at)),
    })
}

fn in_file(step: Step, plan: Option<&mut Plan<'_>>) -> StepInFile {
    let place = plan::Place::of(&step.name);
    let found = plan.zip(place.as_ref()).and_then(|(plan, place)| plan.begin(place));
    let stage = place.as_ref().and_then(|place| place.stage.map(str::to_owned));
    StepInFile {
        number: Some(step.number),
        stage: stage.or_else(|| found.as_ref()?.stage.clone()),
        instruction: place.map(|place| place.keyword.to_ascii_uppercase()),
        line: found.as_ref().map(|found| found.line),
        bytes: found.and_then(|found| found.bytes),
        name: step.name,
        state: step.state,
        started_at: Some(step.started_at),
        finished_at: step.finished_at,
    }
}
