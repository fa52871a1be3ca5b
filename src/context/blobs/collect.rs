//! What nothing uses goes: blobs that no manifest names, after a grace or when room is needed, and manifests that have expired.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::super::archive::{Sum, sum_of};
use super::super::storage::{blocking, contexts_folder, free_bytes, persist, remove_if_there, storing, sync_folder_of};
use super::kept::{self, Head};
use super::{BLOBS, Blobs, MANIFESTS};
use crate::domain::{BuildId, Owner, Timestamp};
use crate::error::Result;

/// When the disk needs room, blobs that were not named for so long go one age after the other, the oldest first.
const AGES: [Duration; 4] =
    [Duration::from_secs(24 * 3600), Duration::from_secs(4 * 3600), Duration::from_secs(1800), Duration::ZERO];

/// Whose manifest each file of `contexts/` holds, by device, inode and time; `None`: it holds none. Such a file never changes, so
/// each is opened once, and not again for every owner.
pub(super) type Heads = HashMap<(u64, u64, i64, i64), Option<Owner>>;

impl Blobs {
    /// Removes expired manifests, and blobs that nothing uses and that were not named for `grace`; answers the bytes.
    ///
    /// # Errors
    /// When the folders cannot be read. What goes wrong with one owner is logged, and the pass goes on with the others.
    pub async fn collect(&self, grace: Duration) -> Result<u64> {
        let blobs = self.clone();
        blocking(move || blobs.collect_all(grace)).await
    }

    fn collect_all(&self, grace: Duration) -> Result<u64> {
        let mut owners = HashSet::new();
        for folder in [BLOBS, MANIFESTS] {
            for entry in fs::read_dir(self.root.join(folder)).map_err(storing)? {
                // What is not named as an owner is not ours.
                owners.extend(entry.map_err(storing)?.file_name().to_str().and_then(|name| name.parse::<Owner>().ok()));
            }
        }
        let removed = owners.iter().map(|owner| {
            self.collect_of(owner, grace, u64::MAX).unwrap_or_else(|error| {
                tracing::warn!(%owner, ?error, "blobs of one owner cannot be collected");
                0
            })
        });
        Ok(removed.sum())
    }

