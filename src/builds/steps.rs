//! The steps of a build, read from its log: what each did, how long it took, and whether it was there before.
//!
//! The log is where they are told as they happen, and it is kept as long as the build; a list beside it would be a second truth.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::{Builds, LogRange, follow};
use crate::auth::Principal;
use crate::domain::{BuildId, BuildRecord, BuildState, Event, EventBody, LogLine, LogStream, Timestamp};
use crate::error::{Error, Result};

/// Most steps that are told of one build.
const STEPS: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Running,
    Done,
    /// It was there from an earlier build.
    Cached,
    Failed,
    /// It had begun, and was given up because another one failed or the build was ended.
    Skipped,
}

/// One of them, in the order in which they began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As the builder names it: `[build 2/3] RUN make`. Lines of the log bear it as their step.
    pub name: String,
    pub state: StepState,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Line of the Dockerfile, where only one has this instruction.
    pub line: Option<u32>,
}

impl Step {
    /// The stage that it belongs to, as the builder names it; `internal` for what no instruction asked for.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        let head = self.name.strip_prefix('[')?.split_once(']')?.0;
        let name = head.rsplit_once(' ').map_or(head, |(stage, _)| stage);
        (!name.contains('/')).then_some(name)
    }

    #[must_use]
    pub fn instruction(&self) -> &str {
        self.name.split_once("] ").filter(|_| self.name.starts_with('[')).map_or(&self.name, |(_, instruction)| instruction)
    }
}

/// The steps as far as they were read.
#[derive(Default)]
struct Steps {
    all: Vec<Step>,
    places: HashMap<String, usize>,
    attempt: u64,
}

impl Steps {
    fn read(&mut self, event: &Event) {
        match &event.body {
            EventBody::State { build } => self.record(build),
            EventBody::Log(LogLine { step: Some(name), stream, text }) if name.starts_with('[') || text.starts_with('#') => {
                self.line(name, *stream, text, event.at);
            }
            EventBody::Log(_) => {}
        }
    }

    /// What an earlier attempt did is done again.
    fn record(&mut self, build: &BuildRecord) {
        if build.state == BuildState::Building && std::mem::replace(&mut self.attempt, build.attempt) != build.attempt {
            self.all.clear();
            self.places.clear();
        }
    }

    fn line(&mut self, name: &str, stream: LogStream, text: &str, at: Timestamp) {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None if self.all.len() >= STEPS => return,
            None => {
                // The classic builder does one after the other, and does not say that one has ended.
                if text.starts_with("Step ") {
                    self.end_running(StepState::Done, at);
                }
                let step =
                    Step { name: name.to_owned(), state: StepState::Running, started_at: at, finished_at: None, line: None };
                self.all.push(step);
                self.places.insert(name.to_owned(), self.all.len() - 1);
                self.all.len() - 1
            }
        };
        let word = text.strip_prefix('#').and_then(|rest| rest.split_once(' ')).map_or(text, |(_, word)| word);
        let state = match word {
            _ if stream != LogStream::Progress => return,
            "CACHED" | " ---> Using cache" => StepState::Cached,
            word if word.starts_with("DONE ") => StepState::Done,
            word if word.starts_with("ERROR: ") => StepState::Failed,
            _ => return,
        };
        let step = &mut self.all[place];
        (step.state, step.finished_at) = (state, Some(at));
    }

    fn end_running(&mut self, state: StepState, at: Timestamp) {
        for step in self.all.iter_mut().filter(|step| step.state == StepState::Running) {
            (step.state, step.finished_at) = (state, Some(at));
        }
    }

    /// What the end of the build says of those that did not tell theirs.
    fn end(&mut self, build: &BuildRecord) {
        let built = build.image_id.is_some();
        let at = build.finished_at.filter(|_| build.state.is_terminal());
        let Some(at) = at.or_else(|| built.then(|| build.stages.first().and_then(|stage| stage.finished_at)).flatten()) else {
            return;
        };
        let told = self.all.iter().any(|step| step.state == StepState::Failed);
        if !built
            && !told
            && build.state == BuildState::Failed
            && let Some(last) = self.all.iter_mut().rfind(|step| step.state == StepState::Running)
        {
            (last.state, last.finished_at) = (StepState::Failed, Some(at));
        }
        self.end_running(if built { StepState::Done } else { StepState::Skipped }, at);
    }
}

