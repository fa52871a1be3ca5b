//! A Dockerfile as an engine will read it: what it would refuse, and what the service has to know before it builds.
//!
//! The rules are BuildKit's (`frontend/dockerfile/parser` and `instructions`). [`check`] refuses nothing that an engine would build;
//! whatever differs between versions of engines is left to them.

mod directives;
mod expand;
mod heredoc;
mod lexer;
mod node;
mod outline;
mod rules;
mod words;

pub use expand::expand;
pub use outline::{Arg, Frontend, ImageName, Instruction, Needs, Outline, Stage, frontend_allowed};

use lexer::{Heredocs, Lexer};
use node::{Keyword, Node};

/// Why no engine could build from this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DockerfileFault {
    /// Line of the instruction, from 1; `None` when the file as a whole is at fault.
    pub line: Option<u32>,
    /// Stable, in `snake_case`.
    pub code: &'static str,
    /// In the engine's words where it has some.
    pub message: String,
}

fn fault(line: u32, code: &'static str, message: String) -> DockerfileFault {
    DockerfileFault { line: Some(line), code, message: format!("dockerfile parse error line {line}: {message}") }
}

fn whole(code: &'static str, message: &str) -> DockerfileFault {
    DockerfileFault { line: None, code, message: message.into() }
}

/// Reads a Dockerfile.
///
/// # Errors
/// `dockerfile_empty`, `dockerfile_not_text`, `dockerfile_directive`, `dockerfile_line_too_long`, `dockerfile_unterminated_heredoc`,
/// `dockerfile_unknown_instruction`, `dockerfile_no_from`, `dockerfile_syntax`: the first fault that the engine would name.
pub fn check(text: &[u8]) -> Result<Outline, DockerfileFault> {
    if text.trim_ascii().is_empty() {
        return Err(whole("dockerfile_empty", "the Dockerfile is empty"));
    }
    refuse_binary(text)?;
    let lines = lines(text);
    let nodes = read(&lines, Heredocs::Known)?;
    if nodes.is_empty() {
        return Err(whole("dockerfile_empty", "the Dockerfile has no instructions, only comments"));
    }
    check_order(&nodes)?;
    // An engine without heredocs would read what is in them as instructions: the images that these name count as well.
    let hidden = match nodes.iter().any(|node| node.heredocs > 0) {
        true => read_on(&lines),
        false => Vec::new(),
    };
    Ok(Outline::of(&nodes, &hidden, directives::frontends(text)))
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What follows the last line's end is no line.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines
}

fn read(lines: &[&[u8]], heredocs: Heredocs) -> Result<Vec<Node>, DockerfileFault> {
    let mut lexer = Lexer::new(lines, heredocs);
    std::iter::from_fn(|| lexer.instruction().transpose()).collect()
}

/// What can be read without knowing heredocs; faults are passed over.
fn read_on(lines: &[&[u8]]) -> Vec<Node> {
    let mut lexer = Lexer::new(lines, Heredocs::Unknown);
    std::iter::from_fn(|| lexer.instruction().transpose()).flatten().collect()
}

/// Before the first `FROM` only `ARG` may stand, and a `FROM` there must be.
fn check_order(nodes: &[Node]) -> Result<(), DockerfileFault> {
    let mut in_stage = false;
    for node in nodes {
        rules::check(node)?;
        match node.keyword {
            Some(Keyword::From) => in_stage = true,
            Some(Keyword::Arg) => {}
            _ if !in_stage => {
                return Err(fault(node.line, "dockerfile_no_from", "no build stage in current context".into()));
            }
            _ => {}
        }
    }
    if in_stage { Ok(()) } else { Err(whole("dockerfile_no_from", "dockerfile contains no stages to build: there is no FROM")) }
}

/// Files of other kinds are named as what they are, rather than by the first byte that is no instruction.
fn refuse_binary(text: &[u8]) -> Result<(), DockerfileFault> {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"%PDF-", "a PDF"),
        (b"\x7fELF", "a program"),
        (b"\x89PNG", "an image"),
        (b"PK\x03\x04", "a zip archive; send it as `context`"),
        (b"\x1f\x8b", "a gzip file; send an archive as `context`"),
        (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
    ];
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Err(whole("dockerfile_not_text", &format!("the Dockerfile is not a text file but {what}")));
    }
    let Some(at) = text.iter().position(|byte| *byte == 0) else { return Ok(()) };
    let line = 1 + text[..at].iter().filter(|byte| **byte == b'\n').count();
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    Err(fault(line, "dockerfile_not_text", "the file has NUL bytes and is not a text file".into()))
}

#[cfg(test)]
mod tests;
