//! A manifest that is told as what has changed since another one: its lines, with those of other files in their place, and without
//! those that are gone.

use std::collections::HashMap;
use std::io::{self, BufRead, Cursor, Read};

use serde::Deserialize;

use super::super::archive::clean;
use super::super::fault::{ContextError, ContextFault, quoted};
use super::kept::Lines;

/// Most bytes of changes, which are held in memory; who has more to tell sends everything.
pub(super) const CHANGES_BYTES: u64 = 16 << 20;

/// Of a line only what tells whose place it takes; the rest is checked with the whole manifest.
#[derive(Deserialize)]
struct Named {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The lines of the whole manifest.
pub(super) struct Changed {
    base: io::Split<Lines>,
    /// By path; `None` for what is gone.
    changes: HashMap<String, Option<Vec<u8>>>,
    /// The paths of `changes` as they came: what the base does not name comes after it, in this order.
    order: std::vec::IntoIter<String>,
    line: Cursor<Vec<u8>>,
}

impl Changed {
    /// Reads all changes, one a line.
    pub(super) fn new(base: Lines, changes: impl BufRead) -> Result<Self, ContextError> {
        let (mut by_path, mut order) = (HashMap::new(), Vec::new());
        for (number, line) in (1_u64..).zip(changes.split(b'\n')) {
            let mut line = line.map_err(ContextError::reading)?;
            let named: Named = serde_json::from_slice(&line)
                .map_err(|error| ContextFault::new("invalid_manifest", format!("line {number} of the changes: {error}")))?;
            // One that cannot be is refused with the whole manifest.
            let path = clean(named.path.as_bytes()).unwrap_or(named.path);
            line.push(b'\n');
            if by_path.insert(path.clone(), (named.kind != "gone").then_some(line)).is_some() {
                let detail = format!("the path {} comes twice among the changes", quoted(path.as_bytes()));
                return Err(ContextFault::new("duplicate_path", detail).into());
            }
            order.push(path);
        }
        Ok(Self { base: base.split(b'\n'), changes: by_path, order: order.into_iter(), line: Cursor::default() })
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        for line in self.base.by_ref() {
            let mut line = line?;
            let named: Named = serde_json::from_slice(&line)?;
            match self.changes.remove(&named.path) {
                None => {
                    line.push(b'\n');
                    return Ok(Some(line));
                }
                Some(Some(changed)) => return Ok(Some(changed)),
                Some(None) => {}
            }
        }
        Ok(self.order.by_ref().find_map(|path| self.changes.remove(&path).flatten()))
    }
}

impl Read for Changed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.line.read(buf)?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            match self.next_line()? {
                Some(line) => self.line = Cursor::new(line),
                None => return Ok(0),
            }
        }
    }
}
