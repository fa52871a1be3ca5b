//! What a build does, step by step: from its record once an attempt has ended, before from its log.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;

use super::{Builds, LogRange, follow};
use crate::auth::Principal;
use crate::context::dockerfile::{self, Instruction, Outline};
use crate::domain::{BuildId, BuildRecord, BuilderKind, EventBody, Layer, Step, StepState, Steps};
use crate::error::{Error, Result};

/// A step, and what of the Dockerfile and of the image it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInFile {
    pub step: Step,
    /// The build stage, by its name or as `stage-0`; `None` also where there is but one without a name.
    pub stage: Option<String>,
    /// In upper case.
    pub instruction: Option<String>,
    /// The Dockerfile's line.
    pub line: Option<u32>,
    /// What it added to the image.
    pub bytes: Option<u64>,
}

/// The steps of a build that the caller may see, in the order in which they began.
///
/// # Errors
/// [`Error::NotFound`] when the caller may not see such a build.
pub async fn steps(builds: &Arc<Builds>, caller: &Principal, id: BuildId) -> Result<Vec<StepInFile>> {
    let record = builds.get(caller, id).await?.record;
    let text = builds.dockerfile(caller, id).await?;
    let steps = if record.steps.is_empty() { from_log(builds, caller, &record).await? } else { record.steps.clone() };
    // A Dockerfile that was accepted can be read; without it, steps are told all the same.
    let outline = dockerfile::check(&text).ok();
    Ok(steps.into_iter().map(|step| in_file(step, &record, outline.as_ref())).collect())
}

/// The name of the step with this number, as the log's lines have it.
///
/// # Errors
/// [`Error::NotFound`] when there is no such build or step.
pub async fn step_name(builds: &Arc<Builds>, caller: &Principal, id: BuildId, number: u32) -> Result<String> {
    let steps = steps(builds, caller, id).await?;
    let found = steps.into_iter().find(|told| told.step.number == number);
    found.map(|told| told.step.name).ok_or(Error::NotFound("step"))
}

async fn from_log(builds: &Arc<Builds>, caller: &Principal, record: &BuildRecord) -> Result<Vec<Step>> {
    let range = LogRange { after: 0, follow: false };
    let mut events = Box::pin(follow(Arc::clone(builds), caller.scope(), record.id, range));
    let mut steps = Steps::default();
    let mut attempt = 0;
    while let Some(batch) = events.next().await {
        for event in batch? {
            match event.body {
                EventBody::Log(line) => steps.take(&line, event.at),
                // A new attempt counts its steps anew; one that only pushes has none of its own.
                EventBody::State { build } if build.attempt != attempt && build.image_id.is_none() => {
                    attempt = build.attempt;
                    steps = Steps::default();
                }
                EventBody::State { .. } => {}
            }
        }
    }
    Ok(match record.finished_at {
        Some(at) => steps.ended(StepState::Cancelled, at),
        None => steps.so_far(),
    })
}

fn in_file(step: Step, record: &BuildRecord, outline: Option<&Outline>) -> StepInFile {
    let Some(place) = Place::of(&step.name) else {
        return StepInFile { step, stage: None, instruction: None, line: None, bytes: None };
    };
    let instruction = outline.and_then(|outline| match record.builder {
        Some(BuilderKind::Classic) => outline.instructions.get(place.index.checked_sub(1)?),
        _ => counted(outline, stage_index(outline, place.stage)?).nth(place.index.checked_sub(1)?),
    });
    // Names of steps are shortened by the engine, but never their keyword: one that differs was matched wrongly.
    let instruction = instruction.filter(|found| place.keyword.eq_ignore_ascii_case(&found.keyword));
    let sizes = outline.map(|outline| sizes(outline, record.spec.target.as_deref(), &record.layers)).unwrap_or_default();
    StepInFile {
        stage: place.stage.map(str::to_owned),
        instruction: Some(place.keyword.to_ascii_uppercase()),
        line: instruction.map(|found| found.line),
        bytes: instruction.and_then(|found| sizes.get(&found.line).copied()),
        step,
    }
}

/// What a step's name says of its place: `[base 2/3] RUN make`.
struct Place<'a> {
    stage: Option<&'a str>,
    index: usize,
    keyword: &'a str,
}

impl<'a> Place<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (place, rest) = name.strip_prefix('[')?.split_once(']')?;
        let mut words = place.split_whitespace().rev();
        let (index, _) = words.next()?.split_once('/')?;
        // A platform may stand before the stage.
        let stage = words.next().filter(|word| !word.contains('/'));
        Some(Self { stage, index: index.parse().ok()?, keyword: rest.split_whitespace().next()? })
    }
}

