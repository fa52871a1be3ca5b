//! Logs of runs and containers: what was built and done for a run, and what its container has put out, also when that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt};

use super::engine::Whose;
use super::{Apps, place::Place};
use crate::auth::Principal;
use crate::builds::{LogRange, follow};
use crate::domain::{EventBody, ImageSource, LogStream, Run, RunId, RunLog, Scope, Timestamp};
use crate::engine::containers::OutputRange;
use crate::error::{Error, Result};
use crate::store::Topic;

/// A wake-up that was lost is made up for after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const NANOS_PER_MILLI: i64 = 1_000_000;

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputQuery {
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only what comes behind this place.
    pub after: Option<Place>,
    /// Whether the log of its own build, and what the service did for the run, stand there too.
    pub notes: bool,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// To go on from behind it.
    pub place: Place,
    pub at: Timestamp,
    pub stream: LogStream,
    /// Of a build: the step that it belongs to.
    pub step: Option<String>,
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
        let at = query.after.unwrap_or_default();
        let reader = Reader { apps: Arc::clone(self), scope: caller.scope(), id, at, notes: query.notes };
        Ok(Box::pin(reader.read(query.follow)))
    }

    /// What a container has put out; for an admin also one that is not ours.
    ///
    /// # Errors
    /// As [`Apps::lines`].
    pub async fn container_lines(self: &Arc<Self>, caller: &Principal, key: &str, query: OutputQuery) -> Result<Lines> {
        let seen = self.container(caller, key).await?.seen;
        if let Whose::Run(id, _) = &seen.whose {
            return self.lines(caller, *id, OutputQuery { notes: false, ..query }).await;
        }
        let at = query.after.unwrap_or_default();
        let range = OutputRange { since_nanos: query.after.map(|at| at.put_out), tail: query.tail, follow: query.follow };
        let output = self.fleet.engine().output(&seen.summary.id, range).await?.map(|line| Ok(put_out_line(line?)));
        Ok(Box::pin(output.filter(move |line: &Result<Line>| {
            futures::future::ready(line.as_ref().map_or(true, |line| line.place.put_out > at.put_out))
        })))
    }

    /// The last lines of everything; then, when it is followed, what comes after them.
    async fn tail(self: &Arc<Self>, scope: Scope, run: Run, query: OutputQuery, tail: u64) -> Result<Lines> {
        let most = usize::try_from(tail).unwrap_or(usize::MAX);
        let mut last: VecDeque<Line> = VecDeque::new();
        let mut at = Place::default();
        let mut push = |line: Line| {
            at = at.and(line.place);
            last.push_back(Line { place: at, ..line });
            if last.len() > most {
                last.pop_front();
            }
        };
        let log = self.fleet.records().log(&scope, run.id).await?;
        let (before, behind) = if query.notes { split(&log, &run, Place::default()) } else { Default::default() };
        if let Some(build) = built_here(&run).filter(|_| query.notes) {
            let range = LogRange { after: 0, follow: false };
            let mut events = Box::pin(follow(Arc::clone(self.fleet.builds()), scope.clone(), build, range));
            while let Some(events) = events.next().await {
                events?.into_iter().filter_map(build_line).for_each(&mut push);
            }
        }
        before.into_iter().for_each(&mut push);
        let mut output = self.put_out(&run, &log, OutputRange { tail: Some(tail), ..OutputRange::default() }).await?;
        while let Some(line) = output.next().await {
            push(line?);
        }
        behind.into_iter().for_each(&mut push);
        let first = futures::stream::iter(last.into_iter().map(Ok));
        if !query.follow {
            return Ok(Box::pin(first));
        }
        let reader = Reader { apps: Arc::clone(self), scope, id: run.id, at, notes: query.notes };
        Ok(Box::pin(first.chain(reader.read(true))))
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
        Ok(Box::pin(output.map(|line| Ok(put_out_line(line?)))))
    }
}

fn put_out_line(line: crate::engine::containers::OutputLine) -> Line {
    Line { place: Place::put_out(line.nanos), at: millis(line.nanos), stream: end(line.stderr), step: None, text: line.text }
}

fn end(stderr: bool) -> LogStream {
    if stderr { LogStream::Stderr } else { LogStream::Stdout }
}

fn millis(nanos: i64) -> Timestamp {
    Timestamp::from_millis(nanos / NANOS_PER_MILLI)
}

