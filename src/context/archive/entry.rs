use std::io::Read;

use super::super::fault::ContextError;
use super::manifest::Sum;

/// What an archive says an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKind {
    File,
    Dir,
    Symlink,
    HardLink,
    Device,
    Fifo,
    /// Anything else, by the archive's own name for it.
    Other(u8),
}

/// An entry as the archive has it; nothing of it is checked but its form.
#[derive(Debug, Clone)]
pub(super) struct RawEntry {
    pub name: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    pub kind: RawKind,
    /// Bytes of a file; zero for all else.
    pub size: u64,
    pub mode: u32,
    /// Seconds since the Unix epoch.
    pub mtime: u64,
}

/// An archive of any kind, read once from front to back.
pub(super) trait RawEntries: Send {
    /// The next entry; what was not read of the current one is passed over.
    fn next_raw(&mut self) -> Result<Option<RawEntry>, ContextError>;

    /// The current file's bytes; ends with the file.
    fn data(&mut self) -> &mut dyn Read;

    /// What was left out on the way, in words.
    fn warnings(&self) -> Vec<String>;

    /// SHA-256 of the current file, where it is known without reading.
    fn stated(&self) -> Option<Sum> {
        None
    }

    /// Reads the current file to its end where that can find a fault which passing over cannot (a zip's checksum).
    fn verify(&mut self) -> Result<(), ContextError> {
        Ok(())
    }
}

/// An entry that may be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/`-separated, without `.`, `..` and empty components.
    pub path: String,
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Seconds since the Unix epoch.
    pub mtime: u64,
}

/// What an entry is, and what only that has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Its size in bytes.
    File {
        size: u64,
    },
    Dir,
    /// Any target: it is passed on and never followed.
    Symlink {
        target: String,
    },
    /// Target: the path of a file that came before.
    HardLink {
        target: String,
    },
}
