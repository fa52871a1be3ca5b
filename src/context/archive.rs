//! Archives as uploads: told apart by content, read once from front to back, and checked entry by entry. Nothing is unpacked.
//!
//! ```text
//! input    bytes: a plain file, gzip, zstd        tar, zip   entries as the archive has them
//! meter    bytes and ratio, before they are read   gate       which entries may pass, all paths remembered
//! ```
//!
//! | code | the upload … |
//! |---|---|
//! | `unknown_archive` `truncated_archive` `corrupt_archive` `trailing_data` | is no archive, ends too early, is damaged, or goes on after its end |
//! | `path_escapes` `absolute_path` `path_through_link` `path_through_file` | has an entry whose path leaves the context, or would where it is unpacked |
//! | `hard_link_outside` `device_node` `fifo` `sparse_file` `unsupported_entry` | has an entry that no context may have |
//! | `duplicate_path` `ambiguous_header` `zip_names_differ` `zip_overlap` | would be read differently by different programs |
//! | `invalid_path` `path_not_utf8` `path_too_long` | has an entry whose name cannot be |
//! | `zip_encrypted` `zip_method` `zstd_window` | is packed in a way that cannot be read here |
//! | `expanded_too_large` `compression_ratio` `too_many_entries` | is over a limit (413) |
//! | `invalid_manifest` | is a manifest with a line that cannot be |
//! | `invalid_dockerfile_path` `dockerfile_is_directory` `dockerfile_is_link` `dockerfile_too_large` (413) | has no usable Dockerfile where it should be |
//! | `invalid_dockerignore` `dockerignore_too_large` (413) | has an ignore file that Docker would refuse, or that is too long |
//!
//! What goes to the engine is written anew from the entries that passed (see [`super::stream`]), so a trick in a header that
//! another program would read differently never gets there.

mod digest;
mod entry;
mod gate;
mod input;
mod inspect;
mod manifest;
mod meter;
mod pax;
mod surprises;
mod tar;
mod tar_header;
mod zip;
mod zip_directory;

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::fault::{ContextError, ContextFault};
use crate::domain::ContextKind;

pub(super) use digest::ContextDigest;
pub use digest::of_dockerfile;
pub use entry::{Entry, EntryKind};
pub(super) use gate::clean;
pub(super) use inspect::clean_dockerfile_path;
pub use inspect::{DockerfileAt, Inspected, inspect, inspect_manifest};
pub(super) use manifest::sum_of;
pub use manifest::{ManifestLine, Sum};
pub use meter::ArchiveLimits;
pub(super) use meter::too_many_entries;
pub(super) use tar::padding;
pub(super) use tar_header::{BLOCK, Header};

use entry::RawEntries;
use gate::{Gate, Seen};
use meter::Meter;

/// What of a file is read at once to hash it.
pub(super) const CONTENT_BUFFER: usize = 128 * 1024;

/// Tells the kind of an archive by its first bytes.
///
/// # Errors
/// `unknown_archive` when it is neither tar, tar.gz, tar.zst nor zip; the file's own errors.
fn kind_of(file: &File) -> Result<ContextKind, ContextError> {
    let mut start = [0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match file.read_at(&mut start[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ContextError::Io(e)),
        }
    }
    kind_of_start(&start[..filled])
        .ok_or_else(|| ContextFault::new("unknown_archive", "the upload is no tar, tar.gz, tar.zst or zip archive").into())
}

/// As many bytes of an archive as its kind is told by.
pub const ARCHIVE_START: usize = BLOCK;

/// The kind of what begins with these bytes, [`ARCHIVE_START`] of them if there are so many; `None` when it is no archive.
#[must_use]
pub fn kind_of_start(start: &[u8]) -> Option<ContextKind> {
    match &start[..start.len().min(4)] {
        [0x1f, 0x8b, ..] => return Some(ContextKind::TarGz),
        // A frame, or one to be skipped (RFC 8878, 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => return Some(ContextKind::TarZst),
        b"PK\x03\x04" | b"PK\x05\x06" => return Some(ContextKind::Zip),
        _ => {}
    }
    let block: &[u8; BLOCK] = start.first_chunk()?;
    (*block == [0; BLOCK] || tar_header::is_header(block)).then_some(ContextKind::Tar)
}

/// An archive on its way through the gate.
pub(super) struct Walk {
    entries: Box<dyn RawEntries>,
    gate: Gate,
    /// Of what was read of the current file by [`Walk::text`].
    hash: Sha256,
}

impl Walk {
    /// Opens a stored upload.
    pub(super) fn open(path: &Path, limits: &ArchiveLimits) -> Result<(ContextKind, Self), ContextError> {
        let file = File::open(path).map_err(ContextError::Io)?;
        let len = file.metadata().map_err(ContextError::Io)?.len();
        let kind = kind_of(&file)?;
        let meter = Meter::new(limits, len);
        let entries: Box<dyn RawEntries> = match kind {
            ContextKind::TarGz => Box::new(tar::TarEntries::new(input::gzip(file), meter)),
            ContextKind::TarZst => Box::new(tar::TarEntries::new(input::zstd(file).map_err(ContextError::reading)?, meter)),
            ContextKind::Zip => Box::new(zip::ZipEntries::open(file, len, meter)?),
            ContextKind::Tar | ContextKind::File | ContextKind::Manifest => {
                Box::new(tar::TarEntries::new(input::Plain::new(file, len), meter))
            }
        };
        Ok((kind, Self::of(entries, limits)))
    }

    /// The entries that a manifest names, one a line. Their bytes are read from the folder of `blobs`.
    pub(super) fn manifest(lines: Box<dyn BufRead + Send>, blobs: PathBuf, limits: &ArchiveLimits) -> Self {
        // It is as long as it is: what it stands for comes uncompressed, or is here already.
        let meter = Meter::new(limits, u64::MAX);
        Self::of(Box::new(manifest::ManifestEntries::new(lines, blobs, meter)), limits)
    }

    fn of(entries: Box<dyn RawEntries>, limits: &ArchiveLimits) -> Self {
        Self { entries, gate: Gate::new(limits.entries), hash: Sha256::new() }
    }

    /// The next entry that passes; the archive's own root is left out.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ContextError> {
        self.hash = Sha256::new();
        while let Some(raw) = self.entries.next_raw()? {
            if let Some(entry) = self.gate.admit(&raw)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The current file's bytes.
    pub(super) fn data(&mut self) -> &mut dyn Read {
        self.entries.data()
    }

    /// Reads the current file whole, if it is at most `limit` bytes long.
    pub(super) fn text(&mut self, limit: u64) -> Result<Option<Vec<u8>>, ContextError> {
        let mut text = Vec::new();
        self.entries.data().take(limit + 1).read_to_end(&mut text).map_err(ContextError::reading)?;
        self.hash.update(&text);
        Ok((text.len() as u64 <= limit).then_some(text))
    }

    /// SHA-256 of the current file: as its manifest says, which was checked when the bytes came, or of its bytes, which are read
    /// to their end for it. Of the file nothing else than a [`Walk::text`] may have been read.
    pub(super) fn content(&mut self) -> Result<Sum, ContextError> {
        if let Some(stated) = self.entries.stated() {
            return Ok(stated);
        }
        let mut buffer = vec![0; CONTENT_BUFFER];
        loop {
            match self.entries.data().read(&mut buffer) {
                Ok(0) => return Ok(self.hash.finalize_reset().into()),
                Ok(read) => self.hash.update(&buffer[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ContextError::reading(e)),
            }
        }
    }
}
