use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::super::fault::{ContextFault, quoted};
use super::entry::{Entry, EntryKind, RawEntry, RawKind};
use super::meter::too_many_entries;
use crate::domain::limits::PATH_BYTES;

/// Longest component of a path (Linux `NAME_MAX`): the engine could not unpack a longer one.
const NAME_BYTES: usize = 255;

/// Most bytes of the names of hard links and their targets, which have to be remembered when an archive is passed on.
const LINK_NAME_BYTES: usize = 16 << 20;

/// What stands at a path that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    File,
    Dir,
    Symlink,
}

/// Decides of each entry whether it may be passed on (THREATS row 4), and remembers all paths for that.
///
/// Paths are remembered by a keyed 128-bit hash: memory is bounded by the number of entries, whatever their length, and nobody can
/// choose two paths that collide.
pub(super) struct Gate {
    keys: [RandomState; 2],
    seen: HashMap<u128, Seen>,
    limit: u64,
    link_bytes: usize,
}

impl Gate {
    pub(super) fn new(entries: u64) -> Self {
        Self { keys: [RandomState::new(), RandomState::new()], seen: HashMap::new(), limit: entries, link_bytes: 0 }
    }

    fn hash(&self, path: &str) -> u128 {
        let [a, b] = &self.keys;
        u128::from(a.hash_one(path)) << 64 | u128::from(b.hash_one(path))
    }

    /// What stands at a clean path, as far as the archive was read.
    pub(super) fn at(&self, path: &str) -> Option<Seen> {
        self.seen.get(&self.hash(path)).copied()
    }

    fn remember(&mut self, path: &str, seen: Seen) -> Result<(), ContextFault> {
        let hash = self.hash(path);
        self.seen.insert(hash, seen);
        if self.seen.len() as u64 > self.limit { Err(too_many_entries(self.limit)) } else { Ok(()) }
    }

    /// The entry in its clean form; `None` for the archive's own root (`./`).
    pub(super) fn admit(&mut self, raw: &RawEntry) -> Result<Option<Entry>, ContextFault> {
        refuse_special(raw)?;
        let path = clean(&raw.name)?;
        if path.is_empty() {
            return if raw.kind == RawKind::Dir {
                Ok(None)
            } else {
                Err(ContextFault::new("invalid_path", format!("the entry {} has no name", quoted(&raw.name))))
            };
        }
        if raw.name.ends_with(b"/") && raw.kind != RawKind::Dir {
            let detail = format!("the entry {} is named like a directory but is none", quoted(&raw.name));
            return Err(ContextFault::new("ambiguous_header", detail));
        }
        self.check_parents(&path)?;
        let kind = match raw.kind {
            RawKind::File => EntryKind::File { size: raw.size },
            RawKind::Symlink => EntryKind::Symlink { target: symlink_target(raw)? },
            RawKind::HardLink => EntryKind::HardLink { target: self.hard_link_target(raw)? },
            _ => EntryKind::Dir,
        };
        self.check_new(&path, &kind, raw)?;
        let seen = match &kind {
            EntryKind::File { .. } => Seen::File,
            EntryKind::Dir => Seen::Dir,
            EntryKind::Symlink { .. } => Seen::Symlink,
            EntryKind::HardLink { target } => self.at(target).unwrap_or(Seen::File),
        };
        self.remember(&path, seen)?;
        Ok(Some(Entry { path, kind, mode: raw.mode & 0o7777, mtime: raw.mtime }))
    }

