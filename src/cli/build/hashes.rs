//! SHA-256 of many files, by all cores. What was hashed before and has not changed since is not read again: it is remembered in
//! the caller's cache folder, by the folder that is sent.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::listed;
use crate::cli::context::{Local, Stamp};
use crate::context::archive::{EntryKind, Sum};

/// A file that was changed so lately may change again without its times telling (a tick of the file system's clock).
const TOO_YOUNG: Duration = Duration::from_secs(2);
const BUFFER: usize = 256 * 1024;
/// More threads than this wait for the disk.
const THREADS: usize = 8;

const FORM: &str = "dockwright hashes 2\n";

/// Whether it is so long ago that its times tell of every change since.
fn is_settled(stamp: &Stamp, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TOO_YOUNG).as_secs();
    i64::try_from(now).is_ok_and(|now| stamp.changed.0 < now && stamp.modified.0 < now)
}

fn packed((stamp, sum): &(Stamp, Sum)) -> Vec<u8> {
    let Stamp { device, inode, size, modified, changed } = stamp;
    let numbers = [*device, *inode, *size].map(u64::to_le_bytes);
    let times = [modified.0, modified.1, changed.0, changed.1].map(i64::to_le_bytes);
    [numbers.as_flattened(), times.as_flattened(), sum].concat()
}

fn unpacked(bytes: &[u8]) -> Option<(Stamp, Sum)> {
    let (numbers, sum) = bytes.split_at_checked(56)?;
    let number = |at: usize| numbers.as_chunks::<8>().0[at];
    let whole = |at| u64::from_le_bytes(number(at));
    let time = |at| (i64::from_le_bytes(number(at)), i64::from_le_bytes(number(at + 1)));
    let stamp = Stamp { device: whole(0), inode: whole(1), size: whole(2), modified: time(3), changed: time(5) };
    Some((stamp, sum.try_into().ok()?))
}

/// A file as it was, and its hash then.
pub(super) type Hashed = (Stamp, Sum);

type Known = HashMap<String, Hashed>;

/// What was hashed, and what is remembered of it.
pub(super) struct Hashes {
    cache: Option<PathBuf>,
    known: Known,
}

impl Hashes {
    /// Those that were remembered of a folder; none where nothing can be remembered.
    pub(super) fn of(folder: &Path) -> Self {
        Self::kept_in(listed::place("hashes", &[folder.as_os_str().as_encoded_bytes()]))
    }

    fn kept_in(cache: Option<PathBuf>) -> Self {
        let known = cache.as_ref().and_then(|file| listed::read(file, FORM, unpacked));
        Self { cache, known: known.map(|(_, known)| known).unwrap_or_default() }
    }

    /// The hash of each entry that is a file.
    ///
    /// # Errors
    /// When a file cannot be read, or changes while it is.
    pub(super) fn all(&self, entries: &[Local]) -> anyhow::Result<Vec<Option<Hashed>>> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let threads = thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
        let one_thread = || {
            let (mut buffer, mut found) = (vec![0; BUFFER], Vec::new());
            while !failed.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(local) = entries.get(at) else { break };
                if let EntryKind::File { size } = local.entry.kind {
                    let hashed = self.one(local, size, &mut buffer);
                    failed.fetch_or(hashed.is_err(), Ordering::Relaxed);
                    found.push((at, hashed.map_err(|error| anyhow::anyhow!("{}: {error}", local.entry.path))?));
                }
            }
            Ok(found)
        };
        let done: Vec<anyhow::Result<Vec<_>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
            let end =
                |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| anyhow::bail!("hashing panicked"));
            threads.into_iter().map(end).collect()
        });
        let mut all = vec![None; entries.len()];
        for found in done {
            for (at, hash) in found? {
                all[at] = Some(hash);
            }
        }
        Ok(all)
    }

    fn one(&self, local: &Local, size: u64, buffer: &mut [u8]) -> io::Result<Hashed> {
        // As it was when the folder was looked through: so old a file needs not even be opened.
        if let Some((_, sum)) = self.known.get(&local.entry.path).filter(|(known, _)| *known == local.stamp) {
            return Ok((local.stamp, *sum));
        }
        let mut file = local.open()?;
        let stamp = Stamp::of(&file.metadata()?);
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if bytes != size || Stamp::of(&file.metadata()?) != stamp {
            return Err(io::Error::other("it changed while it was read"));
        }
        Ok((stamp, hash.finalize().into()))
    }

    /// Remembers what is settled. It is only a help: where it cannot be written, nothing is lost.
    pub(super) fn remember(self, entries: &[Local], all: &[Option<Hashed>], now: SystemTime) {
        let Some(cache) = self.cache else { return };
        let settled = entries.iter().zip(all).filter_map(|(local, hashed)| {
            let (stamp, sum) = hashed.as_ref()?;
            is_settled(stamp, now).then(|| (local.entry.path.clone(), (*stamp, *sum)))
        });
        let known: Known = settled.collect();
        if known != self.known {
            let _ = write(&cache, &known);
        }
    }
}

fn write(cache: &Path, known: &Known) -> io::Result<()> {
    listed::write(cache, FORM, "", known.iter().map(|(path, hashed)| (path.as_str(), packed(hashed))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::look;

    #[test]
    fn what_has_not_changed_is_not_read_again() {
        let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (root, cache) = (folder.path(), cache.path().join("new/list"));
        std::fs::write(root.join("Dockerfile"), "FROM scratch").expect("written");
        std::fs::write(root.join("a"), "one").expect("written");
        let old = SystemTime::now() - Duration::from_secs(3600);
        let hash = |later: u64| {
            let (entries, hashes) = (look(root, None).expect("a context").entries, Hashes::kept_in(Some(cache.clone())));
            let remembered = hashes.known.len();
            let all = hashes.all(&entries).expect("hashed");
            let at = entries.iter().position(|local| local.entry.path == "a").expect("is there");
            let sum = all[at].expect("a file").1;
            hashes.remember(&entries, &all, SystemTime::now() + Duration::from_secs(later));
            (sum, remembered)
        };
        let sum = |text: &str| -> Sum { Sha256::digest(text).into() };
        assert_eq!(hash(0), (sum("one"), 0));
        assert_eq!(hash(60), (sum("one"), 0), "what may change within the same tick is not remembered");
        assert_eq!(hash(60), (sum("one"), 2));
        // As long as before, and its time set back: only the change time tells.
        let before = std::fs::metadata(root.join("a")).and_then(|meta| meta.modified()).expect("a time");
        std::fs::write(root.join("a"), "two").expect("written");
        std::fs::File::open(root.join("a")).and_then(|file| file.set_modified(before)).expect("its time");
        assert_eq!(hash(60), (sum("two"), 2));
        // A lie in the list is believed: the file is not read.
        let mut known: Known = listed::read(&cache, FORM, unpacked).expect("a list").1;
        known.get_mut("a").expect("remembered").1 = sum("a lie");
        write(&cache, &known).expect("written");
        assert_eq!(hash(60).0, sum("a lie"));
        std::fs::File::open(root.join("a")).and_then(|file| file.set_modified(old)).expect("its time");
        assert_eq!(hash(60).0, sum("two"));
        std::fs::write(&cache, "no list").expect("written");
        assert_eq!(hash(60), (sum("two"), 0), "a list that cannot be read is none");
    }
}
