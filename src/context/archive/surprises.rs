//! Paths of a context that its sender may not have meant to send, found while it is read.
//!
//! - `unwanted_paths`: folders that programs make and images seldom need ([`MADE`]), from 1 MiB on; version control's own at any size.
//! - `large_paths`: a file or folder of 100 MiB and more, or with more than half of a context of more than 50 MiB. What is told of
//!   a path is not told again of the folders above it, unless they are large without it.
//! - `git_lfs_pointers`: what stands for a file in a repository of Git LFS ([`is_pointer`]), and would be in the image in its place.
//!
//! Memory is bounded: folders are counted as far as [`LEVELS`] deep, and what is too much to remember is counted for the folder above.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::domain::quantity::readable;
use crate::domain::{ContextWarning, PathBytes};

/// Folders of version control, with all that was ever committed.
const HISTORY: [&str; 4] = [".git", ".hg", ".svn", ".bzr"];
/// Folders that build tools and package managers fill.
const MADE: [&str; 10] =
    ["node_modules", "target", ".venv", "venv", "__pycache__", ".tox", ".gradle", ".terraform", ".next", "bower_components"];
const MADE_FROM: u64 = 1 << 20;
const LARGE: u64 = 100 << 20;
const HALF_COUNTS_FROM: u64 = 50 << 20;
/// A smaller file is never large by itself.
const FILE_FROM: u64 = HALF_COUNTS_FROM / 2;
/// How long a pointer of Git LFS is: two lines and a third of fixed forms, with a number of bytes.
pub(super) const POINTER_BYTES: RangeInclusive<u64> = 100..=200;
const LEVELS: usize = 4;
/// Most bytes of names that are remembered.
const NAME_BYTES: usize = 4 << 20;
/// Most paths that one warning lists.
const LISTED: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Surprises {
    total: u64,
    unwanted: BTreeMap<String, u64>,
    folders: BTreeMap<String, u64>,
    files: Vec<PathBytes>,
    pointers: Vec<PathBytes>,
    name_bytes: usize,
}

/// Whether a file of this text is a pointer (Git LFS, `docs/spec.md`).
pub(super) fn is_pointer(text: &[u8]) -> bool {
    text.starts_with(b"version https://git-lfs.")
}

impl Surprises {
    /// Counts a file.
    pub(super) fn count(&mut self, path: &str, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        let ends = || path.match_indices('/').map(|(at, _)| at);
        let mut from = 0;
        for at in ends() {
            let name = &path[from..at];
            if HISTORY.contains(&name) || MADE.contains(&name) {
                Self::add(&mut self.unwanted, &mut self.name_bytes, &path[..at], bytes);
                return;
            }
            from = at + 1;
        }
        for at in ends().take(LEVELS) {
            Self::add(&mut self.folders, &mut self.name_bytes, &path[..at], bytes);
        }
        if bytes > FILE_FROM && self.remember(path) {
            self.files.push(PathBytes { path: path.to_owned(), bytes });
        }
    }

    /// Notes a pointer.
    pub(super) fn pointer(&mut self, path: &str, bytes: u64) {
        if self.remember(path) {
            self.pointers.push(PathBytes { path: path.to_owned(), bytes });
        }
    }

    fn remember(&mut self, path: &str) -> bool {
        self.name_bytes += path.len();
        self.name_bytes <= NAME_BYTES
    }

    fn add(into: &mut BTreeMap<String, u64>, name_bytes: &mut usize, path: &str, bytes: u64) {
        if let Some(counted) = into.get_mut(path) {
            *counted = counted.saturating_add(bytes);
        } else if *name_bytes + path.len() <= NAME_BYTES {
            *name_bytes += path.len();
            into.insert(path.to_owned(), bytes);
        }
    }

