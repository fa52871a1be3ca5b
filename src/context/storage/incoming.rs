use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::TempPath;
use tokio::task::JoinHandle;

use super::{Batch, no_room, storing};
use crate::error::{Error, Result};

/// The disk is told to write so often that little is left to wait for at the end.
const SYNC_EVERY: u64 = 64 << 20;

/// An upload under way. Dropping it removes what was written.
///
/// Writing and hashing run beside each other in blocking tasks, one batch behind the receiving: the slowest of the three sets the pace.
pub struct Incoming {
    path: TempPath,
    batch: Batch,
    writing: Lane<Target>,
    hashing: Lane<Sha256>,
}

/// An upload that has arrived whole; still removed when dropped, until it is kept.
pub struct Received {
    file: File,
    path: TempPath,
    bytes: u64,
    sha256: String,
}

impl Incoming {
    pub(super) fn new(file: File, path: TempPath, limit: u64, floor: u64) -> Self {
        Self {
            path,
            batch: Batch::new(limit),
            writing: Lane::new(Target { file, floor, unsynced: 0, syncing: None }),
            hashing: Lane::new(Sha256::new()),
        }
    }

    /// Takes the next bytes. Waits when the disk is slower than the client.
    ///
    /// # Errors
    /// [`Error::TooLarge`] as `upload_too_large` as soon as the limit is passed; [`Error::StorageFull`].
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        if self.batch.push(bytes.into())? { self.hand_over().await } else { Ok(()) }
    }

    /// Waits for the batch before, then starts on this one.
    async fn hand_over(&mut self) -> Result<()> {
        self.writing.ready().await?;
        self.hashing.ready().await?;
        // No waiting from here on: a caller that gives up in between loses nothing of the batch.
        let batch = self.batch.take();
        let same = batch.clone();
        self.writing.start(move |target| target.write(&batch));
        self.hashing.start(move |hash| {
            same.iter().for_each(|bytes| hash.update(bytes));
            Ok(())
        });
        Ok(())
    }

    /// The upload is complete.
    ///
    /// # Errors
    /// Those of [`Incoming::write`].
    pub async fn finish(mut self) -> Result<Received> {
        self.hand_over().await?;
        let target = self.writing.end().await?;
        let hash = self.hashing.end().await?;
        Ok(Received { file: target.file, path: self.path, bytes: self.batch.total(), sha256: hex::encode(hash.finalize()) })
    }
}

impl Received {
    /// Where it is until it is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(super) fn into_parts(self) -> (File, TempPath) {
        (self.file, self.path)
    }
}

/// A value on which blocking work is done, one piece after the other.
pub(in crate::context) struct Lane<T> {
    /// The value, while no work is done on it.
    idle: Option<T>,
    busy: Option<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Lane<T> {
    pub(in crate::context) fn new(value: T) -> Self {
        Self { idle: Some(value), busy: None }
    }

    /// Waits until no work is done.
    pub(in crate::context) async fn ready(&mut self) -> Result<()> {
        if let Some(busy) = &mut self.busy {
            let done = busy.await;
            self.busy = None;
            self.idle = Some(done.map_err(Error::internal)??);
        }
        Ok(())
    }

    /// Starts work on the idle value; after a failure there is none, and none is started.
    pub(in crate::context) fn start(&mut self, work: impl FnOnce(&mut T) -> Result<()> + Send + 'static) {
        if let Some(mut value) = self.idle.take() {
            self.busy = Some(tokio::task::spawn_blocking(move || work(&mut value).map(|()| value)));
        }
    }

    pub(in crate::context) async fn end(mut self) -> Result<T> {
        self.ready().await?;
        self.idle.ok_or_else(|| Error::internal(io::Error::other("the upload has failed before")))
    }
}

/// The file that an upload is written to.
struct Target {
    file: File,
    floor: u64,
    unsynced: u64,
    syncing: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Target {
    fn write(&mut self, batch: &[Bytes]) -> Result<()> {
        let stat = rustix::fs::fstatvfs(&self.file).map_err(|e| storing(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.floor {
            return Err(no_room(free, self.floor));
        }
        for bytes in batch {
            self.file.write_all(bytes).map_err(storing)?;
            self.unsynced += bytes.len() as u64;
        }
        self.sync_beside().map_err(storing)
    }

    /// Starts the disk on what was written, beside the writing of what follows.
    fn sync_beside(&mut self) -> io::Result<()> {
        if self.unsynced < SYNC_EVERY || self.syncing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        if let Some(thread) = self.syncing.take() {
            thread.join().map_err(|_| io::Error::other("syncing panicked"))??;
        }
        let file = self.file.try_clone()?;
        self.unsynced = 0;
        self.syncing = Some(std::thread::Builder::new().name("sync-upload".into()).spawn(move || file.sync_data())?);
        Ok(())
    }
}
