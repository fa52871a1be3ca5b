//! Lines that were cut for their length are cleaned across the cut, where a secret may stand.

use std::collections::HashMap;

use super::redact::Redactor;
use super::sanitize::plain;
use crate::domain::{LogLine, LogStream, limits};

/// A cut leaves no less than this of a line: it stands between two characters.
const CUT_BYTES: usize = limits::LOG_LINE_BYTES - 3;

/// A longer escape sequence is none that we wait for.
const ESCAPE_BYTES: usize = 32;

/// Cleans a log line by line. Of each line that goes on it keeps a few bytes until the rest has come.
pub(super) struct Seams {
    redactor: Redactor,
    open: HashMap<(LogStream, Option<String>), Kept>,
}

/// What is kept of a line that goes on.
#[derive(Default)]
struct Kept {
    /// May be the beginning of a secret.
    text: String,
    /// The beginning of an escape sequence, as it came.
    escape: String,
}

impl Seams {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { redactor, open: HashMap::new() }
    }

    /// The line without escape sequences and secrets, from what was kept of the one before it to what is kept of this one.
    pub(super) fn clean(&mut self, line: &LogLine) -> LogLine {
        let step = line.step.as_ref().map(|step| self.redactor.clean(&plain(step)).into_owned());
        let key = (line.stream, step);
        let Kept { mut text, escape: mut come } = self.open.remove(&key).unwrap_or_default();
        come.push_str(&line.text);
        let is_output = matches!(line.stream, LogStream::Stdout | LogStream::Stderr);
        if !is_output || line.text.len() < CUT_BYTES {
            text.push_str(&plain(&come));
            let text = self.redactor.clean(&text).into_owned();
            return LogLine { stream: key.0, step: key.1, text };
        }
        let escape = come.split_off(escape_at_end(&come));
        text.push_str(&plain(&come));
        let front = self.redactor.clean_front(&mut text);
        let line = LogLine { stream: key.0, step: key.1.clone(), text: front };
        self.open.insert(key, Kept { text, escape });
        line
    }

    /// What is kept of lines of which no more came.
    pub(super) fn finish(self) -> impl Iterator<Item = LogLine> {
        let Self { redactor, open } = self;
        let left = open.into_iter().filter(|(_, kept)| !kept.text.is_empty());
        left.map(move |((stream, step), kept)| LogLine { stream, step, text: redactor.clean(&kept.text).into_owned() })
    }
}

/// Where a sequence begins that the cut may have split: one ends with a letter.
fn escape_at_end(text: &str) -> usize {
    let near = text.floor_char_boundary(text.len().saturating_sub(ESCAPE_BYTES));
    let last = text[near..].rfind('\u{1b}').map(|at| near + at);
    last.filter(|at| !text[*at..].contains(|c: char| c.is_ascii_alphabetic())).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::super::redact::letters;
    use super::*;
    use crate::domain::{BuildSecret, Entrusted, REDACTED};

    /// What becomes of one line that a step writes, cut as it comes from the engine.
    fn cleaned(secret: &str, written: &str) -> String {
        let secrets = vec![BuildSecret::new("x", secret.as_bytes().to_vec().into())];
        let mut seams = Seams::new(Redactor::of(&Entrusted { secrets, ..Entrusted::default() }));
        let (mut told, mut rest) = (String::new(), written);
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.floor_char_boundary(limits::LOG_LINE_BYTES));
            rest = left;
            let line = LogLine { stream: LogStream::Stdout, step: Some("a".into()), text: piece.into() };
            // Another step writes in between.
            let other = LogLine { stream: LogStream::Stdout, step: Some("b".into()), text: "other".into() };
            assert_eq!(seams.clean(&other), other);
            let clean = seams.clean(&line);
            assert!(seams.open.values().all(|kept| kept.text.len() + kept.escape.len() < 256), "memory stays flat");
            told.push_str(&clean.text);
        }
        told.extend(seams.finish().map(|line| line.text));
        told
    }

    #[test]
    fn a_secret_across_a_cut_is_found() {
        let secrets = ["short-12".to_owned(), "é€token".repeat(4), letters(680)];
        for secret in &secrets {
            for before in [0, 1, 7, 8, 31, 63, 64, 65, secret.len() - 1, secret.len(), secret.len() + 1] {
                let offset = limits::LOG_LINE_BYTES.saturating_sub(before);
                let written = format!("{}{secret}{}", "x".repeat(offset), "y".repeat(20_000));
                let told = cleaned(secret, &written);
                let (front, back) = told.split_once(REDACTED).unwrap_or_else(|| panic!("{before}: found"));
                assert_eq!(front.len(), offset, "{before}: nothing else is lost");
                assert_eq!(back.replace(REDACTED, "").len(), 20_000, "{before}: nothing of it is left");
            }
        }
    }

    #[test]
    fn a_secret_longer_than_a_line_is_found() {
        let secret = letters(3 * limits::LOG_LINE_BYTES);
        for (before, after) in [("", ""), ("told: ", " :told"), (&*"x".repeat(70), &*"y".repeat(40_000))] {
            let told = cleaned(&secret, &format!("{before}{secret}{after}"));
            assert_eq!(told.replace(REDACTED, ""), format!("{before}{after}"));
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let written = "é\u{1b}[31m0123456789\u{1b}[0m".repeat(5_000);
        assert!(cleaned("nothing-of-this", &written) == written);
        // A line that seems to go on and does not.
        assert_eq!(cleaned("nothing-of-this", &"x".repeat(limits::LOG_LINE_BYTES)), "x".repeat(limits::LOG_LINE_BYTES));
    }
}
