//! Logs of runs and containers: what was done for a run, and what its container has put out, also when that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt};

use super::Apps;
use crate::auth::Principal;
use crate::domain::{Run, RunId, RunLog, Scope};
use crate::engine::containers::OutputRange;
use crate::error::{Error, Result};
use crate::store::Topic;

/// A wake-up that was lost is made up for after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputQuery {
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only lines with a higher number.
    pub after: Option<i64>,
    /// Whether what the service did for the run stands between the lines.
    pub notes: bool,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
    /// The service's words.
    System,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Grows from line to line of one source: nanoseconds since the Unix epoch, by the engine's clock.
    pub number: i64,
    pub source: Source,
    pub text: String,
}

/// Lines as they come.
pub type Lines = std::pin::Pin<Box<dyn Stream<Item = Result<Line>> + Send>>;

impl Apps {
    /// The log of a run, or of its container alone.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's; [`Error::Conflict`] `other_node`.
    pub async fn lines(self: &Arc<Self>, caller: &Principal, id: RunId, query: OutputQuery) -> Result<Lines> {
        let run = self.run(caller, id).await?.body;
        self.here(&run)?;
        if let Some(tail) = query.tail {
            return self.tail(caller.scope(), run, query, tail).await;
        }
        let (after, follow, notes) = (query.after.unwrap_or(i64::MIN), query.follow, query.notes);
        Ok(Box::pin(follow_run(Arc::clone(self), caller.scope(), id, Place { noted: after, put_out: after, notes }, follow)))
    }

    /// The last lines of everything; then, when it is followed, what comes after them.
    async fn tail(self: &Arc<Self>, scope: Scope, run: Run, query: OutputQuery, tail: u64) -> Result<Lines> {
        let most = usize::try_from(tail).unwrap_or(usize::MAX);
        let mut lines: Vec<Line> = Vec::new();
        let log = self.fleet.records().log(&scope, run.id).await?;
        if query.notes {
            lines.extend(noted(&log, i64::MIN));
        }
        let noted = lines.iter().map(|line| line.number).max().unwrap_or(i64::MIN);
        let mut last: VecDeque<Line> = VecDeque::new();
        let mut output = self.put_out(&run, &log, OutputRange { tail: Some(tail), ..OutputRange::default() }).await?;
        while let Some(line) = output.next().await {
            last.push_back(line?);
            if last.len() > most {
                last.pop_front();
            }
        }
        let put_out = last.back().map_or(i64::MIN, |line| line.number);
        lines.extend(last);
        lines.sort_by_key(|line| line.number);
        let lines = lines.split_off(lines.len().saturating_sub(most));
        let first = futures::stream::iter(lines.into_iter().map(Ok));
        if !query.follow {
            return Ok(Box::pin(first));
        }
        let rest = follow_run(Arc::clone(self), scope, run.id, Place { noted, put_out, notes: query.notes }, true);
        Ok(Box::pin(first.chain(rest)))
    }

    /// What a run's container has put out: from the engine while that has it, else what was saved.
    async fn put_out(&self, run: &Run, log: &RunLog, range: OutputRange) -> Result<Lines> {
        let there = match run.container.as_deref().filter(|_| !run.removed) {
            Some(container) => match self.fleet.engine().output(container, range).await {
                Ok(output) => Some(output),
                // Gone just now.
                Err(error) if error.code == "container_not_found" => None,
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let Some(output) = there else { return Ok(Box::pin(futures::stream::iter(saved(log)))) };
        Ok(Box::pin(output.map(|line| {
            let line = line?;
            Ok(Line { number: line.nanos, source: if line.stderr { Source::Stderr } else { Source::Stdout }, text: line.text })
        })))
    }
}

/// How far a reader is.
#[derive(Clone, Copy)]
struct Place {
    noted: i64,
    put_out: i64,
    notes: bool,
}

/// A run's lines behind a place, until it is over; without `follow`, what is there now.
fn follow_run(apps: Arc<Apps>, scope: Scope, id: RunId, mut at: Place, follow: bool) -> impl Stream<Item = Result<Line>> + Send {
    try_stream! {
        let mut moved = apps.store().wakes().subscribe(Topic::Run(id));
        loop {
            let Some(run) = apps.fleet.records().run(&scope, id).await?.map(|object| object.body) else { return };
            // Read before the log is: what was over then has no more to come.
            let over = !run.state.is_live() || !follow;
            let log = apps.fleet.records().log(&scope, id).await?;
            let (before, behind) = split(&log, &run, at);
            for line in before {
                at.noted = line.number;
                yield line;
            }
            if run.container.is_some() {
                let since_nanos = (at.put_out != i64::MIN).then_some(at.put_out);
                let range = OutputRange { since_nanos, tail: None, follow: follow && !over };
                let mut output = apps.put_out(&run, &log, range).await?;
                while let Some(line) = output.next().await {
                    let line = line?;
                    // The engine gives a little more than it was asked for.
                    if line.number > at.put_out {
                        at.put_out = line.number;
                        yield line;
                    }
                }
            }
            for line in behind {
                at.noted = line.number;
                yield line;
            }
            if over {
                return;
            }
            moved.sleep(LOOK_AGAIN).await;
        }
    }
}

/// The notes that a reader has not seen: those of the time before the container put anything out, and the others.
fn split(log: &RunLog, run: &Run, at: Place) -> (Vec<Line>, Vec<Line>) {
    if !at.notes {
        return (Vec::new(), Vec::new());
    }
    let ended = run.finished_at.map_or(i64::MAX, |at| at.as_millis().saturating_mul(1_000_000));
    noted(log, at.noted).partition(|line| line.number < ended)
}

fn noted(log: &RunLog, after: i64) -> impl Iterator<Item = Line> + '_ {
    let lines = log.notes.iter().map(|note| Line {
        number: note.at.as_millis().saturating_mul(1_000_000),
        source: Source::System,
        text: note.text.clone(),
    });
    lines.filter(move |line| line.number > after)
}

fn saved(log: &RunLog) -> Vec<Result<Line>> {
    let clipped = log.clipped.then(|| {
        let text = "[the beginning of the output was not kept]".to_owned();
        Line { number: log.saved.first().map_or(0, |line| line.nanos - 1), source: Source::System, text }
    });
    let lines = log.saved.iter().map(|line| Line {
        number: line.nanos,
        source: if line.stderr { Source::Stderr } else { Source::Stdout },
        text: line.text.clone(),
    });
    clipped.into_iter().chain(lines).map(Ok::<_, Error>).collect()
}
