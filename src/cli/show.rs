//! How answers are shown: to programs as the service's JSON, to people as lines and tables in which nothing can pass itself off as
//! something else. Names, images and messages may be somebody else's, and a terminal obeys what it is shown.

use std::io::{self, Write as _};

use serde_json::Value;

use super::commands::Remote;
use super::say;
use crate::worker::plain;

/// Characters that turn the direction of a text, and so what a line seems to say.
const TURNS: [std::ops::RangeInclusive<char>; 3] = ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// The text with what a terminal would obey made visible.
pub(super) fn visible(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || TURNS.iter().any(|range| range.contains(&c));
    text.chars().map(|c| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// JSON that is safe on a terminal too: what JSON itself does not escape of control characters, those of C1, is in its strings.
pub(super) fn json(value: &Value) -> String {
    let raw = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
    value.to_string().chars().map(|c| if raw(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// A field as it stands in a table.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Array(items) if !items.is_empty() => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(fields) if !fields.is_empty() => visible(&json(value)),
        Value::Null | Value::Array(_) | Value::Object(_) => "-".into(),
        other => other.to_string(),
    }
}

/// A field, or one of a field's own: `app.name`.
fn at<'a>(value: &'a Value, field: &str) -> &'a Value {
    field.split('.').fold(value, |value, part| &value[part])
}

/// One object, a line a field.
pub(super) fn show(remote: &Remote, value: &Value, fields: &[&str]) {
    if remote.json {
        return say(&format!("{}\n", json(value)));
    }
    let width = fields.iter().map(|field| field.len() + 2).max().unwrap_or(0).max(14);
    for field in fields {
        say(&format!("{field:<width$}{}\n", text(at(value, field))));
    }
}

/// A table, its columns as wide as they must be.
pub(super) fn show_all(remote: &Remote, items: Vec<Value>, fields: &[&str]) {
    if remote.json {
        return say(&format!("{}\n", json(&Value::Array(items))));
    }
    let head: Vec<String> = fields.iter().map(|field| field.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(items.iter().map(|item| fields.iter().map(|field| text(at(item, field))).collect()))
        .collect();
    let widths: Vec<usize> =
        (0..fields.len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        say(&format!("{}\n", line.trim_end()));
    }
}

/// Writes a part of something that goes on; false when nobody reads it any more.
pub(super) fn put(bytes: &[u8]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true),
    }
}

/// Lines that somebody's program has put out, for a terminal: colours pass, nothing else that it would obey.
pub(super) fn only_colours(lines: &[u8]) -> String {
    let shown = |line: &str| match plain(line) {
        line if line.contains('\u{1b}') => format!("{line}\u{1b}[0m\n"),
        line => format!("{line}\n"),
    };
    String::from_utf8_lossy(lines).lines().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        assert_eq!(visible("a\u{1b}]0;x\u{7}\u{9b}2J\n\u{202e}é"), "a\\u{1b}]0;x\\u{7}\\u{9b}2J\\n\\u{202e}é");
        assert_eq!(text(&json!(["a", 1, "b\r"])), "a,1,b\\r");
        assert_eq!(text(&json!({"k\u{1b}": "\u{9b}"})), "{\"k\\u001b\":\"\\u009b\"}");
        assert_eq!(
            (text(&json!([])), text(&json!({})), text(&json!(null)), text(&json!(false))),
            ("-".into(), "-".into(), "-".into(), "false".into())
        );
        assert_eq!(only_colours(b"\x1b[31mred\x1b[2J\r\n\xff\n"), "\u{1b}[31mred\u{1b}[0m\n\u{fffd}\n");
    }

    #[test]
    fn json_stays_what_it_says() {
        let value = json!({"a\u{9b}": "\u{1b}\u{7f}\u{85}é"});
        let shown = super::json(&value);
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
    }
}
