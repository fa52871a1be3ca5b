//! What both backends do alike: the consequence of a change for queue and lease, and the stored form of records and events.

use std::time::Duration;

use serde::Serialize;

use super::{Result, StoreError, Stored};
use crate::domain::{BuildRecord, BuildState, Event, EventBody, LogLine, Timestamp};

/// A node whose worker was seen so long ago is away: what waits for it goes elsewhere.
pub(super) const NODE_SEEN: Duration = Duration::from_secs(10);

/// What a change of a record means for its place in the queue and for its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Queue and lease stay as they are.
    Stay,
    /// The lease ends, and the build goes to the head of its owner's queue.
    Requeue,
    /// Out of the queue, lease and credentials go.
    End,
}

/// # Errors
/// When the change would leave a build at work without a lease, and so without an owner and a deadline.
pub(super) fn place(before: BuildState, after: BuildState, leased: bool) -> Result<Place> {
    use BuildState::{Building, Pushing, Queued};
    match after {
        Building | Pushing if !leased => {
            Err(StoreError::Refused("a build is worked on only by the worker that claimed it".into()))
        }
        Queued if before != Queued => Ok(Place::Requeue),
        state if state.is_terminal() && !before.is_terminal() => Ok(Place::End),
        _ => Ok(Place::Stay),
    }
}

/// The loud word about a build that was set aside: see [`super::SET_ASIDE`].
pub(super) fn tell_set_aside(build: &str, why: &str) {
    tracing::error!(build, why, "a build cannot be read by this version: it is set aside, unchanged");
}

/// A build for a list: one that this version cannot read is left out, so that all others can be seen.
pub(super) fn listed(build: Result<Stored>) -> Result<Option<Stored>> {
    match build {
        Err(StoreError::Unreadable(why)) => {
            tracing::warn!(why, "a build is left out of a list");
            Ok(None)
        }
        build => build.map(Some),
    }
}

pub(super) fn encode_record(record: &BuildRecord) -> String {
    serde_json::to_string(record).expect("a record serialises, because its maps have text keys and it holds no floats")
}

pub(super) fn decode_record(json: &str) -> Result<BuildRecord> {
    serde_json::from_str(json).map_err(|e| StoreError::Unreadable(e.to_string()))
}

/// The body of a state event, made of the record's JSON so that a record is not serialised twice.
pub(super) fn state_body(record_json: &str) -> String {
    format!(r#"{{"kind":"state","build":{record_json}}}"#)
}

pub(super) fn log_body(line: &LogLine) -> String {
    #[derive(Serialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Body<'a> {
        Log(&'a LogLine),
    }
    serde_json::to_string(&Body::Log(line)).expect("a line serialises, because it is plain text")
}

pub(super) fn decode_event(seq: u64, at: Timestamp, body: &str) -> Result<Event> {
    let body: EventBody =
        serde_json::from_str(body).map_err(|e| StoreError::Internal(format!("a stored event does not parse: {e}")))?;
    Ok(Event { seq, at, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LogStream;

    #[test]
    fn stored_bodies_are_what_the_domain_reads() {
        let line = LogLine { stream: LogStream::Stderr, step: None, text: "a \"b\"\u{1b}[31m".into() };
        let event = decode_event(7, Timestamp::from_millis(5), &log_body(&line)).expect("parses");
        assert_eq!((event.seq, event.body), (7, EventBody::Log(line)));
    }

    #[test]
    fn nobody_works_without_a_lease() {
        assert!(place(BuildState::Queued, BuildState::Building, false).is_err());
        assert_eq!(place(BuildState::Building, BuildState::Queued, true).expect("legal"), Place::Requeue);
        assert_eq!(place(BuildState::Queued, BuildState::Queued, true).expect("legal"), Place::Stay);
        assert_eq!(place(BuildState::Queued, BuildState::Cancelled, false).expect("legal"), Place::End);
    }
}
