//! What a build's log says of its steps. BuildKit numbers them (`#5 [2/3] RUN make` … `#5 DONE 1.2s`); the classic builder goes
//! through them one after the other (`Step 2/3 : RUN make`).

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use tokio::time::Instant;

use super::feed::Line;
use crate::worker::plain;

/// Last lines of a step that are kept, for when it fails.
const KEPT: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum State {
    Running,
    Done,
    Cached,
    Failed,
}

#[derive(Debug)]
pub(in crate::cli) struct Step {
    pub number: usize,
    pub name: String,
    pub state: State,
    /// When this command heard of it.
    pub heard: Instant,
    /// When it began, by the service's clock, in milliseconds.
    began: i64,
    /// How long it took, in milliseconds, when it is over.
    pub took: Option<u64>,
    /// The last lines that it wrote.
    pub last: VecDeque<String>,
    /// How far a transfer in it is.
    pub transfer: Option<String>,
}

/// What a line said.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum News {
    Began(usize),
    Ended(usize),
    /// A step wrote a line, so many milliseconds after it began.
    Wrote(usize, u64),
    /// A step's transfer came further.
    Moved(usize),
    /// The words of the service, or of a builder beside any step.
    Words,
}

/// The steps in the order in which they began; the places in it never change.
#[derive(Debug, Default)]
pub(in crate::cli) struct Steps {
    all: Vec<Step>,
    by_number: HashMap<usize, usize>,
    by_name: HashMap<String, usize>,
    /// The classic builder's present step.
    classic: Option<usize>,
    /// Steps that ended without a word of it.
    silent: Vec<usize>,
}

impl Steps {
    pub(in crate::cli) fn get(&self, at: usize) -> &Step {
        &self.all[at]
    }

    pub(super) fn all(&self) -> &[Step] {
        &self.all
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Step> {
        self.all.iter().filter(|step| step.state == State::Running)
    }

    pub(in crate::cli) fn hear(&mut self, line: &Line) -> News {
        if line.stream != "progress" {
            return self.wrote(line);
        }
        match numbered(&line.text) {
            Some((number, rest)) => self.buildkit(number, rest, line),
            None => self.classic(line),
        }
    }

    /// The steps that run end with the build, if their end was not told.
    pub(super) fn end(&mut self, well: bool) -> Vec<usize> {
        let open: Vec<usize> = (0..self.all.len()).filter(|at| self.all[*at].state == State::Running).collect();
        for at in &open {
            let heard = self.all[*at].heard.elapsed().as_millis();
            self.finish(*at, if well { State::Done } else { State::Failed }, u64::try_from(heard).ok());
        }
        open
    }

    /// Steps that have ended since the last time without a line that says so: those of the classic builder.
    pub(super) fn take_silent(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.silent)
    }

    fn begin(&mut self, number: usize, name: &str, line: &Line) -> usize {
        let at = self.all.len();
        let step = Step {
            number,
            name: name.to_owned(),
            state: State::Running,
            heard: Instant::now(),
            began: milliseconds(line),
            took: None,
            last: VecDeque::new(),
            transfer: None,
        };
        self.all.push(step);
        self.by_number.insert(number, at);
        self.by_name.insert(name.to_owned(), at);
        at
    }

    fn finish(&mut self, at: usize, state: State, took: Option<u64>) {
        let step = &mut self.all[at];
        (step.state, step.took, step.transfer) = (state, took, None);
        if state != State::Failed {
            step.last = VecDeque::new();
        }
    }

    fn buildkit(&mut self, number: usize, rest: &str, line: &Line) -> News {
        let Some(&at) = self.by_number.get(&number) else {
            return News::Began(self.begin(number, rest, line));
        };
        let since = since(line, &self.all[at]);
        let ran = self.all[at].state == State::Running;
        if rest == "CACHED" {
            self.finish(at, State::Cached, Some(0));
        } else if let Some(took) = rest.strip_prefix("DONE ") {
            let took = took.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok()).map(|seconds| seconds * 1000.0);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time that was shown to a tenth of a second"
            )]
            self.finish(at, State::Done, Some(took.map_or(since, |took| took as u64)));
        } else if rest.starts_with("ERROR") {
            self.finish(at, State::Failed, Some(since));
        } else {
            self.all[at].transfer = Some(rest.to_owned());
            return News::Moved(at);
        }
        // A step may end more than once.
        if ran { News::Ended(at) } else { News::Moved(at) }
    }

    fn classic(&mut self, line: &Line) -> News {
        let Some(name) = &line.step else { return News::Words };
        let known = self.classic.filter(|at| self.all[*at].name == *name);
        let Some(at) = known else {
            let ended = self.end(true);
            self.silent.extend(ended);
            let at = self.begin(self.all.len() + 1, name, line);
            self.classic = Some(at);
            return News::Began(at);
        };
        if line.text.trim() == "---> Using cache" {
            self.finish(at, State::Cached, Some(0));
            return News::Ended(at);
        }
        self.all[at].transfer = Some(line.text.trim().to_owned());
        News::Moved(at)
    }

    fn wrote(&mut self, line: &Line) -> News {
        let Some(&at) = line.step.as_ref().and_then(|name| self.by_name.get(name)) else { return News::Words };
        let since = since(line, &self.all[at]);
        let last = &mut self.all[at].last;
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(bare(&line.text));
        News::Wrote(at, since)
    }
}

