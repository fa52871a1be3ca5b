//! What a Dockerfile says of the steps to come, and which of its instructions a step is.

use std::collections::HashMap;

use crate::context::dockerfile::{Instruction, Outline};
use crate::domain::{BuildRecord, BuilderKind, ImageRef, Layer};

/// The instructions that are steps of a build, with what is known of each.
pub(super) struct Plan<'a> {
    outline: &'a Outline,
    classic: bool,
    steps: Vec<Planned<'a>>,
    /// What each line added to the image.
    sizes: HashMap<u32, u64>,
}

/// An instruction that is a step.
pub(super) struct Planned<'a> {
    /// `None` where there is but one.
    pub stage: Option<String>,
    pub instruction: &'a Instruction,
    /// Its place among those that its builder counts together.
    index: usize,
    total: usize,
    begun: bool,
}

/// What the plan knows of a step that has begun.
pub(super) struct Found {
    pub stage: Option<String>,
    pub line: u32,
    pub bytes: Option<u64>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(outline: &'a Outline, record: &BuildRecord) -> Self {
        let target = record.spec.target.as_deref();
        // Before a build begins, its limits tell which builder it will be.
        let classic = record.builder.map_or(record.spec.has_limits(), |builder| builder == BuilderKind::Classic);
        let groups: Vec<Vec<&Instruction>> = if classic {
            let last = outline.target_stage(target);
            vec![outline.instructions.iter().filter(|found| found.stage <= last).collect()]
        } else {
            outline.made_stages(target).into_iter().map(|stage| counted(outline, stage).collect()).collect()
        };
        let names = outline.stage_names();
        let planned = |group: Vec<&'a Instruction>| {
            let (total, names) = (group.len(), &names);
            group.into_iter().enumerate().map(move |(at, instruction)| Planned {
                stage: instruction.stage.and_then(|stage| names.get(stage).cloned()),
                instruction,
                index: at + 1,
                total,
                begun: false,
            })
        };
        let steps = groups.into_iter().flat_map(planned).collect();
        Self { outline, classic, steps, sizes: sizes(outline, target, &record.layers) }
    }

    /// A step has begun: which one is it? `None` for what the plan does not know: the builder's own work, or instructions of a base
    /// image.
    pub(super) fn begin(&mut self, place: &Place<'_>) -> Option<Found> {
        let Some(at) = self.at(place).or_else(|| self.alike(place)) else {
            self.forget_if_counted_otherwise(place);
            return None;
        };
        let step = &mut self.steps[at];
        step.begun = true;
        let line = step.instruction.line;
        let found = Found { stage: step.stage.clone(), line, bytes: self.sizes.get(&line).copied() };
        // One base is fetched once for all stages.
        if let Some(base) = self.base(&self.steps[at]) {
            for other in 0..self.steps.len() {
                self.steps[other].begun |= self.base(&self.steps[other]).as_ref() == Some(&base);
            }
        }
        Some(found)
    }

    /// The step at just this place.
    fn at(&self, place: &Place<'_>) -> Option<usize> {
        let here = |planned: &Planned<'_>| {
            let counted = self.classic || (self.is_of_stage(planned, place) && planned.total == place.total);
            // Names of steps are shortened by the engine, but never their keyword: one that differs was matched wrongly.
            counted && planned.index == place.index && place.keyword.eq_ignore_ascii_case(&planned.instruction.keyword)
        };
        self.steps.iter().position(here)
    }

    /// BuildKit does once what several builds have in common, and tells it to all of them by its place in one of them.
    fn alike(&self, place: &Place<'_>) -> Option<usize> {
        let base = place.base();
        let same = |planned: &Planned<'_>| match &base {
            Some(base) => self.base(planned).as_ref() == Some(base),
            None => planned.instruction.text.split_whitespace().eq(place.text.split_whitespace()),
        };
        self.steps.iter().position(|planned| !self.classic && !planned.begun && same(planned))
    }

    /// A builder that counts others than we do runs triggers of a base image: then nothing is known of this stage.
    fn forget_if_counted_otherwise(&mut self, place: &Place<'_>) {
        let stage = stage_index(self.outline, place.stage).filter(|_| !self.classic && place.base().is_none());
        let of_stage = |planned: &Planned<'_>| stage.is_some() && planned.instruction.stage == stage;
        if self.steps.iter().any(|planned| of_stage(planned) && planned.total != place.total) {
            self.steps.retain(|planned| !of_stage(planned));
        }
    }

    fn is_of_stage(&self, planned: &Planned<'_>, place: &Place<'_>) -> bool {
        stage_index(self.outline, place.stage).is_some_and(|stage| planned.instruction.stage == Some(stage))
    }

    /// The image that a `FROM` names.
    fn base(&self, planned: &Planned<'_>) -> Option<ImageRef> {
        let stage = planned.instruction.stage.filter(|_| planned.instruction.keyword == "FROM")?;
        named_image(&self.outline.stages.get(stage)?.base)
    }

    /// What has not begun, each with the name that it will have, but for variables.
    pub(super) fn to_come(&self) -> impl Iterator<Item = (String, &Planned<'a>)> {
        self.steps.iter().filter(|planned| !planned.begun).map(|planned| {
            let stage = planned.stage.as_ref().filter(|_| !self.classic).map(|stage| format!("{stage} ")).unwrap_or_default();
            (format!("[{stage}{}/{}] {}", planned.index, planned.total, planned.instruction.text), planned)
        })
    }
}

