use std::path::Path;

use super::super::blobs;
use super::super::fault::{ContextError, ContextFault};
use super::super::ignore::{Ignore, is_ignore_file};
use super::surprises::{POINTER_BYTES, Surprises, is_pointer};
use super::{ArchiveLimits, ContextDigest, Entry, EntryKind, Seen, Walk, gate};
use crate::domain::limits::DOCKERFILE_BYTES;
use crate::domain::{ContextKind, ContextWarning};

/// Where the Dockerfile of a context is, and whether the one that stands there counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DockerfileAt<'a> {
    /// Path inside the context.
    pub path: &'a str,
    /// Another text comes with the upload and takes its place.
    pub replaced: bool,
}

/// What a stored archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub kind: ContextKind,
    /// Entries that are not directories.
    pub files: u64,
    /// Bytes of all files together.
    pub expanded_bytes: u64,
    /// The text at the Dockerfile's path; `None` when there is none, or it is replaced.
    pub dockerfile: Option<Vec<u8>>,
    /// What will be left out on the way to the engine, in words.
    pub warnings: Vec<String>,
    /// See [`crate::domain::ContextInfo::digest`].
    pub digest: String,
    /// What its sender may not have meant to send.
    pub surprises: Vec<ContextWarning>,
}

/// Reads a stored upload once and checks all of it. Blocks; memory is bounded by the limit of entries.
///
/// # Errors
/// The first fault that is found; [`super`] lists the codes.
pub fn inspect(path: &Path, limits: &ArchiveLimits, dockerfile: DockerfileAt<'_>) -> Result<Inspected, ContextError> {
    let wanted = clean_dockerfile_path(dockerfile.path)?;
    let (kind, walk) = Walk::open(path, limits)?;
    look_through(walk, kind, None, &wanted, dockerfile.replaced)
}

/// The same of a manifest that is kept at `path`; the blobs of what has to be read must be there.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_manifest(
    path: &Path,
    folder: &Path,
    limits: &ArchiveLimits,
    dockerfile: DockerfileAt<'_>,
) -> Result<Inspected, ContextError> {
    let wanted = clean_dockerfile_path(dockerfile.path)?;
    let (digest, walk) = blobs::open(path, folder, limits)?;
    look_through(walk, ContextKind::Manifest, Some(digest), &wanted, dockerfile.replaced)
}

/// `known` is the digest where it was made before.
fn look_through(
    mut walk: Walk,
    kind: ContextKind,
    known: Option<String>,
    wanted: &str,
    replaced: bool,
) -> Result<Inspected, ContextError> {
    let mut found = Inspected {
        kind,
        files: 0,
        expanded_bytes: 0,
        dockerfile: None,
        warnings: Vec::new(),
        digest: String::new(),
        surprises: Vec::new(),
    };
    let mut digest = known.is_none().then(ContextDigest::default);
    let mut surprises = Surprises::default();
    while let Some(entry) = walk.next()? {
        if let EntryKind::File { size } = entry.kind {
            found.expanded_bytes += size;
            surprises.count(&entry.path, size);
        }
        found.files += u64::from(entry.kind != EntryKind::Dir);
        if entry.path == wanted && !replaced {
            found.dockerfile = Some(dockerfile_text(&mut walk, &entry)?);
        } else if is_ignore_file(&entry.path, wanted) && matches!(entry.kind, EntryKind::File { .. }) {
            Ignore::read(&mut walk, &entry.path)?;
        } else if let Some(size) = size_of_pointer(kind, &entry)
            && walk.text(size)?.is_some_and(|text| is_pointer(&text))
        {
            surprises.pointer(&entry.path, size);
        }
        let content = match entry.kind {
            EntryKind::File { .. } => Some(walk.content()?),
            _ => {
                walk.entries.verify()?;
                None
            }
        };
        if let Some(digest) = &mut digest {
            digest.add(&entry, content);
        }
    }
    check_place(&walk, wanted, replaced)?;
    found.warnings = walk.entries.warnings();
    found.digest = digest.map(ContextDigest::finish).or(known).unwrap_or_default();
    found.surprises = surprises.told();
    Ok(found)
}

/// The size of a file that may be a pointer of Git LFS. Contexts in pieces are not looked into: their files are read only for the build.
fn size_of_pointer(kind: ContextKind, entry: &Entry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size } if kind != ContextKind::Manifest && POINTER_BYTES.contains(&size) => Some(size),
        _ => None,
    }
}

/// The Dockerfile's path in the form that entries have.
pub(in crate::context) fn clean_dockerfile_path(path: &str) -> Result<String, ContextFault> {
    let bad = |why: &str| ContextFault::new("invalid_dockerfile_path", format!("the Dockerfile's path {path:?} {why}"));
    let clean = gate::clean(path.as_bytes()).map_err(|_| bad("is not a path inside the context"))?;
    if clean.is_empty() || path.ends_with('/') { Err(bad("names no file")) } else { Ok(clean) }
}

fn dockerfile_text(walk: &mut Walk, entry: &Entry) -> Result<Vec<u8>, ContextError> {
    let path = &entry.path;
    match entry.kind {
        EntryKind::File { .. } => walk.text(DOCKERFILE_BYTES)?.ok_or_else(|| {
            let detail = format!("the Dockerfile {path:?} is larger than the limit of {DOCKERFILE_BYTES} bytes");
            ContextFault::too_large("dockerfile_too_large", detail).into()
        }),
        EntryKind::Dir => {
            let detail = format!("the Dockerfile's path {path:?} is a directory");
            Err(ContextFault::new("dockerfile_is_directory", detail).into())
        }
        EntryKind::Symlink { ref target } | EntryKind::HardLink { ref target } => {
            let detail =
                format!("the Dockerfile {path:?} is a link to {target:?}; name the file itself in the part `dockerfile`");
            Err(ContextFault::new("dockerfile_is_link", detail).into())
        }
    }
}

/// Whether a file can stand at the Dockerfile's path at all.
fn check_place(walk: &Walk, wanted: &str, replaced: bool) -> Result<(), ContextFault> {
    if replaced && walk.gate.at(wanted) == Some(Seen::Dir) {
        let detail = format!("the Dockerfile's path {wanted:?} is a directory");
        return Err(ContextFault::new("dockerfile_is_directory", detail));
    }
    let parents = wanted.match_indices('/').map(|(at, _)| &wanted[..at]);
    for parent in parents {
        if matches!(walk.gate.at(parent), Some(Seen::Symlink | Seen::File)) {
            let detail = format!("the Dockerfile's path {wanted:?} runs through {parent:?}, which is not a directory");
            return Err(ContextFault::new("dockerfile_is_link", detail));
        }
    }
    Ok(())
}
