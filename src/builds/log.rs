//! Reading a build's events: from any number on, to the end, and live; from the store while they are hot, else from their archive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt};

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
    /// Go on until the build has ended.
    pub follow: bool,
}

/// The events of a build in order, in batches. The store is the truth; wake-ups only say when to look again. Ends at the end of the
/// build (or, without `follow`, where the log is now), and when the build is deleted.
pub fn follow(builds: Arc<Builds>, scope: Scope, id: BuildId, range: LogRange) -> impl Stream<Item = Result<Vec<Event>>> + Send {
    try_stream! {
        let mut after = range.after;
        let mut moved = builds.store.wakes().subscribe(Topic::Build(id));
        loop {
            // The record is read before the events: what was written before it ended is then seen.
            let Some(build) = builds.store.get(&scope, id).await? else { return };
            if build.record.log_archived {
                let mut archived = Box::pin(archive(&builds, id, after).await?);
                while let Some(events) = archived.next().await {
                    yield events?;
                }
                return;
            }
            let events = builds.store.events(&scope, id, after, BATCH).await?.unwrap_or_default();
            if let Some(last) = events.last() {
                after = last.seq;
                yield events;
            } else if after >= build.last_seq && (build.record.state.is_terminal() || !range.follow) {
                return;
            } else if after >= build.last_seq {
                moved.woken(LOOK_AGAIN).await;
            }
            // Else the events went to their archive between the two looks: the next look finds them there.
        }
    }
}

/// The archive holds one event a line, as JSON.
async fn archive(builds: &Builds, id: BuildId, after: u64) -> Result<impl Stream<Item = Result<Vec<Event>>> + Send + use<>> {
    let bytes = builds.contexts.read_log(id).await?.ok_or(Error::NotFound("log"))?;
    let mut lines = tokio_util::io::StreamReader::new(bytes);
    Ok(try_stream! {
        use tokio::io::AsyncBufReadExt;
        let (mut batch, mut line) = (Vec::new(), Vec::new());
        while lines.read_until(b'\n', &mut line).await.map_err(Error::internal)? > 0 {
            let event: Event = serde_json::from_slice(&line).map_err(Error::internal)?;
            line.clear();
            if event.seq > after {
                batch.push(event);
            }
            if batch.len() == BATCH {
                yield std::mem::take(&mut batch);
            }
        }
        if !batch.is_empty() {
            yield batch;
        }
    })
}

/// The number after which the last `lines` lines of the log stand.
///
/// # Errors
/// [`Error::NotFound`] when the scope has no such build.
pub async fn tail_start(builds: &Arc<Builds>, scope: &Scope, id: BuildId, lines: u64) -> Result<u64> {
    let build = builds.store.get(scope, id).await?.ok_or(Error::NotFound("build"))?;
    let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
    if wanted == 0 {
        return Ok(build.last_seq);
    }
    // From the end backwards in growing windows, so that a short tail of a long log is cheap. (State events stand between the lines.)
    let mut window = lines.saturating_add(8);
    loop {
        let start = build.last_seq.saturating_sub(window);
        let last = last_lines(builds, scope, id, start, wanted).await?;
        if let Some(first) = last.front().filter(|_| last.len() == wanted) {
            return Ok(first - 1);
        }
        if start == 0 {
            return Ok(0);
        }
        window = window.saturating_mul(4);
    }
}

/// Numbers of the last `wanted` lines after `start`.
async fn last_lines(builds: &Arc<Builds>, scope: &Scope, id: BuildId, start: u64, wanted: usize) -> Result<VecDeque<u64>> {
    let mut last = VecDeque::with_capacity(wanted);
    let mut events = Box::pin(follow(Arc::clone(builds), scope.clone(), id, LogRange { after: start, follow: false }));
    while let Some(batch) = events.next().await {
        for event in batch?.iter().filter(|event| matches!(event.body, EventBody::Log(_))) {
            if last.len() == wanted {
                last.pop_front();
            }
            last.push_back(event.seq);
        }
    }
    Ok(last)
}
