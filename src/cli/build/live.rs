//! Live steps at a terminal. What is over is written once and scrolls away; below it a block with what runs is drawn anew, at
//! most ten times a second, however much is written meanwhile. No line is wider than the window.

use std::collections::HashMap;

use rustix::stdio::stderr;
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tokio::time::Instant;
use unicode_width::UnicodeWidthChar as _;

use super::feed::Line;
use super::plain::waiting;
use super::show::{Show, to_stderr};
use super::steps::{News, State, Step, Steps, bare};
use crate::cli::show::text;
use crate::domain::quantity::readable;

/// Most lines of output below one running step.
const LAST: usize = 5;
/// Where the window does not tell its size.
const USUAL: Window = Window { columns: 80, rows: 24 };
/// Width of a bar.
const BAR: usize = 30;

const OVER: &str = "34";
const FAILED: &str = "31";
const OUTPUT: &str = "2";

#[derive(Debug, Clone, Copy)]
struct Window {
    columns: usize,
    rows: usize,
}

impl Window {
    fn of_stderr() -> Self {
        let size = tcgetwinsize(stderr()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(USUAL, |size| Self { columns: size.ws_col.into(), rows: size.ws_row.into() })
    }
}

/// A line as it is to be seen, before its colour.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    text: String,
    colour: &'static str,
}

