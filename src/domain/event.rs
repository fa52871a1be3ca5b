use serde::{Deserialize, Serialize};

use super::{BuildRecord, Timestamp};

/// One entry of a build's append-only history, numbered 1, 2, 3 … without gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub seq: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened: a line of the log, or a change of the record (with the record as it then was).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    Log(LogLine),
    State { build: Box<BuildRecord> },
}

/// One line of a log, without its newline; redacted and free of escape sequences other than colours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub stream: LogStream,
    /// The step of the build that wrote it, as the builder names it (`[2/3] RUN make`).
    pub step: Option<String>,
    pub text: String,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// The builder's or the registry's own words about what it does.
    Progress,
    /// The service's words.
    System,
    /// The service's words of what is surprising about the context.
    Warning,
}
