use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use sha2::{Digest as _, Sha256};

use super::entry::{Entry, EntryKind};
use super::manifest::Sum;

/// What begins the digested text, so that another form of it can never give the same digest.
const FORM: &[u8] = b"dockwright context 1\n";
/// Mode of a folder that nobody names, as an engine makes it.
const IMPLIED_MODE: u32 = 0o755;

/// What an upload holds, as one name: equal for the same files, however they were packed and in whatever order.
///
/// Each entry is the text `path NUL type NUL mode NUL size NUL content`: the mode in octal, `777` for a link; the content of a file is
/// its SHA-256 in hexadecimal, of a link its target. Times and owners are left out; a hard link is the file that it is; a folder
/// that is only named as a parent has the mode 755. The digest is the SHA-256 of [`FORM`] and of the SHA-256 of each entry, these sorted.
///
/// Memory: less than 150 bytes an entry, whatever the length of its path.
pub(in crate::context) struct ContextDigest {
    keys: [RandomState; 2],
    entries: HashMap<u128, Held>,
}

struct Held {
    entry: Sum,
    /// What a hard link to it is as well.
    file: Option<(Sum, u64, u32)>,
}

impl Default for ContextDigest {
    fn default() -> Self {
        Self { keys: [RandomState::new(), RandomState::new()], entries: HashMap::new() }
    }
}

impl ContextDigest {
    fn key(&self, path: &str) -> u128 {
        let [a, b] = &self.keys;
        u128::from(a.hash_one(path)) << 64 | u128::from(b.hash_one(path))
    }

    /// Takes an entry that has passed; a file with the SHA-256 of its bytes.
    pub(in crate::context) fn add(&mut self, entry: &Entry, content: Option<Sum>) {
        let path = &entry.path;
        for (at, _) in path.match_indices('/') {
            let key = self.key(&path[..at]);
            self.entries.entry(key).or_insert_with(|| Held { entry: sum(&path[..at], "dir", IMPLIED_MODE, 0, b""), file: None });
        }
        let file = match &entry.kind {
            EntryKind::File { size } => content.map(|content| (content, *size, entry.mode)),
            EntryKind::HardLink { target } => self.entries.get(&self.key(target)).and_then(|held| held.file),
            EntryKind::Dir | EntryKind::Symlink { .. } => None,
        };
        let sum = match (&entry.kind, &file) {
            (_, Some((content, size, mode))) => sum(path, "file", *mode, *size, hex::encode(content).as_bytes()),
            (EntryKind::Symlink { target }, None) => sum(path, "symlink", 0o777, 0, target.as_bytes()),
            // A hard link to a symbolic link, which few programs write.
            (EntryKind::HardLink { target }, None) => sum(path, "hardlink", 0o777, 0, target.as_bytes()),
            _ => sum(path, "dir", entry.mode, 0, b""),
        };
        self.entries.insert(self.key(path), Held { entry: sum, file });
    }

    /// `sha256:` and 64 hexadecimal digits.
    pub(in crate::context) fn finish(self) -> String {
        let mut sums: Vec<Sum> = self.entries.into_values().map(|held| held.entry).collect();
        sums.sort_unstable();
        let whole = sums.iter().fold(Sha256::new_with_prefix(FORM), |hash, sum| hash.chain_update(sum));
        format!("sha256:{}", hex::encode(whole.finalize()))
    }
}

fn sum(path: &str, kind: &str, mode: u32, size: u64, content: &[u8]) -> Sum {
    let text = format!("{path}\0{kind}\0{mode:o}\0{size}\0");
    Sha256::new_with_prefix(text).chain_update(content).finalize().into()
}

/// Of a Dockerfile that is sent alone.
pub fn of_dockerfile(path: &str, text: &[u8]) -> String {
    let kind = EntryKind::File { size: text.len() as u64 };
    let mut digest = ContextDigest::default();
    digest.add(&Entry { path: path.to_owned(), kind, mode: 0o644, mtime: 0 }, Some(Sha256::digest(text).into()));
    digest.finish()
}
