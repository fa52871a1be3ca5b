//! A line for everything, as `docker build --progress=plain` has it: for pipes, files and the logs of CI.

use serde_json::Value;

use super::feed::Line;
use super::show::{Show, size, to_stderr};
use super::steps::{News, Steps};
use crate::cli::show::text;
use crate::worker::plain;

#[derive(Default)]
pub(super) struct Plain {
    steps: Steps,
    /// The step of the last line; an empty line stands between two.
    last: Option<usize>,
    told_upload: bool,
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
            to_stderr(&format!("sending the context, {}\n", size(total)));
        }
    }

    fn submitted(&mut self, build: &Value) {
        to_stderr(&format!("build {}{}\n", text(&build["id"]), waiting(build)));
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

/// How many builds go before this one, where any do.
pub(super) fn waiting(build: &Value) -> String {
    match build["queue"]["position"].as_u64() {
        Some(before @ 1..) => format!(" waits behind {before} other{}", if before == 1 { "" } else { "s" }),
        _ => String::new(),
    }
}
