//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of the file.

use super::{Frontend, fault};
use crate::context::dockerfile::DockerfileFault;

/// The directives as the parser itself reads them: it stops at the first line that is none it knows.
pub(super) struct Directives {
    pub escape: char,
    seen: Vec<String>,
    done: bool,
}

impl Directives {
    pub(super) fn new() -> Self {
        Self { escape: '\\', seen: Vec::new(), done: false }
    }

    /// Takes a line of the file, without white space before it.
    pub(super) fn take(&mut self, line: &[u8], number: u32) -> Result<(), DockerfileFault> {
        if self.done {
            return Ok(());
        }
        let known = directive(line).filter(|(key, _)| matches!(key.as_str(), "syntax" | "escape" | "check"));
        let Some((key, value)) = known else {
            self.done = true;
            return Ok(());
        };
        if self.seen.contains(&key) {
            let message = format!("only one {key} parser directive can be used");
            return Err(fault(number, "dockerfile_directive", message));
        }
        if key == "escape" {
            self.escape = match value.as_str() {
                "`" => '`',
                "\\" => '\\',
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    return Err(fault(number, "dockerfile_directive", message));
                }
            };
        }
        self.seen.push(key);
        Ok(())
    }
}

/// Every frontend that some engine would take from this file. Engines differ: newer ones pass over a `#!` line, older ones over directives
/// that they do not know, and take the last of several. What any of them would pull counts.
pub(super) fn frontends(text: &[u8]) -> Vec<Frontend> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if number == 1 && line.starts_with(b"#!") {
            continue;
        }
        let Some((key, value)) = directive(line.trim_ascii_start()) else { break };
        if key == "syntax" {
            let image = value.split(' ').next().unwrap_or_default().to_owned();
            found.push(Frontend { image, line: number });
        }
    }
    found
}

/// `# key = value`; the key in lower case.
fn directive(line: &[u8]) -> Option<(String, String)> {
    let body = String::from_utf8_lossy(line.strip_prefix(b"#")?);
    let (key, value) = body.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_key && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value.to_owned()))
}
