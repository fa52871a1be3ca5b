use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::fault::{ContextError, ContextFault};
use super::super::storage::remove_if_there;
use super::entry::{Entry, EntryKind, RawEntries, RawEntry, RawKind};
use super::meter::Meter;

/// A SHA-256.
pub type Sum = [u8; 32];

/// Longest line: a path and a target of the longest kind, each byte of them escaped.
const LINE_BYTES: u64 = 64 * 1024;

/// What an entry of a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineKind {
    File,
    Dir,
    Symlink,
}

/// One entry of a manifest, a line of JSON (see `docs/uploads.md`). Made of an [`Entry`], and checked only when it is read as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLine {
    path: String,
    #[serde(rename = "type")]
    kind: LineKind,
    /// Octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<u64>,
}

impl ManifestLine {
    /// Of an entry; of a file with the SHA-256 of its bytes. A hard link is none: it is sent as the file that it is.
    #[must_use]
    pub fn of(entry: &Entry, content: Option<&Sum>) -> Option<Self> {
        let (kind, size, target) = match &entry.kind {
            EntryKind::File { size } => (LineKind::File, Some(*size), None),
            EntryKind::Dir => (LineKind::Dir, None, None),
            EntryKind::Symlink { target } => (LineKind::Symlink, None, Some(target.clone())),
            EntryKind::HardLink { .. } => return None,
        };
        let mode = (kind != LineKind::Symlink).then(|| format!("{:o}", entry.mode));
        let sha256 = content.map(hex::encode);
        Some(Self { path: entry.path.clone(), kind, mode, size, sha256, target, mtime: Some(entry.mtime) })
    }

    fn raw(self) -> Result<(RawEntry, Option<Sum>), String> {
        let usual = if self.kind == LineKind::Dir { 0o755 } else { 0o644 };
        let mode = match &self.mode {
            Some(text) => {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
                mode.ok_or_else(|| format!("mode {text:?} must be octal, at most 7777"))?
            }
            None => usual,
        };
        let content = self.sha256.as_deref().map(sum_of).transpose()?;
        let (kind, size) = match (self.kind, self.size, content, &self.target) {
            (LineKind::File, Some(size), Some(_), None) => (RawKind::File, size),
            (LineKind::Dir, None, None, None) => (RawKind::Dir, 0),
            (LineKind::Symlink, None, None, Some(_)) => (RawKind::Symlink, 0),
            (LineKind::File, ..) => return Err("a file has size and sha256, and no target".into()),
            (LineKind::Dir, ..) => return Err("a dir has neither size, sha256 nor target".into()),
            (LineKind::Symlink, ..) => return Err("a symlink has a target, and neither size nor sha256".into()),
        };
        let link = self.target.unwrap_or_default().into_bytes();
        Ok((RawEntry { name: self.path.into_bytes(), link, kind, size, mode, mtime: self.mtime.unwrap_or(0) }, content))
    }
}

/// 64 lower-case hexadecimal digits.
pub(in crate::context) fn sum_of(text: &str) -> Result<Sum, String> {
    let mut sum = Sum::default();
    let plain = text.len() == 64 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut sum) {
        Ok(()) if plain => Ok(sum),
        _ => Err(format!("sha256 {:?} must be 64 hexadecimal digits in lower case", text.chars().take(80).collect::<String>())),
    }
}

/// The entries of a manifest, in its order.
pub(super) struct ManifestEntries {
    lines: Box<dyn BufRead + Send>,
    number: u64,
    meter: Meter,
    blobs: PathBuf,
    stated: Option<Sum>,
    /// The current file's bytes, once some of them are asked for.
    data: Option<File>,
    hash: Sha256,
    left: u64,
}

impl ManifestEntries {
    pub(super) fn new(lines: Box<dyn BufRead + Send>, blobs: PathBuf, meter: Meter) -> Self {
        Self { lines, number: 0, meter, blobs, stated: None, data: None, hash: Sha256::new(), left: 0 }
    }

    fn refused(&self, why: &str) -> ContextError {
        ContextFault::new("invalid_manifest", format!("line {} of the manifest: {why}", self.number)).into()
    }

    fn line(&mut self) -> Result<Option<ManifestLine>, ContextError> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(ContextError::reading)?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        if !line.ends_with(b"\n") && read as u64 == LINE_BYTES {
            return Err(self.refused(&format!("it is longer than {LINE_BYTES} bytes")));
        }
        serde_json::from_slice(&line).map(Some).map_err(|error| self.refused(&error.to_string()))
    }
}

impl RawEntries for ManifestEntries {
    fn next_raw(&mut self) -> Result<Option<RawEntry>, ContextError> {
        (self.stated, self.data, self.hash, self.left) = (None, None, Sha256::new(), 0);
        let Some(line) = self.line()? else { return Ok(None) };
        let (raw, content) = line.raw().map_err(|why| self.refused(&why))?;
        self.meter.count(raw.size, &raw.name)?;
        (self.stated, self.left) = (content, raw.size);
        Ok(Some(raw))
    }

    fn data(&mut self) -> &mut dyn Read {
        self
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn stated(&self) -> Option<Sum> {
        self.stated
    }
}

/// What was checked when it came is not what is on the disk now.
fn damaged(blob: &Path, what: &str) -> io::Error {
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    io::Error::other(format!("the blob {name} {what} on the service's disk: send the context again"))
}

/// A blob that is not what it is named by is taken away, so that it comes again.
impl Read for ManifestEntries {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(sum) = self.stated.filter(|_| most > 0) else { return Ok(0) };
        let blob = self.blobs.join(hex::encode(sum));
        let data = match &mut self.data {
            Some(data) => data,
            None => match File::open(&blob) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged(&blob, "is not there any more")),
                opened => self.data.insert(opened?),
            },
        };
        let read = data.read(&mut buf[..most])?;
        self.hash.update(&buf[..read]);
        self.left -= read as u64;
        if read == 0 || self.left == 0 && Sum::from(self.hash.finalize_reset()) != sum {
            remove_if_there(&blob)?;
            return Err(damaged(&blob, "was damaged"));
        }
        Ok(read)
    }
}
