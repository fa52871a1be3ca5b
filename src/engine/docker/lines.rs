//! From bytes to lines of the log.

use crate::domain::limits::LOG_LINE_BYTES;
use crate::domain::{LogLine, LogStream};
use crate::engine::Lines;

/// Cuts what a program writes into lines. Of a line that it overwrote with carriage returns (a progress bar) only what
/// stood there last is kept; a line longer than [`LOG_LINE_BYTES`] comes as several. Holds at most one line.
#[derive(Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    /// A carriage return was the last byte: it ends the line or begins it anew, as the next byte will tell.
    returned: bool,
}

impl Splitter {
    /// Adds bytes; answers the lines that they completed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    self.returned = false;
                    lines.push(self.take(self.line.len()));
                }
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.line.clear();
                    }
                    self.line.push(byte);
                    if self.line.len() >= LOG_LINE_BYTES {
                        lines.push(self.take(whole_characters(&self.line)));
                    }
                }
            }
        }
        lines
    }

    /// What is left without a newline: the tail of a log is never lost.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.returned = false;
        (!self.line.is_empty()).then(|| self.take(self.line.len()))
    }

    fn take(&mut self, length: usize) -> String {
        let rest = self.line.split_off(length);
        let line = std::mem::replace(&mut self.line, rest);
        String::from_utf8(line).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// How many bytes can be cut off the front without cutting a character in two.
pub(super) fn whole_characters(line: &[u8]) -> usize {
    let start = line.len().saturating_sub(4);
    let last = line.iter().skip(start).rposition(|byte| *byte & 0xC0 != 0x80).map_or(line.len(), |at| start + at);
    let width = match line.get(last) {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => 1,
    };
    if last + width > line.len() && last > 0 { last } else { line.len() }
}

pub(super) fn line(stream: LogStream, step: Option<&str>, text: impl Into<String>) -> LogLine {
    LogLine { stream, step: step.map(str::to_owned), text: text.into() }
}

pub(super) fn progress(step: Option<&str>, text: impl Into<String>) -> LogLine {
    line(LogStream::Progress, step, text)
}

/// Hands lines on; waits while the reader is slow, goes on when nobody reads any more.
pub(super) async fn send(lines: &Lines, all: impl IntoIterator<Item = LogLine>) {
    for line in all {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(parts: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut lines: Vec<String> = parts.iter().flat_map(|part| splitter.push(part)).collect();
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn joins_pieces_and_keeps_the_tail() {
        assert_eq!(split(&[b"a", b"b\nc", b"\n\nd"]), ["ab", "c", "", "d"]);
        assert_eq!(split(&[b"a\n"]), ["a"]);
        assert_eq!(split(&[]), Vec::<String>::new());
    }

    #[test]
    fn the_last_writing_over_a_line_wins() {
        assert_eq!(split(&[b"10%\r50%\r", b"100%\ndone\r\nx\r", b"\ny\r"]), ["100%", "done", "x", "y"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "ä€😀".repeat(LOG_LINE_BYTES);
        let lines = split(&[text.as_bytes()]);
        assert!(lines.iter().all(|line| line.len() <= LOG_LINE_BYTES));
        assert_eq!(lines.concat(), text);
        assert_eq!(split(&[&[b'a', 0xFF, b'\n']]), ["a\u{FFFD}"]);
        assert_eq!(split(&[&vec![0x80; 2 * LOG_LINE_BYTES]]).len(), 2, "what is no text is cut all the same");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), at in 0usize..200) {
            let at = at.min(bytes.len());
            prop_assert_eq!(split(&[&bytes]), split(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
