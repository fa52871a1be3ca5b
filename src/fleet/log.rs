//! What a run's log has beside its container's output: what was done for it, and the end of the output when the container is gone.

use std::collections::VecDeque;

use futures::StreamExt;

use super::Fleet;
use crate::domain::{Owner, Run, RunLog, RunNote, SavedLine, Timestamp};
use crate::engine::containers::{OutputRange, PullProgress};

/// Most notes that are kept of one run; the first and the newest stay.
const NOTES: usize = 400;
/// Of these, so many of the first.
const FIRST: usize = 100;
/// How the note of a step begins that cannot be done for now.
const WAITS: &str = "waits: ";
/// Lines and bytes of the output that are saved when a container has ended.
const SAVED_LINES: u64 = 1000;
const SAVED_BYTES: usize = 64 * 1024;

/// A run's notes in the hands of its keeper.
pub(super) struct LogBook {
    run: Run,
    log: RunLog,
    changed: bool,
    /// Whether its keeper, or the one before, could not go on when it last tried.
    waits: bool,
}

impl LogBook {
    pub(super) fn new(run: Run, log: RunLog) -> Self {
        let waits = log.notes.last().is_some_and(|last| last.text.starts_with(WAITS));
        Self { run, log, changed: false, waits }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.run.owner
    }

    /// Adds a line, unless it is what was said last.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.log.notes.last().is_some_and(|last| last.text == text) {
            return;
        }
        if self.log.notes.len() >= NOTES {
            self.log.notes.remove(FIRST);
        }
        // Later than the one before, so that each has a place of its own.
        let last = self.log.notes.last().map_or(0, |note| note.at.as_millis() + 1);
        let at = Timestamp::from_millis(Timestamp::now().as_millis().max(last));
        self.log.notes.push(RunNote { at, text });
        self.changed = true;
    }

    /// Adds a line, unless it was said before.
    pub(super) fn note_once(&mut self, text: &str) {
        if !self.log.notes.iter().any(|note| note.text == text) {
            self.note(text);
        }
    }

    /// It does not go on for now.
    pub(super) fn waits(&mut self, why: &str) {
        self.note(format!("{WAITS}{why}"));
        self.waits = true;
    }

    /// It does again.
    pub(super) fn goes_on(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.note("goes on");
        }
    }

    /// How far a layer is; the same line again when it has gone on.
    pub(super) fn note_layer(&mut self, layer: &PullProgress) {
        let head = format!("{}: ", layer.layer);
        let bytes = layer.bytes.map_or_else(String::new, |(done, all)| format!(" {done} of {all} bytes"));
        let text = format!("{head}{}{bytes}", layer.status);
        let last = self.log.notes.iter().rev().find(|note| note.text.starts_with(&head));
        if last.is_none_or(|last| last.text != text) {
            self.note(text);
        }
    }

    /// The end of the output, once it is saved.
    pub(super) fn last_saved(&self) -> Option<&str> {
        self.log.saved.last().map(|line| line.text.as_str())
    }

    fn save(&mut self, lines: Vec<SavedLine>, clipped: bool) {
        self.log.saved = lines;
        self.log.clipped = clipped;
        self.changed = true;
    }

    /// Writes what is new.
    pub(super) async fn flush(&mut self, fleet: &Fleet) -> Result<(), crate::store::StoreError> {
        if self.changed {
            fleet.records().put_log(&self.run.owner, self.run.id, &self.log).await?;
            self.changed = false;
        }
        Ok(())
    }
}

impl Fleet {
    /// Keeps the end of a container's output, for when the container is gone. What cannot be read is not kept, and said.
    pub(super) async fn save_output(&self, container: &str, book: &mut LogBook) {
        let range = OutputRange { tail: Some(SAVED_LINES + 1), ..OutputRange::default() };
        let mut output = match self.engine().output(container, range).await {
            Ok(output) => output,
            Err(error) => return book.note(format!("the end of the output could not be kept: {error}")),
        };
        let (mut lines, mut bytes, mut clipped) = (VecDeque::new(), 0, false);
        while let Some(line) = output.next().await {
            match line {
                Ok(line) => {
                    bytes += line.text.len();
                    lines.push_back(SavedLine { nanos: line.nanos, stderr: line.stderr, text: line.text });
                }
                Err(error) => {
                    book.note(format!("the end of the output could not be kept: {error}"));
                    break;
                }
            }
            while bytes > SAVED_BYTES || lines.len() as u64 > SAVED_LINES {
                clipped = true;
                bytes -= lines.pop_front().map_or(bytes, |line| line.text.len());
            }
        }
        book.save(lines.into(), clipped);
    }
}