pub(super) struct Live {
    steps: Steps,
    began: Instant,
    phase: String,
    upload: Option<(u64, Option<u64>)>,
    /// Why it has not begun.
    waits: Option<String>,
    /// Destinations that are pushed to, since when.
    pushes: HashMap<String, Instant>,
    /// The last words of a push.
    words: Option<String>,
    /// What is over, and not written yet.
    over: Vec<(String, Option<u64>, &'static str)>,
    /// Widths of the block's lines on the screen.
    drawn: Vec<usize>,
    coloured: bool,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            steps: Steps::default(),
            began: Instant::now(),
            phase: "Preparing".into(),
            upload: None,
            waits: None,
            pushes: HashMap::new(),
            words: None,
            over: Vec::new(),
            drawn: Vec::new(),
            // https://no-color.org
            coloured: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    fn step_over(&mut self, at: usize) {
        let step = self.steps.get(at);
        let (mark, colour) = match step.state {
            State::Cached => ("CACHED ", OVER),
            State::Failed => ("ERROR ", FAILED),
            State::Done | State::Running => ("", OVER),
        };
        self.over.push((format!(" => {mark}{}", bare(&step.name)), step.took, colour));
    }

    fn pushed(&mut self, build: &Value) {
        for destination in build["destinations"].as_array().into_iter().flatten() {
            let image = text(&destination["image"]);
            match destination["state"].as_str() {
                Some("pushing") => drop(self.pushes.entry(image).or_insert_with(Instant::now)),
                Some("pushed") => {
                    if let Some(since) = self.pushes.remove(&image) {
                        self.over.push((format!(" => pushed {image}"), Some(milliseconds(since.elapsed())), OVER));
                    }
                }
                Some("failed") if self.pushes.remove(&image).is_some() => {
                    self.over.push((format!(" => ERROR pushing {image}"), None, FAILED));
                }
                _ => {}
            }
        }
    }

    fn draw(&mut self, now: Instant) {
        let window = Window::of_stderr();
        let mut out = self.erased(window);
        for (line, took, colour) in std::mem::take(&mut self.over) {
            let took = took.map_or(String::new(), seconds);
            out += &self.painted(&Row { text: row(&line, &took, window.columns), colour });
        }
        let block = self.block(now, window);
        self.drawn = block.iter().map(|row| width(&row.text)).collect();
        block.iter().for_each(|row| out += &self.painted(row));
        to_stderr(&out);
    }

    /// Takes the block off the screen. In a window that became narrower its lines have become several.
    fn erased(&mut self, window: Window) -> String {
        let rows: usize = self.drawn.drain(..).map(|width| width.div_ceil(window.columns).max(1)).sum();
        // Line by line: where a whole screen is cleared at once, some terminals keep what was on it among what has scrolled away.
        "\u{1b}[A\u{1b}[2K".repeat(rows)
    }

    fn painted(&self, row: &Row) -> String {
        if row.colour.is_empty() || !self.coloured {
            format!("{}\n", row.text)
        } else {
            format!("\u{1b}[{}m{}\u{1b}[0m\n", row.colour, row.text)
        }
    }

    /// What runs: each step with its last lines, as many of them as fit.
    fn block(&self, now: Instant, window: Window) -> Vec<Row> {
        let mut rows = vec![self.head(now, window)];
        rows.extend(self.waits.iter().map(|why| Row { text: row(&format!(" => {why}"), "", window.columns), colour: OUTPUT }));
        let room = window.rows.saturating_sub(2);
        let running: Vec<&Step> = self.steps.running().collect();
        let spare = room.saturating_sub(1 + running.len() + self.pushes.len());
        let each = (spare / running.len().max(1)).min(LAST);
        for step in running {
            let took = seconds(milliseconds(now.saturating_duration_since(step.heard)));
            rows.push(Row { text: row(&format!(" => {}", bare(&step.name)), &took, window.columns), colour: "" });
            let transfer = step.transfer.iter().filter(|_| step.last.is_empty()).map(|line| bare(line));
            let written = step.last.iter().skip(step.last.len().saturating_sub(each)).cloned();
            let lines = transfer.chain(written).take(each);
            rows.extend(lines.map(|line| Row { text: row(&format!(" => => # {line}"), "", window.columns), colour: OUTPUT }));
        }
        let mut pushes: Vec<_> = self.pushes.iter().collect();
        pushes.sort();
        for (image, since) in pushes {
            let took = seconds(milliseconds(now.saturating_duration_since(*since)));
            rows.push(Row { text: row(&format!(" => pushing {image}"), &took, window.columns), colour: "" });
        }
        if let Some(words) = self.words.as_ref().filter(|_| !self.pushes.is_empty()) {
            rows.push(Row { text: row(&format!(" => => # {words}"), "", window.columns), colour: OUTPUT });
        }
        rows.truncate(room.max(1));
        rows
    }

    fn head(&self, now: Instant, window: Window) -> Row {
        let took = seconds(milliseconds(now.saturating_duration_since(self.began)));
        let (known, over) = (self.steps.all().len(), self.steps.all().iter().filter(|step| step.state != State::Running).count());
        let progress = match self.upload {
            Some((sent, Some(total))) => format!(" {} {} / {}", bar(sent, total), readable(sent.min(total)), readable(total)),
            Some((sent, None)) => format!(" {}", readable(sent)),
            None if known > 0 => format!(" ({over}/{known})"),
            None => String::new(),
        };
        Row { text: row(&format!("[+] {} {took}{progress}", self.phase), "", window.columns), colour: "" }
    }
}

impl Show for Live {
    fn reading(&mut self) {
        self.phase = "Reading the folder".into();
        self.draw(Instant::now());
    }

    fn uploading(&mut self, sent: u64, total: Option<u64>) {
        self.phase = "Sending the context".into();
        self.upload = Some((sent, total));
        self.draw(Instant::now());
    }

    fn submitted(&mut self, build: &Value) {
        self.upload = None;
        self.phase = "Build".into();
        self.waits(build);
        self.over.push((format!(" => build {}", text(&build["id"])), None, ""));
        self.draw(Instant::now());
    }

    fn line(&mut self, line: &Line) {
        match self.steps.hear(line) {
            News::Began(_) => (self.phase, self.waits) = ("Building".into(), None),
            News::Ended(at) => self.step_over(at),
            News::Words if line.stream == "progress" => self.words = Some(bare(&line.text)),
            News::Words => self.over.push((format!(" => {}", bare(&line.text)), None, "")),
            News::Wrote(..) | News::Moved(_) => {}
        }
        self.steps.take_silent().into_iter().for_each(|at| self.step_over(at));
    }

    fn state(&mut self, build: &Value) {
        match build["state"].as_str() {
            Some("queued") => self.phase = "Waiting".into(),
            Some("building") => (self.phase, self.waits) = ("Building".into(), None),
            Some("pushing") => (self.phase, self.waits) = ("Pushing".into(), None),
            _ => {}
        }
        self.pushed(build);
    }