fn stage_index(outline: &Outline, stage: Option<&str>) -> Option<usize> {
    match stage {
        None => (outline.stages.len() == 1).then_some(0),
        Some(name) => named(outline, name).or_else(|| name.strip_prefix("stage-")?.parse().ok()),
    }
}

fn named(outline: &Outline, name: &str) -> Option<usize> {
    outline.stages.iter().position(|stage| stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

/// The earlier stage that a stage is built on.
fn base_stage(outline: &Outline, stage: usize) -> Option<usize> {
    named(outline, &outline.stages.get(stage)?.base).filter(|base| *base < stage)
}

/// The instructions of a stage that BuildKit counts (`dockerfile2llb`): those that run something, and a base that it has to fetch.
fn counted(outline: &Outline, stage: usize) -> impl Iterator<Item = &Instruction> {
    let fetches = base_stage(outline, stage).is_none() && outline.stages.get(stage).is_some_and(|found| found.base != "scratch");
    outline.instructions.iter().filter(move |found| found.stage == Some(stage)).filter(move |found| {
        match found.keyword.as_str() {
            "FROM" => fetches,
            keyword => ["RUN", "COPY", "ADD", "WORKDIR"].contains(&keyword),
        }
    })
}

/// What each instruction of the built stage, by its line, added to the image. Every one has an entry in the image's history, and the last
/// ones are the newest; a label that the service adds has one, too.
fn sizes(outline: &Outline, target: Option<&str>, layers: &[Layer]) -> HashMap<u32, u64> {
    let mut stage = target.and_then(|target| named(outline, target).or_else(|| target.parse().ok()));
    stage = stage.or_else(|| outline.stages.len().checked_sub(1));
    let mut sizes = HashMap::new();
    let mut layers = layers.iter().rev();
    while let Some(at) = stage {
        let own = outline.instructions.iter().filter(|found| found.stage == Some(at) && found.keyword != "FROM");
        for instruction in own.rev() {
            let is_own = |layer: &&Layer| layer.instruction == instruction.keyword;
            match layers.by_ref().find(|layer| is_own(layer) || layer.instruction != "LABEL") {
                Some(layer) if is_own(&layer) => sizes.insert(instruction.line, layer.bytes),
                _ => return sizes,
            };
        }
        stage = base_stage(outline, at);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "ARG V=1\nFROM busybox AS base\nENV A=1\nWORKDIR /w\nRUN one\nFROM base\nCOPY x /\nUSER 1\nRUN two\n";

    fn line(name: &str) -> Option<u32> {
        let outline = dockerfile::check(FILE.as_bytes()).expect("a Dockerfile");
        let place = Place::of(name)?;
        counted(&outline, stage_index(&outline, place.stage)?).nth(place.index - 1).map(|found| found.line)
    }

    #[test]
    fn a_step_is_found_by_its_place() {
        assert_eq!(line("[base 1/3] FROM docker.io/library/busybox"), Some(2));
        assert_eq!(line("[base 3/3] RUN one"), Some(5));
        assert_eq!(line("[stage-1 1/2] COPY x /"), Some(7));
        assert_eq!(line("[linux/amd64 stage-1 2/2] RUN two"), Some(9));
        assert_eq!(line("[internal] load build definition"), None);
        assert_eq!(line("exporting to image"), None);
    }

    #[test]
    fn layers_belong_to_the_last_instructions() {
        let outline = dockerfile::check(FILE.as_bytes()).expect("a Dockerfile");
        let layer = |(instruction, bytes): (&str, u64)| Layer { instruction: instruction.into(), bytes };
        let told = [
            ("ADD", 900),
            ("CMD", 0),
            ("ENV", 0),
            ("WORKDIR", 1),
            ("RUN", 2),
            ("COPY", 3),
            ("USER", 0),
            ("RUN", 4),
            ("LABEL", 0),
        ];
        let layers: Vec<Layer> = told.into_iter().map(layer).collect();
        let wanted = HashMap::from([(3, 0), (4, 1), (5, 2), (7, 3), (8, 0), (9, 4)]);
        assert_eq!(sizes(&outline, None, &layers), wanted);
        assert_eq!(sizes(&outline, Some("base"), &layers[..5]), HashMap::from([(3, 0), (4, 1), (5, 2)]));
        assert!(sizes(&outline, None, &layers[..3]).is_empty(), "what does not fit is not guessed");
    }
}