/// `#5 rest`.
fn numbered(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, rest))
}

fn milliseconds(line: &Line) -> i64 {
    line.at.parse::<Timestamp>().map_or(0, Timestamp::as_millisecond)
}

fn since(line: &Line, step: &Step) -> u64 {
    u64::try_from(milliseconds(line) - step.began).unwrap_or(0)
}

/// The text without colours and without anything else that a terminal would obey.
pub(super) fn bare(text: &str) -> String {
    let mut kept = String::new();
    // Of the escape sequences only colours pass `plain`: from the escape to an `m`.
    for (at, part) in plain(text).split('\u{1b}').enumerate() {
        kept.push_str(if at == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    kept.replace('\t', "    ").chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: &str, stream: &str, step: Option<&str>, text: &str) -> Line {
        let at = format!("2026-01-01T00:00:{at}Z");
        Line { seq: 1, at, stream: stream.into(), step: step.map(str::to_owned), text: text.into() }
    }

    #[test]
    fn buildkits_steps_run_beside_each_other() {
        let mut steps = Steps::default();
        let (one, two) = ("[1/2] FROM busybox", "[2/2] RUN make");
        assert_eq!(steps.hear(&line("00.000", "progress", Some(one), &format!("#1 {one}"))), News::Began(0));
        assert_eq!(steps.hear(&line("01.000", "progress", Some(two), &format!("#2 {two}"))), News::Began(1));
        assert_eq!(steps.hear(&line("02.500", "stderr", Some(two), "\u{1b}[31mred\u{1b}[0m\tx")), News::Wrote(1, 1500));
        assert_eq!(steps.get(1).last, ["red    x"]);
        assert_eq!(steps.hear(&line("02.600", "progress", Some(one), "#1 sha256:1 1B / 2B")), News::Moved(0));
        assert_eq!(steps.hear(&line("03.000", "progress", Some(one), "#1 CACHED")), News::Ended(0));
        assert_eq!(steps.running().map(|step| step.number).collect::<Vec<_>>(), [2]);
        assert_eq!(steps.hear(&line("04.000", "progress", Some(two), "#2 ERROR: exit code: 1")), News::Ended(1));
        assert_eq!((steps.get(1).state, steps.get(1).took), (State::Failed, Some(3000)));
        assert_eq!(steps.hear(&line("04.000", "system", None, "Pushing to x")), News::Words);
    }

    #[test]
    fn a_step_of_the_classic_builder_ends_when_the_next_begins() {
        let mut steps = Steps::default();
        let (one, two) = ("[1/2] FROM busybox", "[2/2] RUN make");
        assert_eq!(steps.hear(&line("00.000", "progress", Some(one), "Step 1/2 : FROM busybox")), News::Began(0));
        assert_eq!(steps.hear(&line("00.000", "progress", Some(one), " ---> 568104583eb7")), News::Moved(0));
        assert_eq!(steps.hear(&line("00.000", "progress", Some(two), "Step 2/2 : RUN make")), News::Began(1));
        assert_eq!(steps.get(0).state, State::Done);
        assert_eq!(steps.hear(&line("01.000", "stdout", Some(two), "made")), News::Wrote(1, 1000));
        assert_eq!(steps.end(false), [1]);
        assert_eq!(steps.get(1).last, ["made"]);
    }

    #[test]
    fn of_a_flood_the_last_lines_are_kept() {
        let mut steps = Steps::default();
        steps.hear(&line("00.000", "progress", Some("a"), "#1 a"));
        for number in 0..1000 {
            steps.hear(&line("00.000", "stdout", Some("a"), &number.to_string()));
        }
        assert_eq!((steps.get(0).last.len(), steps.get(0).last[KEPT - 1].as_str()), (KEPT, "999"));
    }
}
