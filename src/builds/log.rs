//! Reading a build's events: from any number on, to the end, and live.

use std::time::Duration;

use async_stream::try_stream;
use futures::Stream;

use super::Builds;
use crate::domain::{BuildId, Event, EventBody, Scope};
use crate::error::{Error, Result};
use crate::store::Topic;

/// Events that are read from the store at once.
const BATCH: usize = 512;
/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What part of a log is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRange {
    /// Only events with a number above this.
    pub after: u64,
    /// Go on until the build has ended and all is told.
    pub follow: bool,
}

/// The events of a build in order, in batches. The store is the truth; wake-ups only say when to look again. Ends at the end of the
/// build (or, without `follow`, where the log is now), and when the build is deleted.
pub fn follow(builds: std::sync::Arc<Builds>, scope: Scope, id: BuildId, range: LogRange) -> impl Stream<Item = Result<Vec<Event>>> + Send {
    try_stream! {
        let mut after = range.after;
        let mut moved = builds.store.wakes().subscribe(Topic::Build(id));
        loop {
            // The record is read before the events: what was written before it ended is then seen.
            let Some(build) = builds.store.get(&scope, id).await? else { return };
            let events = builds.events(&scope, id, after, build.record.log_archived).await?;
            if let Some(last) = events.last() {
                after = last.seq;
                yield events;
            } else if build.record.state.is_terminal() || !range.follow {
                return;
            } else {
                moved.sleep(LOOK_AGAIN).await;
            }
        }
    }
}

impl Builds {
    async fn events(&self, scope: &Scope, id: BuildId, after: u64, archived: bool) -> Result<Vec<Event>> {
        if archived {
            return self.contexts.read_log(id, after, BATCH).await;
        }
        let events = self.store.events(scope, id, after, BATCH).await?.unwrap_or_default();
        if events.is_empty() {
            // The log may have gone to its archive between the two looks.
            let archived = self.store.get(scope, id).await?.is_some_and(|build| build.record.log_archived);
            if archived {
                return self.contexts.read_log(id, after, BATCH).await;
            }
        }
        Ok(events)
    }
}

/// The number after which the last `lines` lines of the log stand: found backwards, so that a short tail of a long log is cheap.
///
/// # Errors
/// [`Error::NotFound`] when the scope has no such build.
pub async fn tail_start(builds: &Builds, scope: &Scope, id: BuildId, lines: u64) -> Result<u64> {
    let build = builds.store.get(scope, id).await?.ok_or(Error::NotFound("build"))?;
    let mut window = lines.saturating_add(8);
    loop {
        let start = build.last_seq.saturating_sub(window);
        let seqs = line_numbers(builds, scope, id, start).await?;
        if let Some(skip) = seqs.len().checked_sub(usize::try_from(lines).unwrap_or(usize::MAX)) {
            return Ok(if skip == 0 { seqs.first().map_or(build.last_seq, |first| first - 1) } else { seqs[skip - 1] });
        }
        if start == 0 {
            return Ok(0);
        }
        window = window.saturating_mul(4);
    }
}

async fn line_numbers(builds: &Builds, scope: &Scope, id: BuildId, start: u64) -> Result<Vec<u64>> {
    let archived = builds.store.get(scope, id).await?.is_some_and(|build| build.record.log_archived);
    let (mut after, mut numbers) = (start, Vec::new());
    loop {
        let events = builds.events(scope, id, after, archived).await?;
        let Some(last) = events.last() else { return Ok(numbers) };
        after = last.seq;
        numbers.extend(events.iter().filter(|e| matches!(e.body, EventBody::Log(_))).map(|e| e.seq));
    }
}
