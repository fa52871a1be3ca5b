//! From the engine's messages, each with its time before it, to lines.
//!
//! The engine cuts a line into messages of 16 KiB, all with the time of the first. The `local` driver writes no newline behind the last
//! of them, so that the next line follows at once: with frames each message is known by its frame, with a terminal
//! by its time at the beginning of a chunk.

use crate::domain::limits::LOG_LINE_BYTES;
use crate::engine::containers::OutputLine;

use super::lines::whole_characters;

/// Longest time that an engine writes: `2006-01-02T15:04:05.000000000+07:00`.
const TIME_BYTES: usize = 35;
/// How each begins; `0` stands for a digit.
const TIME_FORM: &[u8] = b"0000-00-00T00:00:00.000000000";

/// Cuts one stream into lines; holds at most one of [`LOG_LINE_BYTES`].
pub(super) struct Cutter {
    stderr: bool,
    nanos: i64,
    /// What may become a time.
    head: Option<Vec<u8>>,
    text: Vec<u8>,
    /// A piece of this line was given already: its end alone is no line.
    begun: bool,
}

impl Cutter {
    pub(super) fn new(stderr: bool) -> Self {
        Self { stderr, nanos: 0, head: Some(Vec::new()), text: Vec::new(), begun: false }
    }

    pub(super) fn is_holding(&self) -> bool {
        !self.text.is_empty() || self.head.as_ref().is_some_and(|head| !head.is_empty())
    }

    /// Adds bytes; answers the lines that they completed. `begins`: a message may begin with them.
    pub(super) fn push(&mut self, bytes: &[u8], begins: bool) -> Vec<OutputLine> {
        let mut lines = Vec::new();
        if begins && self.head.is_none() {
            self.head = Some(Vec::new());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(head) = &mut self.head {
                let wanted = rest.iter().position(|byte| matches!(byte, b' ' | b'\n')).map_or(rest.len(), |at| at + 1);
                let wanted = wanted.min((TIME_BYTES + 1).saturating_sub(head.len()).max(1));
                head.extend_from_slice(&rest[..wanted]);
                rest = &rest[wanted..];
                if head.ends_with(b" ") || head.len() > TIME_BYTES || !may_be_time(head) {
                    lines.extend(self.end_head());
                }
            } else {
                let end = rest.iter().position(|byte| *byte == b'\n');
                self.add(&rest[..end.unwrap_or(rest.len())], &mut lines);
                rest = end.map_or(&[][..], |at| &rest[at + 1..]);
                if end.is_some() {
                    lines.extend(self.end_line());
                }
            }
        }
        lines
    }

    /// What is held, though its line has no end.
    pub(super) fn let_go(&mut self) -> Option<OutputLine> {
        if let Some(head) = self.head.take() {
            self.text.extend(head);
        }
        let line = (!self.text.is_empty()).then(|| self.take(self.text.len()));
        self.begun |= line.is_some();
        line
    }

    /// The head is as long as it gets: it is a time, or was text all along.
    fn end_head(&mut self) -> Vec<OutputLine> {
        let head = self.head.take().unwrap_or_default();
        let mut lines = Vec::new();
        if let Some(nanos) = time(&head) {
            // A message after one without newline: the same line goes on, or another begins; either way a piece ends here.
            let goes_on = nanos == self.nanos;
            if !goes_on {
                self.drop_return();
            }
            if !self.text.is_empty() {
                lines.push(self.take(self.text.len()));
                self.begun = true;
            }
            self.begun &= goes_on;
            self.nanos = nanos;
        } else {
            let (text, ended) = head.strip_suffix(b"\n").map_or((&head[..], false), |text| (text, true));
            self.add(text, &mut lines);
            if ended {
                lines.extend(self.end_line());
            }
        }
        lines
    }

    fn add(&mut self, mut bytes: &[u8], lines: &mut Vec<OutputLine>) {
        while self.text.len() + bytes.len() > LOG_LINE_BYTES {
            let (now, later) = bytes.split_at(LOG_LINE_BYTES - self.text.len());
            self.text.extend_from_slice(now);
            let whole = whole_characters(&self.text);
            lines.push(self.take(whole));
            self.begun = true;
            bytes = later;
        }
        self.text.extend_from_slice(bytes);
    }

