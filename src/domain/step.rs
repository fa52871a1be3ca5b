//! The steps of a build, read off its log: there each begins and ends in words of the service's own choosing.

use serde::{Deserialize, Serialize};

use super::{LogLine, LogStream, Timestamp, limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has not begun. (In no record: what is to come is read off the Dockerfile.)
    Waiting,
    Running,
    Done,
    /// Nothing was done, for it had been done before.
    Cached,
    Failed,
    /// The build ended before it did.
    Cancelled,
    /// It never began. (In no record either.)
    Skipped,
}

/// How the service's own line ends that says that an attempt builds once more: its steps are counted anew.
pub const BUILDING_AGAIN: &str = ": building it again";

/// One step, as the builder counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From 1, in the order in which steps began.
    pub number: u32,
    /// As the builder names it: `[2/3] RUN make`.
    pub name: String,
    pub state: StepState,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// What one instruction added to an image. The newest ones of the image's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The instruction's keyword, in upper case.
    pub instruction: String,
    pub bytes: u64,
}

/// Collects steps from the lines of a log.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    all: Vec<Step>,
    /// Whether there were more than are kept.
    full: bool,
}

impl Steps {
    /// Takes a line that was written at this time. At most [`limits::STEPS`] steps are kept.
    pub fn take(&mut self, line: &LogLine, at: Timestamp) {
        if line.stream == LogStream::System && line.text.ends_with(BUILDING_AGAIN) {
            *self = Self::default();
        }
        let (LogStream::Progress, Some(name)) = (line.stream, &line.step) else { return };
        let text = line.text.lines().next().unwrap_or_default();
        if let Some((number, rest)) = text.strip_prefix('#').and_then(|text| text.split_once(' ')) {
            if let Ok(number) = number.parse() {
                self.buildkit(number, rest, name, at);
            }
        } else if text.strip_prefix("Step ").is_some_and(|rest| rest.contains(" : ")) {
            self.end_running(StepState::Done, at);
            self.begin(self.next_number(), name, at);
        } else if text == " ---> Using cache"
            && let Some(step) = self.all.last_mut()
        {
            step.state = StepState::Cached;
            step.finished_at = Some(at);
        }
    }

    fn next_number(&self) -> u32 {
        self.all.last().map_or(1, |step| step.number + 1)
    }

    fn begin(&mut self, number: u32, name: &str, at: Timestamp) {
        self.full |= self.all.len() >= limits::STEPS;
        if !self.full {
            let name = name.to_owned();
            self.all.push(Step { number, name, state: StepState::Running, started_at: at, finished_at: None });
        }
    }

    /// `#5 NAME`, then `#5 CACHED`, `#5 DONE 1.2s` or `#5 ERROR: WHY`; also again, for a step may end more than once.
    fn buildkit(&mut self, number: u32, rest: &str, name: &str, at: Timestamp) {
        let Some(step) = self.all.iter_mut().rfind(|step| step.number == number) else {
            if number == self.next_number() {
                self.begin(number, name, at);
            }
            return;
        };
        let state = match rest {
            "CACHED" => StepState::Cached,
            _ if rest.starts_with("DONE ") => StepState::Done,
            _ if rest.starts_with("ERROR: ") && rest.contains("context canceled") => StepState::Cancelled,
            _ if rest.starts_with("ERROR: ") => StepState::Failed,
            _ => return,
        };
        step.state = state;
        step.finished_at = Some(at);
    }

    fn end_running(&mut self, state: StepState, at: Timestamp) {
        for step in self.all.iter_mut().filter(|step| step.state == StepState::Running) {
            step.state = state;
            step.finished_at = Some(at);
        }
    }

    /// The steps so far.
    #[must_use]
    pub fn so_far(self) -> Vec<Step> {
        self.all
    }

    /// The steps of a build that ended at this time: what still ran ended so.
    #[must_use]
    pub fn ended(mut self, state: StepState, at: Timestamp) -> Vec<Step> {
        self.end_running(state, at);
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: &str, text: &str) -> LogLine {
        LogLine { stream: LogStream::Progress, step: Some(step.into()), text: text.into() }
    }

    fn folded(lines: &[LogLine]) -> Steps {
        let mut steps = Steps::default();
        for (at, line) in (0..).zip(lines) {
            steps.take(line, Timestamp::from_millis(at));
        }
        steps
    }

    fn told(steps: Vec<Step>) -> Vec<(u32, String, StepState)> {
        steps.into_iter().map(|step| (step.number, step.name, step.state)).collect()
    }

    #[test]
    fn buildkits_steps_run_beside_each_other_and_end_again() {
        let output = LogLine { stream: LogStream::Stdout, step: Some("[1/2] RUN a".into()), text: "#1 ERROR: mine".into() };
        let lines = [
            line("[1/2] RUN a", "#1 [1/2] RUN a"),
            line("[2/2] RUN b", "#2 [2/2] RUN b"),
            output,
            line("[2/2] RUN b", "#2 sha256:1 1B / 2B"),
            line("[2/2] RUN b", "#2 CACHED"),
            line("[2/2] RUN b", "#2 DONE 0.1s"),
            line("[3] RUN c", "#3 [3] RUN c"),
            line("[3] RUN c", "#3 ERROR: executor failed running [/bin/sh -c c]: exit code: 1"),
            line("[9] RUN no", "#9 DONE 1.0s"),
        ];
        use StepState::{Cancelled, Done, Failed};
        let wanted = [(1, "[1/2] RUN a".into(), Cancelled), (2, "[2/2] RUN b".into(), Done), (3, "[3] RUN c".into(), Failed)];
        assert_eq!(told(folded(&lines).ended(Cancelled, Timestamp::from_millis(99))), wanted);
    }

    #[test]
    fn the_classic_builders_steps_come_one_after_the_other() {
        let lines = [
            line("[1/3] FROM busybox", "Step 1/3 : FROM busybox"),
            line("[2/3] RUN a", "Step 2/3 : RUN a"),
            line("[2/3] RUN a", " ---> Using cache"),
            line("[3/3] RUN b", "Step 3/3 : RUN b"),
        ];
        use StepState::{Cached, Done, Failed};
        let steps = folded(&lines).ended(Failed, Timestamp::from_millis(9));
        assert_eq!((steps[0].started_at, steps[0].finished_at), (Timestamp::from_millis(0), Some(Timestamp::from_millis(1))));
        let wanted =
            [(1, "[1/3] FROM busybox".into(), Done), (2, "[2/3] RUN a".into(), Cached), (3, "[3/3] RUN b".into(), Failed)];
        assert_eq!(told(steps), wanted);
    }

    #[test]
    fn what_is_built_again_counts_its_steps_anew() {
        let again = LogLine { stream: LogStream::System, step: None, text: format!("The image was removed{BUILDING_AGAIN}") };
        let faked = LogLine { stream: LogStream::Stdout, step: Some("[1/1] RUN a".into()), ..again.clone() };
        let first = [line("[1/1] RUN a", "#1 [1/1] RUN a"), line("[1/1] RUN a", "#1 DONE 1.0s"), faked];
        assert_eq!(folded(&first).so_far().len(), 1);
        let both = [&first[..], &[again, line("[1/1] RUN b", "#1 [1/1] RUN b")]].concat();
        assert_eq!(told(folded(&both).so_far()), [(1, "[1/1] RUN b".into(), StepState::Running)]);
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let lines: Vec<LogLine> = (1..=limits::STEPS + 5).map(|n| line("s", &format!("#{n} s"))).collect();
        assert_eq!(folded(&lines).so_far().len(), limits::STEPS);
    }
}
