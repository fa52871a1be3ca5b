//! What is shown of a build while it is under way. All of it goes to standard error, as `docker build` has it; standard output
//! is for results.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::feed::Line;
use super::live::Live;
use super::plain::Plain;
use super::quiet::Quiet;
use crate::cli::{say, show};

/// One way of showing. What a way has no use for, it leaves out.
pub(super) trait Show {
    /// The folder is looked through.
    fn reading(&mut self) {}
    /// So many of so many bytes are sent; the total is not known of what comes from standard input.
    fn uploading(&mut self, _sent: u64, _total: Option<u64>) {}
    fn submitted(&mut self, _build: &Value) {}
    fn line(&mut self, _line: &Line) {}
    fn state(&mut self, _build: &Value) {}
    /// It still waits, as its `queue` says.
    fn waits(&mut self, _build: &Value) {}
    /// The command's own words.
    fn note(&mut self, text: &str) {
        to_stderr(&format!("{text}\n"));
    }
    /// Time has passed.
    fn frame(&mut self, _now: Instant) {}
    fn end(&mut self, _build: &Value) {}
    /// Nothing more is shown, though the build has not ended.
    fn leave(&mut self, text: &str) {
        if !text.is_empty() {
            to_stderr(&format!("{text}\n"));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Json,
    Quiet,
    Plain,
    Live,
}

impl How {
    /// Live only where a redrawn line can be seen.
    pub(super) fn of_this_terminal() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb { Self::Live } else { Self::Plain }
    }
}

pub(super) fn of(how: How) -> Box<dyn Show> {
    match how {
        How::Json => Box::new(Json),
        How::Quiet => Box::new(Quiet::default()),
        How::Plain => Box::new(Plain::default()),
        How::Live => Box::new(Live::new()),
    }
}

/// A reader that went away is no fault of the build.
pub(super) fn to_stderr(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// An event a line, on standard output.
struct Json;

impl Json {
    fn event(name: &str, mut event: Value) {
        event["event"] = name.into();
        say(&format!("{}\n", show::json(&event)));
    }
}

impl Show for Json {
    fn submitted(&mut self, build: &Value) {
        Self::event("submitted", json!({"build": build}));
    }

    fn line(&mut self, line: &Line) {
        let Line { seq, at, stream, step, text } = line;
        Self::event("log", json!({"seq": seq, "at": at, "stream": stream, "step": step, "text": text}));
    }

    fn state(&mut self, build: &Value) {
        Self::event("state", json!({"build": build}));
    }

    fn end(&mut self, build: &Value) {
        Self::event("end", json!({"build": build}));
    }
}