    fn waits(&mut self, build: &Value) {
        self.waits = waiting(build);
    }

    fn note(&mut self, text: &str) {
        self.over.push((format!(" => {}", bare(text)), None, ""));
        self.draw(Instant::now());
    }

    fn frame(&mut self, now: Instant) {
        self.draw(now);
    }

    fn end(&mut self, build: &Value) {
        let well = ["published", "built"].iter().any(|state| build["state"] == *state);
        self.pushed(build);
        self.steps.end(well).into_iter().for_each(|at| self.step_over(at));
        self.leave("");
        for step in self.steps.all().iter().filter(|step| step.state == State::Failed && !step.last.is_empty()) {
            let lines: String = step.last.iter().map(|line| format!("{line}\n")).collect();
            to_stderr(&format!("------\n > {}:\n{lines}------\n", bare(&step.name)));
        }
    }

    fn leave(&mut self, text: &str) {
        self.draw(Instant::now());
        let gone = self.erased(Window::of_stderr());
        to_stderr(&if text.is_empty() { gone } else { format!("{gone}{text}\n") });
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Such as `12.3s`.
fn seconds(milliseconds: u64) -> String {
    format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
}

fn bar(done: u64, total: u64) -> String {
    let full = (BAR as u64).saturating_mul(done.min(total)).checked_div(total).unwrap_or(0);
    let full = usize::try_from(full).unwrap_or(BAR);
    format!("[{}{}]", "=".repeat(full), " ".repeat(BAR - full))
}

/// Columns that a text takes.
fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// One line of a window this wide: cut where it is too long, `right` at its end. The last column stays free, so that no terminal
/// begins another line.
fn row(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    let right = if width(right) + 8 > room { "" } else { right };
    let for_left = if right.is_empty() { room } else { room - width(right) - 1 };
    let left = cut(left, for_left);
    if right.is_empty() {
        return left;
    }
    let gap = " ".repeat(room - width(&left) - width(right));
    format!("{left}{gap}{right}")
}

fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut taken = 1;
    let kept = text.chars().take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    });
    let mut kept: String = kept.collect();
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: &str, step: &str, text: &str) -> Line {
        let at = "2026-01-01T00:00:00Z".into();
        Line { seq: 1, at, stream: stream.into(), step: Some(step.into()), text: text.into() }
    }

    #[test]
    fn no_line_is_wider_than_the_window_and_the_block_no_higher() {
        let mut live = Live::new();
        for number in 1..=9 {
            let step = format!("[{number}/9] RUN 日本語 {}", "x".repeat(number * 20));
            live.line(&line("progress", &step, &format!("#{number} {step}")));
            for said in 0..100 {
                live.line(&line("stdout", &step, &format!("{said} {}", "界".repeat(90))));
            }
        }
        for (columns, rows) in [(1, 1), (7, 3), (20, 10), (80, 24), (200, 60), (81, 2)] {
            let block = live.block(Instant::now(), Window { columns, rows });
            assert!(block.len() <= rows.saturating_sub(2).max(1), "{} in {rows}", block.len());
            for row in &block {
                assert!(width(&row.text) <= columns.saturating_sub(1), "{columns}: {row:?}");
            }
        }
        let block = live.block(Instant::now(), Window { columns: 80, rows: 60 });
        assert_eq!(block.iter().filter(|row| row.text.starts_with(" => [")).count(), 9);
        assert!(block.iter().any(|row| row.text.starts_with(" => => # 99 ")), "the newest output");
        assert!(block.iter().all(|row| !row.text.contains(" # 10 ")), "not the older one");
    }

    #[test]
    fn times_stand_at_the_right() {
        assert_eq!(row(" => a", "1.0s", 20), " => a          1.0s");
        assert_eq!(row(" => abcdefghijklmnop", "1.0s", 20), " => abcdefghi… 1.0s");
        assert_eq!(bar(5, 10).matches('=').count(), 15);
    }
}