    /// What there is to say, when all was counted.
    pub(super) fn told(self) -> Vec<ContextWarning> {
        let total = readable(self.total);
        let large = self.large();
        let is_told =
            |path: &str, bytes: u64| bytes >= MADE_FROM || HISTORY.contains(&path.rsplit('/').next().unwrap_or_default());
        let unwanted = self.unwanted.into_iter().filter(|(path, bytes)| is_told(path, *bytes));
        let unwanted = unwanted.map(|(path, bytes)| PathBytes { path, bytes }).collect();
        let made = "the context holds folders that images seldom need; a .dockerignore keeps them out of the image, \
            and of an upload by `dockwright build`";
        let largest = format!("much of the context's {total} is in a few places");
        let pointers = format!(
            "{} files are pointers of Git LFS, and so are they in the image: filters are not run, send a context of a checkout",
            self.pointers.len()
        );
        [
            warning("unwanted_paths", made.to_owned(), unwanted),
            warning("large_paths", largest, large),
            warning("git_lfs_pointers", pointers, self.pointers),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn large(&self) -> Vec<PathBytes> {
        let is_large = |bytes: u64| bytes >= LARGE || (self.total > HALF_COUNTS_FROM && bytes > self.total / 2);
        let mut large: Vec<PathBytes> = self.files.iter().filter(|file| is_large(file.bytes)).cloned().collect();
        // Sorted, a folder comes before what is in it; so backwards, the innermost first.
        for (path, bytes) in self.folders.iter().rev() {
            let inside = |other: &&PathBytes| other.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
            // The innermost alone: what is in one of them was taken off it before.
            let explained: u64 = outermost(large.iter().filter(inside)).iter().map(|inner| inner.bytes).sum();
            if is_large(bytes.saturating_sub(explained)) {
                large.push(PathBytes { path: path.clone(), bytes: *bytes });
            }
        }
        large
    }
}

/// Those that are in no other of them.
fn outermost<'a>(paths: impl Iterator<Item = &'a PathBytes>) -> Vec<&'a PathBytes> {
    let mut paths: Vec<&PathBytes> = paths.collect();
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    let mut outer: Vec<&PathBytes> = Vec::new();
    for path in paths {
        let inside = |outer: &&PathBytes| path.path.strip_prefix(outer.path.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if !outer.iter().any(inside) {
            outer.push(path);
        }
    }
    outer
}

fn warning(code: &str, message: String, mut paths: Vec<PathBytes>) -> Option<ContextWarning> {
    paths.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    paths.truncate(LISTED);
    (!paths.is_empty()).then(|| ContextWarning { code: code.to_owned(), message, paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn told(files: &[(&str, u64)]) -> Vec<(String, Vec<(String, u64)>)> {
        let mut surprises = Surprises::default();
        files.iter().for_each(|(path, mib)| surprises.count(path, mib * MIB));
        let paths = |paths: Vec<PathBytes>| paths.into_iter().map(|path| (path.path, path.bytes / MIB)).collect();
        surprises.told().into_iter().map(|warning| (warning.code, paths(warning.paths))).collect()
    }

    fn one(code: &str, paths: &[(&str, u64)]) -> Vec<(String, Vec<(String, u64)>)> {
        vec![(code.into(), paths.iter().map(|(path, mib)| ((*path).into(), *mib)).collect())]
    }

    #[test]
    fn folders_that_tools_fill_are_told_once_and_from_the_outside() {
        let files =
            [("web/node_modules/a/node_modules/b/x.js", 3), ("web/node_modules/c.js", 2), ("target/debug/app", 9), ("a.rs", 1)];
        assert_eq!(told(&files), one("unwanted_paths", &[("target", 9), ("web/node_modules", 5)]));
        assert_eq!(told(&[(".git/HEAD", 0)]), one("unwanted_paths", &[(".git", 0)]), "history at any size");
        assert_eq!(told(&[("target/x", 0), ("src/target.rs", 9), ("target", 9)]), [], "small, or no such folder");
    }

    #[test]
    fn large_paths_are_told_where_they_are() {
        let deep = "data/models/big.bin";
        assert_eq!(told(&[(deep, 120), ("a", 500), ("b/c", 5)]), one("large_paths", &[("a", 500), (deep, 120)]));
        assert_eq!(
            told(&[("assets/a", 30), ("assets/b", 31), ("x", 1)]),
            one("large_paths", &[("assets", 61)]),
            "more than half"
        );
        assert_eq!(told(&[("assets/a", 40), ("x", 9)]), [], "a small context surprises nobody");
        let both = [("d/one.bin", 150), ("d/e/1", 60), ("d/e/2", 60), ("d/f", 10)];
        assert_eq!(told(&both), one("large_paths", &[("d/one.bin", 150), ("d/e", 120)]), "what is told is not told again above");
        let many: Vec<(String, u64)> = (0..2000).map(|n| (format!("logs/{n}.log"), 1)).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|(path, mib)| (path.as_str(), *mib)).collect();
        assert_eq!(told(&many), one("large_paths", &[("logs", 2000)]));
    }

    #[test]
    fn pointers_are_known_by_their_first_line() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n\
            size 12345\n";
        assert!(is_pointer(pointer.as_bytes()) && POINTER_BYTES.contains(&(pointer.len() as u64)));
        assert!(!is_pointer(b"version 2\n"));
        let mut surprises = Surprises::default();
        surprises.pointer("model.bin", 130);
        let told = surprises.told();
        assert_eq!((told.len(), &*told[0].code, &*told[0].paths[0].path), (1, "git_lfs_pointers", "model.bin"));
    }

    #[test]
    fn names_take_bounded_memory() {
        let mut surprises = Surprises::default();
        let folder = "x".repeat(250);
        (0..100_000).for_each(|n| surprises.count(&format!("{folder}/{n}-{folder}/file"), MIB));
        assert!(surprises.folders.keys().map(String::len).sum::<usize>() <= NAME_BYTES);
        assert_eq!(surprises.told()[0].paths[0].path, folder, "what is not remembered counts for the folder above");
    }
}
