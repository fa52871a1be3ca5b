//! A line for everything, as `docker build --progress=plain` has it: for pipes, files and the logs of CI.

use serde_json::Value;

use super::feed::Line;
use super::show::{Show, to_stderr};
use super::steps::{News, Steps};
use crate::cli::show::text;
use crate::domain::quantity::readable;
use crate::worker::plain;

#[derive(Default)]
pub(super) struct Plain {
    steps: Steps,
    /// The step of the last line; an empty line stands between two.
    last: Option<usize>,
    told_upload: bool,
    /// Why it waits, as it was told last.
    told_waiting: String,
}

impl Plain {
    fn of_step(&mut self, at: Option<usize>, line: &str) {
        let gap = if self.last != at && self.last.is_some() { "\n" } else { "" };
        self.last = at;
        to_stderr(&format!("{gap}{line}\n"));
    }
}

impl Show for Plain {
    fn uploading(&mut self, _sent: u64, total: Option<u64>) {
        if let Some(total) = total.filter(|_| !std::mem::replace(&mut self.told_upload, true)) {
            to_stderr(&format!("sending the context, {}\n", readable(total)));
        }
    }

    fn submitted(&mut self, build: &Value) {
        to_stderr(&format!("build {}\n", text(&build["id"])));
        // The next one is usually taken at once.
        if build["queue"]["position"].as_u64().is_some_and(|before| before > 0) || build["queue"]["waits_for"] == "quota" {
            self.waits(build);
        }
    }

    fn waits(&mut self, build: &Value) {
        let why = text(&build["queue"]["detail"]);
        if let Some(told) = waiting(build).filter(|_| why != self.told_waiting) {
            to_stderr(&format!("waits: {told}\n"));
            self.told_waiting = why;
        }
    }

    fn line(&mut self, line: &Line) {
        let shown = plain(&line.text);
        match self.steps.hear(line) {
            News::Wrote(at, since) => {
                let number = self.steps.get(at).number;
                self.of_step(Some(at), &format!("#{number} {}.{:03} {shown}", since / 1000, since % 1000));
            }
            News::Began(at) | News::Ended(at) | News::Moved(at) => self.of_step(Some(at), &shown),
            News::Words => self.of_step(None, &shown),
        }
    }
}

/// Why a build waits, and how long it may, in words; `None` when it does not.
pub(super) fn waiting(build: &Value) -> Option<String> {
    let queue = &build["queue"];
    let why = queue["detail"].as_str().map(|_| text(&queue["detail"]));
    let why = why.or_else(|| queue["position"].as_u64().map(|before| format!("{before} go before it")))?;
    Some(match queue["estimate_seconds"].as_u64().filter(|seconds| *seconds > 0) {
        Some(seconds) => format!("{why}; about {seconds} s"),
        None => why,
    })
}