    /// Every parent must be a directory, named in the archive or only implied.
    fn check_parents(&mut self, path: &str) -> Result<(), ContextFault> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match self.at(parent) {
                Some(Seen::Dir) => {}
                Some(Seen::Symlink) => {
                    let detail = format!("the entry {path:?} runs through the symbolic link {parent:?} of the archive");
                    return Err(ContextFault::new("path_through_link", detail));
                }
                Some(Seen::File) => {
                    let detail = format!("the entry {path:?} lies in {parent:?}, which is not a directory");
                    return Err(ContextFault::new("path_through_file", detail));
                }
                None => self.remember(parent, Seen::Dir)?,
            }
        }
        Ok(())
    }

    /// A path comes once; only a directory may be named again, as a directory.
    fn check_new(&self, path: &str, kind: &EntryKind, raw: &RawEntry) -> Result<(), ContextFault> {
        match (self.at(path), kind) {
            (None, _) | (Some(Seen::Dir), EntryKind::Dir) => Ok(()),
            _ => Err(ContextFault::new("duplicate_path", format!("the path {} comes twice", quoted(&raw.name)))),
        }
    }

    fn hard_link_target(&mut self, raw: &RawEntry) -> Result<String, ContextFault> {
        let refuse = || {
            let (name, link) = (quoted(&raw.name), quoted(&raw.link));
            let detail = format!("the entry {name} is a hard link to {link}, which is no file before it in the archive");
            ContextFault::new("hard_link_outside", detail)
        };
        let target = clean(&raw.link).map_err(|_| refuse())?;
        if target.is_empty() || !matches!(self.at(&target), Some(Seen::File | Seen::Symlink)) {
            return Err(refuse());
        }
        self.link_bytes += raw.name.len() + target.len();
        if self.link_bytes > LINK_NAME_BYTES {
            let detail = format!("the names of the archive's hard links are longer than the limit of {LINK_NAME_BYTES} bytes");
            return Err(ContextFault::too_large("too_many_entries", detail));
        }
        Ok(target)
    }
}

fn refuse_special(raw: &RawEntry) -> Result<(), ContextFault> {
    let name = quoted(&raw.name);
    match raw.kind {
        RawKind::Device => Err(ContextFault::new("device_node", format!("the entry {name} is a device node"))),
        RawKind::Fifo => Err(ContextFault::new("fifo", format!("the entry {name} is a FIFO or a socket"))),
        RawKind::Other(b'S') => Err(ContextFault::new("sparse_file", format!("the entry {name} is a sparse file"))),
        RawKind::Other(kind) => {
            let kind = char::from(kind).escape_default();
            Err(ContextFault::new("unsupported_entry", format!("the entry {name} is of the unsupported type '{kind}'")))
        }
        _ => Ok(()),
    }
}

fn symlink_target(raw: &RawEntry) -> Result<String, ContextFault> {
    let name = quoted(&raw.name);
    if raw.link.is_empty() || raw.link.contains(&0) {
        return Err(ContextFault::new("invalid_path", format!("the symbolic link {name} has no valid target")));
    }
    if raw.link.len() > PATH_BYTES {
        return Err(path_too_long(&raw.link));
    }
    let target = std::str::from_utf8(&raw.link);
    target.map(str::to_owned).map_err(|_| not_utf8(&raw.name))
}

/// The path without `.`, empty components and trailing slashes; empty for the root.
pub(in crate::context) fn clean(name: &[u8]) -> Result<String, ContextFault> {
    let text = std::str::from_utf8(name).map_err(|_| not_utf8(name))?;
    if text.contains('\0') {
        return Err(ContextFault::new("invalid_path", format!("the entry {} has a NUL in its name", quoted(name))));
    }
    if text.starts_with('/') {
        return Err(ContextFault::new("absolute_path", format!("the entry {} has an absolute path", quoted(name))));
    }
    if text.len() > PATH_BYTES {
        return Err(path_too_long(name));
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(ContextFault::new("path_escapes", format!("the entry {} has `..` in its path", quoted(name)))),
            _ if part.len() > NAME_BYTES => return Err(path_too_long(name)),
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(path)
}

fn not_utf8(name: &[u8]) -> ContextFault {
    ContextFault::new("path_not_utf8", format!("the entry {} has a name or a target that is not UTF-8", quoted(name)))
}

fn path_too_long(name: &[u8]) -> ContextFault {
    let detail =
        format!("the entry {} has a path longer than {PATH_BYTES} bytes, or a part of it longer than {NAME_BYTES}", quoted(name));
    ContextFault::new("path_too_long", detail)
}
