//! Moves what was committed from the write-ahead log into the database, beside the writer: a checkpoint waits for the disk, and
//! nobody who waits for a commit should wait for that as well.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::store::{Result, StoreError};

/// Commands between two checkpoints.
const EVERY: usize = 1000;
/// Under load that never pauses, a checkpoint beside the writer cannot let the log begin anew. At this many pages (128 MiB)
/// the writer does the rest itself, which by then is little.
pub(super) const PAGES_AT_MOST: u32 = 32_768;

pub(super) struct Checkpointer {
    // Taken out only while being dropped.
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    commands: usize,
}

impl Checkpointer {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let (due, signals) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &signals))
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store: {e}")))?;
        Ok(Self { due: Some(due), thread: Some(thread), commands: 0 })
    }

    /// So many commands were committed.
    pub(super) fn committed(&mut self, commands: usize) {
        self.commands += commands;
        if self.commands < EVERY {
            return;
        }
        // Full: one is due already.
        if let Some(Ok(()) | Err(TrySendError::Full(()))) = self.due.as_ref().map(|due| due.try_send(())) {
            self.commands = 0;
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            // Joined, so that the file is closed when the lock on it is given back.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, signals: &Receiver<()>) {
    while signals.recv().is_ok() {
        // PASSIVE never waits for a reader or the writer.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the store's log could not be moved into its database; it is tried again");
        }
    }
}
