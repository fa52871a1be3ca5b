//! From the engine's lines to the store: cleaned, cut to the limit with the tail kept, and in batches, so that logging never
//! slows a build.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::redact::Redactor;
use super::seams::Seams;
use crate::domain::{BuildId, Fence, LogLine, LogStream, Steps, Timestamp, limits};
use crate::store::{Store, StoreError};

/// Lines under way between the engine and the store; when it is full, the engine waits.
const UNDER_WAY: usize = 1024;
/// A batch is written when it has this many lines …
const BATCH_LINES: usize = 256;
/// … or this many bytes …
const BATCH_BYTES: usize = 64 * 1024;
/// … or is this old.
const BATCH_AGE: Duration = Duration::from_millis(40);
/// The part of the log's limit that is held back for its tail.
const TAIL_SHARE: u64 = 8;

/// The writing end of one claim's log.
pub struct Log {
    lines: mpsc::Sender<LogLine>,
    writer: JoinHandle<Steps>,
}

impl Log {
    #[must_use]
    pub fn open(store: Store, id: BuildId, fence: Fence, redactor: Redactor, max_bytes: u64) -> Self {
        let (lines, receiver) = mpsc::channel(UNDER_WAY);
        let writer = Writer { store, id, fence, batch: 0, pending: Vec::new(), bytes: 0, steps: Steps::default() };
        Self { lines, writer: tokio::spawn(writer.run(receiver, Cut::new(max_bytes), Seams::new(redactor))) }
    }

    /// Where the engine writes.
    #[must_use]
    pub fn lines(&self) -> mpsc::Sender<LogLine> {
        self.lines.clone()
    }

    /// The service's own word.
    pub async fn say(&self, text: impl Into<String>) {
        self.put(LogStream::System, text.into()).await;
    }

    /// The same of what whoever sent the build should look at.
    pub async fn warn(&self, text: impl Into<String>) {
        self.put(LogStream::Warning, text.into()).await;
    }

    async fn put(&self, stream: LogStream, text: String) {
        // Fails only when the claim was lost, and then nobody may write.
        let _ = self.lines.send(LogLine { stream, step: None, text }).await;
    }

    /// Waits until everything is written, and answers the steps that the log told. Call it before the build is settled: the tail is never
    /// lost.
    pub async fn flush(self) -> Steps {
        drop(self.lines);
        self.writer.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the log's writer failed");
            Steps::default()
        })
    }
}

struct Writer {
    store: Store,
    id: BuildId,
    fence: Fence,
    batch: u64,
    pending: Vec<LogLine>,
    bytes: usize,
    steps: Steps,
}

impl Writer {
    async fn run(mut self, mut lines: mpsc::Receiver<LogLine>, mut cut: Cut, mut seams: Seams) -> Steps {
        while let Some(first) = lines.recv().await {
            self.take(&seams.clean(&first), &mut cut);
            let full = tokio::time::sleep(BATCH_AGE);
            tokio::pin!(full);
            while self.pending.len() < BATCH_LINES && self.bytes < BATCH_BYTES {
                tokio::select! {
                    line = lines.recv() => match line { Some(line) => self.take(&seams.clean(&line), &mut cut), None => break },
                    () = &mut full => break,
                }
            }
            if self.write().await.is_err() {
                return self.steps;
            }
        }
        seams.finish().for_each(|line| self.take(&line, &mut cut));
        self.pending.extend(cut.tail());
        // Lost claims write nothing more; that is no failure of the log.
        let _ = self.write().await;
        self.steps
    }

    fn take(&mut self, line: &LogLine, cut: &mut Cut) {
        for text in pieces(&line.text) {
            let line = LogLine { stream: line.stream, step: line.step.clone(), text: text.to_owned() };
            self.steps.take(&line, Timestamp::now());
            if let Some(line) = cut.pass(line) {
                self.bytes += line.text.len();
                self.pending.push(line);
            }
        }
    }

