//! Uploads and archived logs on the disk. Every path is made here:
//!
//! ```text
//! ROOT/incoming/RANDOM     uploads, logs and git sources under way; what a crash leaves here, sweep_incoming removes
//! ROOT/contexts/ID         a kept upload, as it came, or its manifest (see super::blobs)
//! ROOT/logs/ID.zst         the log of a build that has ended
//! ```
//!
//! Nothing appears under `contexts/` or `logs/` but whole and durable: a file is synced, then renamed, then its folder is synced.

mod batch;
mod incoming;
mod log;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::{TempDir, TempPath};

use super::blobs::Blobs;
use crate::domain::BuildId;
use crate::error::{Error, Result};

pub(super) use batch::Batch;
pub(super) use incoming::Lane;
pub use incoming::{Incoming, Received};
pub use log::{ByteStream, LogWriter};

const INCOMING: &str = "incoming";
const CONTEXTS: &str = "contexts";
const LOGS: &str = "logs";
const LOG_SUFFIX: &str = ".zst";

/// The folder of uploads and logs. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct ContextStorage {
    root: Arc<Path>,
    floor: u64,
    blobs: Blobs,
}

impl ContextStorage {
    /// Opens the folder and makes what is missing of it. Blocks; meant for the start of the process.
    /// Below `free_bytes_floor` bytes of free disk no upload is taken.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path, free_bytes_floor: u64) -> Result<Self> {
        for folder in [INCOMING, CONTEXTS, LOGS] {
            fs::create_dir_all(root.join(folder)).map_err(storing)?;
        }
        let root: Arc<Path> = root.into();
        Ok(Self { blobs: Blobs::new(Arc::clone(&root), free_bytes_floor)?, root, floor: free_bytes_floor })
    }

    /// What comes in pieces.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the kept upload of a build is, or would be.
    #[must_use]
    pub fn path(&self, id: BuildId) -> PathBuf {
        context_path(&self.root, id)
    }

    fn log_path(&self, id: BuildId) -> PathBuf {
        self.root.join(LOGS).join(format!("{id}{LOG_SUFFIX}"))
    }

    /// A folder for work on an upload; gone when it is dropped, or by [`ContextStorage::sweep_incoming`] after a crash.
    ///
    /// # Errors
    /// [`Error::StorageFull`] when less than the floor is free.
    pub async fn folder(&self) -> Result<TempDir> {
        let storage = self.clone();
        blocking(move || {
            storage.check_room()?;
            tempfile::TempDir::new_in(storage.root.join(INCOMING)).map_err(storing)
        })
        .await
    }

    fn temporary(&self) -> io::Result<(File, TempPath)> {
        temporary(&self.root)
    }

    /// Begins an upload of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::StorageFull`] when less than the floor is free.
    pub async fn begin(&self, limit: u64) -> Result<Incoming> {
        let storage = self.clone();
        blocking(move || {
            storage.check_room()?;
            let (file, path) = storage.temporary().map_err(storing)?;
            Ok(Incoming::new(file, path, limit, storage.floor))
        })
        .await
    }

    /// # Errors
    /// [`Error::StorageFull`] when less than the floor is free.
    pub fn check_room(&self) -> Result<()> {
        let free = self.free_bytes()?;
        if free < self.floor { Err(no_room(free, self.floor)) } else { Ok(()) }
    }

    /// Whether there is room for builds. They go on for long after nothing is accepted any more, so that what was accepted is not
    /// held up by what was, too.
    #[must_use]
    pub fn may_build(&self) -> bool {
        self.free_bytes().is_ok_and(|free| free >= self.floor / 4)
    }

    /// Keeps a received upload as the build's context. When this returns, the file outlives a power cut.
    ///
    /// # Errors
    /// [`Error::StorageFull`], or the disk's own.
    pub async fn keep(&self, received: Received, id: BuildId) -> Result<PathBuf> {
        let to = self.path(id);
        blocking(move || {
            let (file, path) = received.into_parts();
            persist(&file, path, &to).map_err(storing)?;
            Ok(to)
        })
        .await
    }

    /// Keeps the upload of one build for another one, too, whatever becomes of the first; false when there is none.
    ///
    /// # Errors
    /// [`Error::StorageFull`], or the disk's own.
    pub async fn share(&self, from: BuildId, to: BuildId) -> Result<bool> {
        let (from, to, storage) = (self.path(from), self.path(to), self.clone());
        blocking(move || match fs::hard_link(&from, &to) {
            Ok(()) => {
                sync_folder_of(&to).map_err(storing)?;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // A repeated request has shared it before.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            // A disk without links.
            Err(_) => {
                storage.check_room()?;
                let (mut file, path) = storage.temporary().map_err(storing)?;
                io::copy(&mut File::open(&from).map_err(storing)?, &mut file).map_err(storing)?;
                persist(&file, path, &to).map_err(storing)?;
                Ok(true)
            }
        })
        .await
    }

    /// Removes the context and the log of a build; whether there was either.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove(&self, id: BuildId) -> Result<bool> {
        let paths = [self.path(id), self.log_path(id)];
        blocking(move || {
            let mut removed = false;
            for path in paths {
                removed |= remove_if_there(&path).map_err(storing)?;
            }
            Ok(removed)
        })
        .await
    }

    /// Removes the kept upload of a build, and leaves its log; whether there was one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove_upload(&self, id: BuildId) -> Result<bool> {
        let path = self.path(id);
        blocking(move || remove_if_there(&path).map_err(storing)).await
    }

    /// How full the disk below the folder is, in percent of what this account may use.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn used_percent(&self) -> Result<u8> {
        used_percent(&self.root)
    }

    /// Builds that have a context or a log here, oldest first; for the janitor, that looks for what has no record.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub async fn list_ids(&self) -> Result<Vec<BuildId>> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            let mut ids = BTreeSet::new();
            for folder in [CONTEXTS, LOGS] {
                for entry in fs::read_dir(root.join(folder)).map_err(storing)? {
                    let name = entry.map_err(storing)?.file_name();
                    let name = name.to_str().unwrap_or_default();
                    // What is not named by an id is not ours to list, and so not to remove.
                    ids.extend(name.strip_suffix(LOG_SUFFIX).unwrap_or(name).parse::<BuildId>());
                }
            }
            Ok(ids.into_iter().collect())
        })
        .await
    }

    /// Removes what was left in `incoming/` and not written to for `older_than`; how many files and folders.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn sweep_incoming(&self, older_than: Duration) -> Result<u64> {
        let folder = self.root.join(INCOMING);
        blocking(move || {
            let mut removed = 0;
            for entry in fs::read_dir(folder).map_err(storing)? {
                let entry = entry.map_err(storing)?;
                // A file may be finished or dropped while we look at it.
                let Ok(written) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
                let age = SystemTime::now().duration_since(written).unwrap_or_default();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let remove = || if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
                removed += u64::from(age >= older_than && remove().is_ok());
            }
            Ok(removed)
        })
        .await
    }

    /// Bytes of disk that are free for us.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn free_bytes(&self) -> Result<u64> {
        free_bytes(&self.root)
    }
}