/// What a step's name says of its place: `[base 2/3] RUN make`.
pub(super) struct Place<'a> {
    pub stage: Option<&'a str>,
    index: usize,
    total: usize,
    pub keyword: &'a str,
    /// The whole instruction.
    text: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn of(name: &'a str) -> Option<Self> {
        let (place, rest) = name.strip_prefix('[')?.split_once(']')?;
        let mut words = place.split_whitespace().rev();
        let (index, total) = words.next()?.split_once('/')?;
        // A platform may stand before the stage.
        let stage = words.next().filter(|word| !word.contains('/'));
        let (index, total) = (index.parse().ok()?, total.parse().ok()?);
        Some(Self { stage, index, total, keyword: rest.split_whitespace().next()?, text: rest.trim() })
    }

    /// The image of a `FROM`.
    fn base(&self) -> Option<ImageRef> {
        self.keyword.eq_ignore_ascii_case("FROM").then(|| named_image(self.text.split_whitespace().nth(1)?)).flatten()
    }
}

/// As every spelling of it comes to; without its digest, which the builder adds.
fn named_image(text: &str) -> Option<ImageRef> {
    text.split('@').next()?.parse().ok()
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
    let mut stage = outline.target_stage(target);
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
    use crate::context::dockerfile;

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
    fn steps_that_other_builds_have_too_are_known_by_what_they_do() {
        use crate::domain::{BuildId, BuildSpec, ContextInfo, Timestamp};
        let text = "FROM busybox AS tool\nRUN one\nFROM docker.io/library/busybox\nRUN two\nRUN three\n";
        let outline = dockerfile::check(text.as_bytes()).expect("a Dockerfile");
        let (owner, now) = ("ada".parse().expect("a name"), Timestamp::from_millis(1));
        let record = BuildRecord::new(BuildId::new(), owner, BuildSpec::default(), ContextInfo::default(), None, now);
        let mut plan = Plan::of(&outline, &record);
        let mut line = |name: &str| plan.begin(&Place::of(name)?).map(|found| found.line);
        assert_eq!(line("[base 1/9] FROM docker.io/library/busybox:latest@sha256:0"), Some(3), "the only stage that is made");
        assert_eq!(line("[stage-1 2/3] RUN two"), Some(4));
        assert_eq!(line("[elsewhere 4/7] RUN  three"), Some(5));
        assert_eq!(plan.to_come().count(), 0);
        // Triggers of a base image are counted, and are nobody's.
        let mut plan = Plan::of(&outline, &record);
        assert!(plan.begin(&Place::of("[stage-1 2/4] RUN trigger").expect("a place")).is_none());
        assert_eq!(plan.to_come().count(), 0);
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
