//! Moves what was committed from the write-ahead log into the database, beside the writer: a checkpoint waits for the disk, and
//! nobody who waits for a commit should wait for that as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::store::{Result, StoreError};

/// Commands between two checkpoints: so few that the commits which meet one on the disk do not wait long for it.
const EVERY: usize = 300;
/// Under load that never pauses, a checkpoint beside the writer cannot let the log begin anew. At this many pages (128 MiB)
/// the writer does the rest itself, which by then is little, between two commits.
const PAGES_AT_MOST: i64 = 32_768;

pub(super) struct Checkpointer {
    // Taken out only while being dropped.
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    commands: usize,
    long: Arc<AtomicBool>,
}

impl Checkpointer {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let (due, signals) = sync_channel(1);
        let long = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&long);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &signals, &told))
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store: {e}")))?;
        Ok(Self { due: Some(due), thread: Some(thread), commands: 0, long })
    }

    /// So many commands were committed on the writer's connection.
    pub(super) fn committed(&mut self, writer: &Connection, commands: usize) {
        self.commands += commands;
        if self.long.swap(false, Ordering::Relaxed) {
            checkpoint(writer);
        }
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

fn run(connection: &Connection, signals: &Receiver<()>, long: &AtomicBool) {
    while signals.recv().is_ok() {
        long.store(checkpoint(connection) >= PAGES_AT_MOST, Ordering::Relaxed);
    }
}

/// Answers how many pages the log has.
fn checkpoint(connection: &Connection) -> i64 {
    // PASSIVE never waits for a reader or the writer.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap_or_else(|error| {
        tracing::warn!(%error, "the store's log could not be moved into its database; it is tried again");
        0
    })
}