impl Builds {
    /// The steps that have begun, at most 500, the first ones.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a build.
    pub async fn steps(self: &Arc<Self>, caller: &Principal, id: BuildId) -> Result<Vec<Step>> {
        let build = self.get(caller, id).await?.record;
        let dockerfile = self.dockerfile(caller, id).await?;
        let mut steps = Steps::default();
        let mut events = Box::pin(follow(Arc::clone(self), caller.scope(), id, LogRange::default()));
        while let Some(batch) = events.next().await {
            batch?.iter().for_each(|event| steps.read(event));
        }
        steps.end(&build);
        let text = String::from_utf8_lossy(&dockerfile);
        for step in &mut steps.all {
            step.line = line_of(&text, step.instruction());
        }
        Ok(steps.all)
    }
}

impl Builds {
    /// The name of a step, by its number from 1.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such step (yet), or the caller may not see such a build.
    pub async fn step(self: &Arc<Self>, caller: &Principal, id: BuildId, number: u64) -> Result<String> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let step = self.steps(caller, id).await?.into_iter().nth(index.unwrap_or(usize::MAX));
        step.map(|step| step.name).ok_or(Error::NotFound("step"))
    }
}

/// The only line that begins with this instruction, blanks apart. Of one over several lines the builder tells all in one.
fn line_of(dockerfile: &str, instruction: &str) -> Option<u32> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let wanted = plain(instruction);
    // BuildKit tells an image by its whole name.
    let base = wanted.strip_prefix("from ").map(|base| base.split([':', '@']).next().unwrap_or_default());
    let fits = |line: &str| {
        let line = plain(line.trim_end().trim_end_matches('\\'));
        let whole = || base.zip(line.strip_prefix("from ")).is_some_and(|(base, own)| names(base, own));
        line.contains(' ') && (wanted == line || wanted.starts_with(&format!("{line} ")) || whole())
    };
    let mut found = (1u32..).zip(dockerfile.lines()).filter(|(_, line)| fits(line));
    let (line, _) = found.next()?;
    found.next().is_none().then_some(line)
}

/// Whether what stands behind `FROM` begins with this image: by its whole name, or by the end of that.
fn names(whole: &str, from: &str) -> bool {
    let image = from.split(' ').find(|word| !word.starts_with("--")).unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(name, _)| name);
    !name.is_empty() && (whole == name || whole.ends_with(&format!("/{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(steps: &mut Steps, at: i64, step: &str, text: &str) {
        let line = LogLine { stream: LogStream::Progress, step: Some(step.into()), text: text.into() };
        steps.read(&Event { seq: 1, at: Timestamp::from_millis(at), body: EventBody::Log(line) });
    }

    #[test]
    fn both_builders_are_understood() {
        let mut steps = Steps::default();
        for (at, step, text) in [
            (1, "[internal] load build definition", "#1 [internal] load build definition"),
            (2, "[one 1/2] FROM busybox", "#2 [one 1/2] FROM busybox"),
            (3, "[internal] load build definition", "#1 DONE 0.1s"),
            (4, "[one 1/2] FROM busybox", "#2 CACHED"),
            (5, "[one 2/2] RUN false", "#3 [one 2/2] RUN false"),
            (9, "[one 2/2] RUN false", "#3 ERROR: exit code: 1"),
        ] {
            said(&mut steps, at, step, text);
        }
        let told: Vec<_> = steps.all.iter().map(|s| (s.stage(), s.instruction(), s.state, s.finished_at)).collect();
        let at = |millis| Some(Timestamp::from_millis(millis));
        assert_eq!(told[0], (Some("internal"), "load build definition", StepState::Done, at(3)));
        assert_eq!(told[1], (Some("one"), "FROM busybox", StepState::Cached, at(4)));
        assert_eq!(told[2], (Some("one"), "RUN false", StepState::Failed, at(9)));

        let mut classic = Steps::default();
        said(&mut classic, 1, "[1/2] FROM busybox", "Step 1/2 : FROM busybox");
        said(&mut classic, 2, "[2/2] RUN true", "Step 2/2 : RUN true");
        said(&mut classic, 3, "[2/2] RUN true", " ---> Using cache");
        assert_eq!(classic.all.iter().map(|s| s.state).collect::<Vec<_>>(), [StepState::Done, StepState::Cached]);
        assert_eq!((classic.all[1].stage(), classic.all[1].instruction()), (None, "RUN true"));
    }

    #[test]
    fn a_line_is_told_only_when_it_is_the_only_one() {
        let file = "FROM busybox\nRUN  a &&  \\\n  b\nRUN c\nRUN c\n";
        assert_eq!(line_of(file, "RUN a &&   b"), Some(2));
        assert_eq!(line_of(file, "FROM docker.io/library/busybox:latest"), Some(1));
        assert_eq!(line_of(file, "FROM docker.io/library/box"), None);
        assert_eq!([line_of(file, "RUN c"), line_of(file, "RUN none")], [None, None]);
    }
}
