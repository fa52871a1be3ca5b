//! From lines to instructions: comments, continuations and heredocs, after BuildKit's `frontend/dockerfile/parser`.

use super::directives::Directives;
use super::heredoc;
use super::node::Node;
use super::{DockerfileFault, fault};

/// Longest line that an engine takes (Go's `bufio.MaxScanTokenSize` − 1).
const LINE_BYTES: usize = 64 * 1024 - 1;

/// Whether `<<EOF` begins a heredoc. Engines of 20.10 know none with their own frontend, and read the lines of its body as instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heredocs {
    Known,
    Unknown,
}

/// The instructions of a file, in order.
pub(super) struct Lexer<'a> {
    lines: std::slice::Iter<'a, &'a [u8]>,
    /// Lines that were taken so far.
    taken: u32,
    directives: Directives,
    heredocs: Heredocs,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(lines: &'a [&'a [u8]], heredocs: Heredocs) -> Self {
        Self { lines: lines.iter(), taken: 0, directives: Directives::new(), heredocs }
    }

    /// The next physical line without its end; the first without a byte-order mark.
    fn line(&mut self) -> Result<Option<&'a [u8]>, DockerfileFault> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.taken += 1;
        if line.len() > LINE_BYTES {
            let message = format!("dockerfile line greater than max allowed size of {LINE_BYTES}");
            return Err(fault(self.taken, "dockerfile_line_too_long", message));
        }
        let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
        let line = &line[..end];
        Ok(Some(if self.taken == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line }))
    }

    /// The next instruction; blank lines and comments are passed over.
    pub(super) fn instruction(&mut self) -> Result<Option<Node>, DockerfileFault> {
        while let Some(line) = self.line()? {
            let line = trim_start(line);
            self.directives.take(line, self.taken)?;
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let start = self.taken;
            let text = self.logical(line)?;
            let text = String::from_utf8(text)
                .map_err(|_| fault(start, "dockerfile_not_text", "the instruction is not UTF-8 text".into()))?;
            let mut node = Node::parse(&text, start, self.directives.escape)?;
            if self.heredocs == Heredocs::Known && node.may_have_heredocs() && text.contains("<<") {
                for heredoc in heredoc::in_line(&text) {
                    self.pass_over(&heredoc, start)?;
                    node.heredocs += 1;
                }
            }
            return Ok(Some(node));
        }
        Ok(None)
    }

    /// A line with those that continue it. Comments and blank lines between them are passed over.
    fn logical(&mut self, first: &[u8]) -> Result<Vec<u8>, DockerfileFault> {
        let (part, mut goes_on) = self.continued(first);
        let mut text = part.to_vec();
        while goes_on {
            let Some(line) = self.line()? else { break };
            let bare = trim_start(line);
            if bare.is_empty() || bare.starts_with(b"#") {
                continue;
            }
            let part;
            (part, goes_on) = self.continued(line);
            text.extend_from_slice(part);
        }
        Ok(text)
    }

    /// The line without its continuation mark, and whether it had one: the escape character at the end, maybe with blanks
    /// behind it, and not itself escaped.
    fn continued<'l>(&self, line: &'l [u8]) -> (&'l [u8], bool) {
        let escape = self.directives.escape as u8;
        let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |at| at + 1);
        match &line[..end] {
            [before @ .., last] if *last == escape && before.last() != Some(&escape) => (before, true),
            _ => (line, false),
        }
    }

    fn pass_over(&mut self, heredoc: &heredoc::Heredoc, start: u32) -> Result<(), DockerfileFault> {
        while let Some(line) = self.line()? {
            let line = if heredoc.chomp { trim_tabs(line) } else { line };
            if line == heredoc.name.as_bytes() {
                return Ok(());
            }
        }
        Err(fault(start, "dockerfile_unterminated_heredoc", "unterminated heredoc".into()))
    }
}

/// Without white space in front, of any kind that Unicode knows, as Go's `unicode.IsSpace` does; other bytes may be anything.
fn trim_start(line: &[u8]) -> &[u8] {
    let text = line.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    &line[text.len() - text.trim_start().len()..]
}

fn trim_tabs(line: &[u8]) -> &[u8] {
    let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
    &line[tabs..]
}