/// Somebody who reads a run's log, and how far it is.
struct Reader {
    apps: Arc<Apps>,
    scope: Scope,
    id: RunId,
    at: Place,
    notes: bool,
}

impl Reader {
    /// The lines behind its place, until the run is over; without `goes_on`, what is there now.
    fn read(mut self, goes_on: bool) -> impl Stream<Item = Result<Line>> + Send {
        try_stream! {
            let mut moved = self.apps.store().wakes().subscribe(Topic::Run(self.id));
            let mut built = !self.notes;
            loop {
                let Some(run) = self.apps.fleet.records().run(&self.scope, self.id).await?.map(|object| object.body) else { return };
                if let Some(build) = built_here(&run).filter(|_| !built) {
                    let range = LogRange { after: self.at.built, follow: goes_on && run.state.is_live() };
                    let mut events = Box::pin(follow(Arc::clone(self.apps.fleet.builds()), self.scope.clone(), build, range));
                    while let Some(events) = events.next().await {
                        for line in events?.into_iter().filter_map(build_line) {
                            yield self.passed(line);
                        }
                    }
                    built = true;
                    // The run has gone on since it was read.
                    continue;
                }
                // Read before the log is: what was over then has no more to come.
                let over = !run.state.is_live() || !goes_on;
                let log = self.apps.fleet.records().log(&self.scope, self.id).await?;
                let (before, behind) = if self.notes { split(&log, &run, self.at) } else { Default::default() };
                for line in before {
                    yield self.passed(line);
                }
                if run.container.is_some() {
                    let since_nanos = (self.at.put_out > 0).then_some(self.at.put_out);
                    let range = OutputRange { since_nanos, tail: None, follow: !over };
                    let mut output = self.apps.put_out(&run, &log, range).await?;
                    // The engine gives a little more than it was asked for. Within one reading nothing is left out: what comes
                    // through two pipes is not always in the order of its times.
                    let before = self.at.put_out;
                    while let Some(line) = output.next().await {
                        let line = line?;
                        if line.place.put_out > before {
                            yield self.passed(line);
                        }
                    }
                }
                for line in behind {
                    yield self.passed(line);
                }
                if over {
                    return;
                }
                moved.woken(LOOK_AGAIN).await;
            }
        }
    }

    fn passed(&mut self, line: Line) -> Line {
        self.at = self.at.and(line.place);
        Line { place: self.at, ..line }
    }
}

/// The build whose log stands before the run's own.
fn built_here(run: &Run) -> Option<crate::domain::BuildId> {
    match &run.spec.image {
        ImageSource::Build(id) if run.built_here => Some(*id),
        _ => None,
    }
}

fn build_line(event: crate::domain::Event) -> Option<Line> {
    let EventBody::Log(line) = event.body else { return None };
    Some(Line { place: Place::built(event.seq), at: event.at, stream: line.stream, step: line.step, text: line.text })
}

/// The notes that a reader has not seen: those of the time before the container put anything out, and the others.
fn split(log: &RunLog, run: &Run, at: Place) -> (Vec<Line>, Vec<Line>) {
    let ended = run.finished_at.map_or(i64::MAX, |at| at.as_millis().saturating_mul(NANOS_PER_MILLI));
    noted(log, at.noted).partition(|line| line.place.noted < ended)
}

fn noted(log: &RunLog, after: i64) -> impl Iterator<Item = Line> + '_ {
    let lines = log.notes.iter().map(|note| Line {
        place: Place::noted(note.at.as_millis().saturating_mul(NANOS_PER_MILLI)),
        at: note.at,
        stream: LogStream::System,
        step: None,
        text: note.text.clone(),
    });
    lines.filter(move |line| line.place.noted > after)
}

fn saved(log: &RunLog) -> Vec<Result<Line>> {
    let clipped = log.clipped.then(|| {
        let nanos = log.saved.first().map_or(1, |line| line.nanos - 1);
        let text = "[the beginning of the output was not kept]".to_owned();
        Line { place: Place::put_out(nanos), at: millis(nanos), stream: LogStream::System, step: None, text }
    });
    let lines = log.saved.iter().map(|line| Line {
        place: Place::put_out(line.nanos),
        at: millis(line.nanos),
        stream: end(line.stderr),
        step: None,
        text: line.text.clone(),
    });
    clipped.into_iter().chain(lines).map(Ok::<_, Error>).collect()
}
