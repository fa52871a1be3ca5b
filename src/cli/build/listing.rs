//! The manifest of a folder, whole or as what has changed since the last one that the service was told of.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use super::hashes::Hashed;
use super::listed;
use crate::cli::context::Local;
use crate::context::archive::{ManifestLine, Sum};

const FORM: &str = "dockwright manifest 1\n";
/// What tells a line from another.
type Mark = [u8; 16];

/// All lines of a folder's manifest.
pub(super) struct Listing {
    text: Vec<u8>,
    /// Path, end in `text`, and mark of each line.
    lines: Vec<(String, usize, Mark)>,
}

/// What the service was told last of a folder.
pub(super) struct Base {
    file: Option<PathBuf>,
    /// The manifest's id; empty when there is none.
    id: String,
    marks: HashMap<String, Mark>,
}

impl Listing {
    pub(super) fn of(entries: &[Local], all: &[Option<Hashed>]) -> anyhow::Result<Self> {
        let (mut text, mut lines) = (Vec::new(), Vec::with_capacity(entries.len()));
        for (local, hashed) in entries.iter().zip(all) {
            let sum: Option<&Sum> = hashed.as_ref().map(|(_, sum)| sum);
            let line =
                ManifestLine::of(&local.entry, sum).context("a folder holds no hard links, because each is read as a file")?;
            let start = text.len();
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
            let whole: Sum = Sha256::digest(&text[start..]).into();
            let mark: Mark = *whole.first_chunk().expect("a hash is longer than a mark, because both lengths are constants");
            lines.push((local.entry.path.clone(), text.len(), mark));
        }
        Ok(Self { text, lines })
    }

    /// All lines, in zstd.
    pub(super) fn whole(&self) -> io::Result<Vec<u8>> {
        zstd::stream::encode_all(self.text.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL)
    }

    /// The lines that are not as the base has them, in zstd, with the base's id; `None` when there is no base, or little of it is left.
    pub(super) fn since<'a>(&self, base: &'a Base) -> io::Result<Option<(&'a str, Vec<u8>)>> {
        if base.id.is_empty() {
            return Ok(None);
        }
        let mut changes = Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
        let (mut start, mut changed, mut here) = (0, 0, HashSet::with_capacity(self.lines.len()));
        for (path, end, mark) in &self.lines {
            if base.marks.get(path) != Some(mark) {
                changes.write_all(&self.text[start..*end])?;
                changed += 1;
            }
            here.insert(path.as_str());
            start = *end;
        }
        for path in base.marks.keys().filter(|path| !here.contains(path.as_str())) {
            serde_json::to_writer(&mut changes, &json!({"path": path, "type": "gone"}))?;
            changes.write_all(b"\n")?;
            changed += 1;
        }
        Ok(if changed <= self.lines.len() / 2 { Some((&base.id, changes.finish()?)) } else { None })
    }
}

impl Base {
    /// What was remembered of a folder and a service.
    pub(super) fn of(folder: &Path, service: &str) -> Self {
        let file = listed::place("manifests", &[folder.as_os_str().as_encoded_bytes(), service.as_bytes()]);
        let known = file.as_ref().and_then(|file| listed::read(file, FORM, |mark| mark.try_into().ok()));
        let (id, marks) = known.unwrap_or_default();
        Self { file, id, marks }
    }

    /// Remembers what the service was told just now.
    pub(super) fn remember(&self, id: &str, listing: &Listing) {
        let Some(file) = &self.file else { return };
        let lines = listing.lines.iter().map(|(path, _, mark)| (path.as_str(), mark));
        // Where it cannot be written, the next upload tells everything again.
        let _ = listed::write(file, FORM, id, lines);
    }
}