/// Bytes of disk that are free for this account below a folder.
///
/// # Errors
/// When the file system does not answer.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| storing(e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How full the disk below a folder is, in percent of what this account may use, as `df` tells it.
///
/// # Errors
/// When the file system does not answer.
pub fn used_percent(folder: &Path) -> Result<u8> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| storing(e.into()))?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let percent = used.saturating_mul(100).div_ceil(used.saturating_add(stat.f_bavail).max(1));
    Ok(u8::try_from(percent).unwrap_or(100))
}

/// Gives a written file its final name, so that it is there whole or not at all.
pub(super) fn persist(file: &File, from: TempPath, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    from.persist(to).map_err(|e| e.error)?;
    sync_folder_of(to)
}

/// Removes a file; whether there was one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes durable which files are in the folder of this one.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("every final path has a folder, because it is made by joining"))?.sync_all()
}

pub(super) fn contexts_folder(root: &Path) -> PathBuf {
    root.join(CONTEXTS)
}

pub(super) fn context_path(root: &Path, id: BuildId) -> PathBuf {
    contexts_folder(root).join(id.to_string())
}

pub(super) fn temporary(root: &Path) -> io::Result<(File, TempPath)> {
    Ok(tempfile::NamedTempFile::new_in(root.join(INCOMING))?.into_parts())
}

pub(super) fn no_room(free: u64, floor: u64) -> Error {
    Error::StorageFull(format!("{free} bytes are free, uploads need {floor}"))
}

pub(super) fn storing(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::StorageFull(error.to_string()),
        _ => Error::internal(error),
    }
}

/// Runs what blocks where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