    fn end_line(&mut self) -> Option<OutputLine> {
        self.head = Some(Vec::new());
        self.drop_return();
        let begun = std::mem::take(&mut self.begun);
        (!begun || !self.text.is_empty()).then(|| self.take(self.text.len()))
    }

    /// A terminal ends its lines with a carriage return, too.
    fn drop_return(&mut self) {
        if self.text.ends_with(b"\r") {
            self.text.pop();
        }
    }

    fn take(&mut self, length: usize) -> OutputLine {
        let rest = self.text.split_off(length);
        let text = std::mem::replace(&mut self.text, rest);
        let text = String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        OutputLine { nanos: self.nanos, stderr: self.stderr, text }
    }
}

fn may_be_time(head: &[u8]) -> bool {
    head.iter().zip(TIME_FORM).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

/// The nanoseconds since the epoch that a time and its blank tell.
fn time(head: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(head.strip_suffix(b" ")?).ok()?;
    // `2006-01-02T15:04:05.000000000Z` at least: shorter ones are a program's own.
    let at: jiff::Timestamp = (text.len() >= 30).then(|| text.parse().ok())??;
    i64::try_from(at.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T11:39:32.745584453Z ";
    const LATER: &str = "2026-11-21T13:39:33.000000001+02:00 ";

    fn cut(chunks: &[&[u8]]) -> Vec<(i64, String)> {
        let mut cutter = Cutter::new(false);
        let mut lines: Vec<_> = chunks.iter().flat_map(|chunk| cutter.push(chunk, true)).collect();
        lines.extend(cutter.let_go());
        lines.into_iter().map(|line| (line.nanos % 1_000_000_000, line.text)).collect()
    }

    fn texts(chunks: &[&[u8]]) -> Vec<String> {
        cut(chunks).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn times_are_split_off_in_either_form() {
        let chunk = format!("{TIME}one\r\n{LATER}two words\n{LATER}\n{LATER}no end");
        let expected = [(745_584_453, "one"), (1, "two words"), (1, ""), (1, "no end")].map(|(at, text)| (at, text.to_owned()));
        assert_eq!(cut(&[chunk.as_bytes()]), expected);
        for at in 0..chunk.len() {
            let (a, b) = chunk.as_bytes().split_at(at);
            assert_eq!(cut(&[a, b]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_long_line_comes_as_pieces_and_the_next_is_another() {
        let long = "x".repeat(LOG_LINE_BYTES);
        let pieces = [format!("{TIME}{long}"), format!("{TIME}{long}"), format!("{TIME}end\r"), format!("{LATER}next\n")];
        let chunks: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        assert_eq!(texts(&chunks), [&long, &long, "end", "next"]);
        let over = format!("{TIME}{}\n", "ä".repeat(LOG_LINE_BYTES));
        let lines = texts(&[over.as_bytes()]);
        assert!(lines.iter().all(|line| line.len() <= LOG_LINE_BYTES));
        assert_eq!(lines.concat(), "ä".repeat(LOG_LINE_BYTES));
        let exact = format!("{TIME}{long}\n{TIME}\n");
        assert_eq!(texts(&[exact.as_bytes()]), [&long, ""], "its end is no line, an empty line is one");
    }

    #[test]
    fn what_was_let_go_is_not_told_again() {
        let mut cutter = Cutter::new(true);
        assert_eq!(cutter.push(format!("{TIME}abc").as_bytes(), true), []);
        assert!(cutter.is_holding());
        let line = cutter.let_go().expect("held");
        assert_eq!((line.text.as_str(), line.stderr), ("abc", true));
        assert!(!cutter.is_holding());
        assert_eq!(cutter.push(b"\n", true), []);
        assert_eq!(cutter.push(format!("{TIME}\n").as_bytes(), true).len(), 1);
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(texts(&[TIME.as_bytes(), b"a\xFFb\n"]), ["a\u{FFFD}b"]);
        assert_eq!(texts(&[b"Error grabbing logs: gone\n"]), ["Error grabbing logs: gone"]);
    }
}
