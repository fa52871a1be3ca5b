//! Steps as a log tells them, folded on from where the last look was: a log of megabytes is not read anew for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::StreamExt;

use crate::builds::{Builds, LogRange, follow};
use crate::domain::{BuildId, EventBody, Scope, Steps, Timestamp};
use crate::error::Result;
use crate::store::Stored;

/// Builds whose steps are remembered, those last looked at. Each has at most [`crate::domain::limits::STEPS`] steps.
const REMEMBERED: usize = 32;

/// The steps of the builds that were looked at last.
#[derive(Default)]
// A std mutex, for it is never held across an await.
pub(in crate::builds) struct FoldedLogs(Mutex<VecDeque<(BuildId, Folded)>>);

/// What a log has told up to one of its events.
#[derive(Clone, Default)]
struct Folded {
    seq: u64,
    /// When that event was.
    at: Option<Timestamp>,
    attempt: u64,
    steps: Steps,
}

impl FoldedLogs {
    fn get(&self, id: BuildId) -> Folded {
        let known = self.0.lock().expect("not poisoned, because nothing panics while it is held");
        known.iter().find(|(other, _)| *other == id).map(|(_, folded)| folded.clone()).unwrap_or_default()
    }

    fn put(&self, id: BuildId, folded: Folded) {
        let mut known = self.0.lock().expect("not poisoned, because nothing panics while it is held");
        known.retain(|(other, _)| *other != id);
        known.truncate(REMEMBERED - 1);
        known.push_front((id, folded));
    }
}

/// The steps that the log of a build tells, and the time of its last event.
pub(super) async fn fold(builds: &Arc<Builds>, scope: Scope, build: &Stored) -> Result<(Steps, Option<Timestamp>)> {
    let id = build.record.id;
    let mut folded = builds.folded_logs.get(id);
    if folded.seq < build.last_seq {
        let range = LogRange { after: folded.seq, follow: false };
        let mut events = Box::pin(follow(Arc::clone(builds), scope, id, range));
        while let Some(batch) = events.next().await {
            for event in batch? {
                folded.take(event.seq, event.at, event.body);
            }
        }
        builds.folded_logs.put(id, folded.clone());
    }
    Ok((folded.steps, folded.at))
}

impl Folded {
    fn take(&mut self, seq: u64, at: Timestamp, body: EventBody) {
        (self.seq, self.at) = (seq, Some(at));
        match body {
            EventBody::Log(line) => self.steps.take(&line, at),
            // A new attempt counts its steps anew; one that only pushes has none of its own.
            EventBody::State { build } if build.attempt != self.attempt && build.image_id.is_none() => {
                self.attempt = build.attempt;
                self.steps = Steps::default();
            }
            EventBody::State { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_remembered_and_those_looked_at_last() {
        let known = FoldedLogs::default();
        let ids: Vec<BuildId> = (0..=REMEMBERED).map(|_| BuildId::new()).collect();
        for (seq, id) in (1..).zip(&ids) {
            known.put(*id, Folded { seq, ..Folded::default() });
            known.put(ids[0], Folded { seq: 99, ..Folded::default() });
        }
        assert_eq!((known.get(ids[0]).seq, known.get(ids[1]).seq, known.get(ids[2]).seq), (99, 0, 3));
    }
}
