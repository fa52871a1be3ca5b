//! `.dockerignore`: which entries of a context never reach the engine.
//!
//! The rules are Docker's, not gitignore's: patterns are rooted at the context, the last that matches wins, a pattern that matches a
//! directory matches what is in it, and `!` takes back. Source: moby/patternmatcher with its `ignorefile`, and
//! the Dockerfile reference, ".dockerignore file".

mod pattern;

use super::archive::Walk;
use super::fault::{ContextError, ContextFault};
use pattern::Pattern;

/// Longest ignore file that is read, in bytes.
const IGNORE_BYTES: u64 = 1 << 20;
/// Longest line, because the engine's own reader takes no longer one.
const LINE_BYTES: usize = 64 * 1024 - 1;
/// Most patterns: each is tried on each entry.
const PATTERNS: usize = 5_000;

/// Whether `path` can be the ignore file of this Dockerfile: `.dockerignore`, or `NAME.dockerignore` beside it.
#[must_use]
pub fn is_ignore_file(path: &str, dockerfile: &str) -> bool {
    path == ".dockerignore" || is_own_ignore_file(path, dockerfile)
}

/// Whether `path` is the ignore file of this Dockerfile alone, which takes precedence.
#[must_use]
pub(super) fn is_own_ignore_file(path: &str, dockerfile: &str) -> bool {
    path.strip_suffix(".dockerignore") == Some(dockerfile)
}

/// The patterns of an ignore file, in their order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Whether it takes back what a rule before it excluded.
    exception: bool,
    pattern: Pattern,
}

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// `invalid_dockerignore`, naming the line, for a pattern that the Docker CLI refuses as well.
    pub fn parse(text: &[u8]) -> Result<Self, ContextFault> {
        let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.split('\n')) {
            let refuse = |why: &str| ContextFault::new("invalid_dockerignore", format!("line {number} of the ignore file {why}"));
            if line.len() > LINE_BYTES {
                return Err(refuse("is too long"));
            }
            if let Some(rule) = rule(line).map_err(&refuse)? {
                rules.push(rule);
            }
            if rules.len() > PATTERNS {
                return Err(refuse(&format!("is over the limit of {PATTERNS} patterns")));
            }
        }
        Ok(Self { rules })
    }

    /// Reads the ignore file that the walk stands at.
    pub(super) fn read(walk: &mut Walk, path: &str) -> Result<Self, ContextError> {
        let text = walk.text(IGNORE_BYTES)?.ok_or_else(|| {
            let detail = format!("{path:?} is larger than the limit of {IGNORE_BYTES} bytes");
            ContextFault::too_large("dockerignore_too_large", detail)
        })?;
        Ok(Self::parse(&text)?)
    }

    /// Whether the entry at this clean path is left out.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that could change nothing is not tried.
            if rule.exception == excluded && rule.matches(path) {
                excluded = !rule.exception;
            }
        }
        excluded
    }

    /// Whether an entry below an excluded directory may still be sent.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        self.pattern.matches(path) || path.match_indices('/').any(|(at, _)| self.pattern.matches(&path[..at]))
    }
}

fn rule(line: &str) -> Result<Option<Rule>, &'static str> {
    if line.starts_with('#') {
        return Ok(None);
    }
    let line = line.trim();
    let (exception, text) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if text.is_empty() {
        return if exception { Err("has an exclamation mark without a pattern") } else { Ok(None) };
    }
    let text = clean(text);
    let text = text.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&text);
    if exception && text == "/" {
        return Err("has an exclamation mark without a pattern");
    }
    Pattern::parse(text).map(|pattern| Some(Rule { exception, pattern })).ok_or("has a malformed pattern")
}

/// The shortest form of a slash-separated path, as Go's `path.Clean` makes it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".into(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests;