    /// Makes room for `bytes` more above the floor, if what nothing uses is enough for that.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn make_room(&self, bytes: u64) -> Result<()> {
        let blobs = self.clone();
        blocking(move || {
            // One at a time: on a full disk every upload comes this way.
            let Ok(_tidying) = blobs.tidying.try_lock() else { return Ok(()) };
            for age in AGES {
                if free_bytes(&blobs.root)? >= blobs.floor.saturating_add(bytes) {
                    break;
                }
                blobs.collect_all(age)?;
            }
            Ok(())
        })
        .await
    }

    /// The janitor's pass: what is over its time, and more of it when the disk comes near its floor.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn tidy(&self, grace: Duration) -> Result<()> {
        self.collect(grace).await?;
        self.make_room(self.floor).await
    }

    /// Removes blobs of one owner that nothing uses, oldest first, until `need` bytes are gone; answers the bytes.
    ///
    /// # Errors
    /// As [`Blobs::collect`].
    pub async fn drop_unused(&self, owner: &Owner, need: u64) -> Result<u64> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || blobs.collect_of(&owner, Duration::ZERO, need)).await
    }

    fn collect_of(&self, owner: &Owner, grace: Duration, need: u64) -> Result<u64> {
        let _lock = self.lock(owner).map_err(storing)?;
        self.drop_expired(owner)?;
        let now = SystemTime::now();
        let mut unused = HashMap::new();
        for (path, meta) in files(&self.folder(owner))? {
            let named = meta.modified().map_err(storing)?;
            let sum = path.file_name().and_then(|name| sum_of(name.to_str()?).ok());
            if let Some(sum) = sum.filter(|_| now.duration_since(named).unwrap_or_default() >= grace) {
                unused.insert(sum, (named, meta.len()));
            }
        }
        if !unused.is_empty() {
            self.strike_used(owner, &mut unused)?;
        }
        let mut oldest: Vec<_> = unused.into_iter().collect();
        oldest.sort_unstable_by_key(|(_, (named, _))| *named);
        let mut removed = 0;
        for (sum, (_, bytes)) in oldest {
            if removed >= need {
                break;
            }
            fs::remove_file(self.folder(owner).join(hex::encode(sum))).map_err(storing)?;
            removed += bytes;
        }
        Ok(removed)
    }

    fn drop_expired(&self, owner: &Owner) -> Result<()> {
        for (path, _) in files(&self.manifests(owner))? {
            let Some(head) = readable(&path, kept::head(&path))? else { continue };
            if head.is_none_or(|(head, _)| head.expires_at <= Timestamp::now()) {
                remove_if_there(&path).map_err(storing)?;
            }
        }
        Ok(())
    }

    /// Takes out what the owner's manifests name, those that builds keep as well.
    fn strike_used(&self, owner: &Owner, unused: &mut HashMap<Sum, (SystemTime, u64)>) -> Result<()> {
        let mut seen = HashSet::new();
        for (path, meta) in files(&self.manifests(owner))?.into_iter().chain(self.contexts_of(owner)?) {
            // A manifest and the builds that keep it are one file.
            let file = (meta.dev(), meta.ino());
            if unused.is_empty() || seen.contains(&file) {
                continue;
            }
            let Some(Some((_, lines))) = readable(&path, kept::open(&path))? else { continue };
            let Some(wants) = readable(&path, kept::wants(lines))? else { continue };
            // Only one that was read: it may have gone by this name meanwhile, and be there by the name of a build.
            seen.insert(file);
            for (sum, _) in wants {
                unused.remove(&sum);
            }
        }
        Ok(())
    }

    /// The manifests of an owner that builds keep.
    fn contexts_of(&self, owner: &Owner) -> Result<Vec<(PathBuf, Metadata)>> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut now, mut own) = (Heads::new(), Vec::new());
        for (path, meta) in files(&contexts_folder(&self.root))? {
            let file = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec());
            let whose = match heads.get(&file).or_else(|| now.get(&file)) {
                Some(known) => known.clone(),
                None => match readable(&path, kept::head(&path))? {
                    Some(head) => head.map(|(head, _)| head.owner),
                    None => continue,
                },
            };
            if whose.as_ref() == Some(owner) {
                own.push((path, meta));
            }
            now.insert(file, whose);
        }
        *heads = now;
        Ok(own)
    }

    /// Gives what a build keeps to another owner, before the build itself is: its blobs are then the heir's as well.
    /// Nothing happens when its context did not come in pieces. Can be repeated.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn hand_over(&self, build: BuildId, heir: &Owner) -> Result<()> {
        let (blobs, heir) = (self.clone(), heir.clone());
        let path = contexts_folder(&self.root).join(build.to_string());
        blocking(move || {
            let _lock = blobs.lock(&heir).map_err(storing)?;
            match kept::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(storing(e)),
                Ok(Some((head, lines))) if head.owner != heir => {
                    let sums = kept::wants(lines).map_err(storing)?;
                    blobs.link(&sums, &head.owner, &heir).map_err(storing)?;
                    let Some((head, mut lines)) = kept::head(&path).map_err(storing)? else { return Ok(()) };
                    let (file, from) = blobs.temporary()?;
                    kept::write(&file, &Head { owner: heir, ..head }, &mut lines).map_err(storing)?;
                    persist(&file, from, &path).map_err(storing)
                }
                Ok(_) => Ok(()),
            }
        })
        .await
    }

    fn link(&self, sums: &[(Sum, u64)], from: &Owner, to: &Owner) -> io::Result<()> {
        fs::create_dir_all(self.folder(to))?;
        for (sum, _) in sums {
            let name = hex::encode(sum);
            match fs::hard_link(self.folder(from).join(&name), self.folder(to).join(&name)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        sync_folder_of(&self.folder(to).join("any"))
    }

    /// Removes all blobs and manifests of an owner, which has no builds any more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove_owner(&self, owner: &Owner) -> Result<()> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || {
            let _lock = blobs.lock(&owner).map_err(storing)?;
            for folder in [blobs.manifests(&owner), blobs.folder(&owner)] {
                match fs::remove_dir_all(folder) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(storing(e)),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

/// `None` when it is gone, or cannot be read: no build can be made of it then, and it needs no blobs. That there are no descriptors or
/// no memory left just now says nothing about the file.
fn readable<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>> {
    let Err(error) = read else { return Ok(read.ok()) };
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Err(storing(error)),
        Some(Errno::NOENT) => {}
        _ => tracing::warn!(path = %path.display(), %error, "a manifest cannot be read, and is passed over"),
    }
    Ok(None)
}

/// The files of a folder, which may come and go meanwhile; none when it is not there.
pub(super) fn files(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(storing)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry: DirEntry = entry.map_err(storing)?;
        match entry.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            meta => files.push((entry.path(), meta.map_err(storing)?)),
        }
    }
    Ok(files)
}