    /// Writes what is pending; while the store is away it tries again, and the same batch is never written twice.
    async fn write(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.batch += 1;
        let mut pause = Duration::from_millis(100);
        loop {
            match self.store.append_log(self.id, self.fence, self.batch, &self.pending).await {
                Ok(_) => break,
                Err(StoreError::Unavailable(_) | StoreError::Full) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Pieces of at most [`limits::LOG_LINE_BYTES`], cut between characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.len() <= limits::LOG_LINE_BYTES {
            rest = None;
            return Some(text);
        }
        let (piece, left) = text.split_at(text.floor_char_boundary(limits::LOG_LINE_BYTES));
        rest = Some(left);
        Some(piece)
    })
}

/// The limit of a log: its head passes, then lines are held back so that the last ones can be told at the end.
struct Cut {
    head_left: u64,
    tail_max: u64,
    tail_bytes: u64,
    tail: VecDeque<LogLine>,
    left_out: u64,
    told: bool,
}

/// A line costs more than its text.
fn cost(line: &LogLine) -> u64 {
    line.text.len() as u64 + 32
}

fn system(text: String) -> LogLine {
    LogLine { stream: LogStream::System, step: None, text }
}

impl Cut {
    fn new(max_bytes: u64) -> Self {
        let tail_max = max_bytes / TAIL_SHARE;
        Self { head_left: max_bytes - tail_max, tail_max, tail_bytes: 0, tail: VecDeque::new(), left_out: 0, told: false }
    }

    /// The line to write now, if any.
    fn pass(&mut self, line: LogLine) -> Option<LogLine> {
        let cost_of_line = cost(&line);
        if !self.told && cost_of_line <= self.head_left {
            self.head_left -= cost_of_line;
            return Some(line);
        }
        self.tail_bytes += cost_of_line;
        self.tail.push_back(line);
        while self.tail_bytes > self.tail_max && self.tail.len() > 1 {
            let gone = self.tail.pop_front().expect("longer than one, as the loop's condition says");
            self.tail_bytes -= cost(&gone);
            self.left_out += 1;
        }
        let first = !std::mem::replace(&mut self.told, true);
        first.then(|| system("The log has reached its limit. Its last lines follow when this attempt ends.".into()))
    }

    /// What was held back, and how much was left out before it.
    fn tail(self) -> Vec<LogLine> {
        let note = (self.left_out > 0).then(|| system(format!("… {} lines were left out here …", self.left_out)));
        note.into_iter().chain(self.tail).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { stream: LogStream::Stdout, step: None, text: text.into() }
    }

    #[test]
    fn a_short_log_passes_whole() {
        let mut cut = Cut::new(10_000);
        assert!((0..50).all(|i| cut.pass(line(&i.to_string())).is_some()));
        assert!(cut.tail().is_empty());
    }

    #[test]
    fn a_long_log_keeps_its_head_and_its_tail_in_bounded_memory() {
        let mut cut = Cut::new(8_000);
        let mut passed = Vec::new();
        for i in 0..10_000 {
            passed.extend(cut.pass(line(&i.to_string())));
            assert!(cut.tail_bytes <= 1_000);
        }
        let tail = cut.tail();
        assert_eq!(passed.first().map(|l| l.text.as_str()), Some("0"));
        assert!(passed.last().is_some_and(|l| l.stream == LogStream::System));
        assert_eq!(tail.last().map(|l| l.text.as_str()), Some("9999"));
        let left_out: usize = tail[0].text.split(' ').nth(1).expect("a number").parse().expect("a number");
        assert_eq!(passed.len() - 1 + left_out + tail.len() - 1, 10_000);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "é".repeat(limits::LOG_LINE_BYTES);
        let parts: Vec<&str> = pieces(&text).collect();
        assert!(parts.len() == 2 && parts.iter().all(|p| p.len() <= limits::LOG_LINE_BYTES));
        assert_eq!(parts.concat(), text);
        assert_eq!(pieces("").count(), 1);
    }
}
