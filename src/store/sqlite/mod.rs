//! The embedded backend: one SQLite file, nothing to install.
//!
//! **Writes** go through one thread ([`writer`]), which takes all commands that wait and commits them together: each in a
//! savepoint of its own, one `fsync` for all, and no answer before the commit is in (WAL, `synchronous=FULL`).
//! A change is computed inside that transaction, so nothing ever conflicts. **Reads** run beside it on a few
//! read-only connections ([`reader`]) and see what is committed; what is asked for most, the state of one build and its place
//! in the queue, is kept in memory ([`live`]). Checkpoints run beside both ([`checkpoint`]).
//!
//! One process has the file at a time, by a lock on `FILE.lock`. That makes three things simple: leases and locks are timed by a
//! monotonic clock that starts with the process ([`clock`]), wake-ups stay inside the process, and at the start every
//! lease is over, for whoever held it is dead.
//!
//! `schema.sql` describes the tables. The events of a deleted or archived build are invisible at once and
//! removed little by little, so that a long log never holds up the writer.
#![allow(clippy::disallowed_types, reason = "this is the folder that speaks SQL")]

mod aside;
mod backend;
mod checkpoint;
mod clock;
mod ended;
mod events;
mod fault;
mod list;
mod live;
mod objects;
mod queue;
mod quota;
mod reader;
mod rows;
mod turns;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::contact::Contact;
use super::{Result, StoreError, Wakes};
use checkpoint::Checkpointer;
use clock::Clock;
use live::Live;
use reader::Readers;
use turns::Turns;
use writer::{Parts, Writer};

/// Read-only connections, each with a thread of its own.
const READERS: usize = 4;
/// How long a connection waits for another of this process; only a checkpoint can make one wait.
const BUSY: Duration = Duration::from_secs(5);
const STATEMENTS: usize = 64;

/// A store in a file. Clones share it; the file is given free when the last one is dropped.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    readers: Readers,
    live: Arc<Live>,
    wakes: Wakes,
    clock: Clock,
    contact: Arc<Contact>,
    warnings: Vec<String>,
    // Fields are dropped in this order: the lock is given back when the threads have ended.
    _lock: std::fs::File,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it, and ends all leases and locks of the process that had it before.
    ///
    /// # Errors
    /// When another process has it, it cannot be read or written, or it was written by a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        let mut connection = Connection::open(path).map_err(|e| cannot_open(path, &e))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // A commit would answer only after its checkpoint.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // The journals of the commands' savepoints are small, and needed by nobody after a crash.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        prepare(&connection)?;
        let migrations = Migrations::from_slice(MIGRATIONS);
        migrations.to_latest(&mut connection).map_err(|e| cannot_open(path, &e))?;
        forget_former_process(&connection)?;

        let live = Arc::new(Live::new(Turns::load(&connection)?));
        let wakes = Wakes::default();
        let clock = Clock::start();
        let checkpointer = Checkpointer::start(open_second(path)?)?;
        let readers = (0..READERS).map(|_| open_reader(path)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer: Writer::start(Parts { connection, checkpointer, clock, live: Arc::clone(&live), wakes: wakes.clone() })?,
                readers: Readers::start(readers)?,
                live,
                wakes,
                clock,
                contact: Arc::default(),
                warnings: warnings(path, &mode),
                _lock: lock,
            }),
        })
    }
}

const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("schema.sql")),
    M::up(include_str!("accounts.sql")),
    M::up(include_str!("apps.sql")),
    M::up(include_str!("hooks.sql")),
];

fn cannot_open(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
}

/// Whether a process has the database at `path` now. Looks only; false when that cannot be told.
#[must_use]
pub fn in_use(path: &Path) -> bool {
    let file = std::fs::File::open(lock_name(path));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn lock_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn lock(path: &Path) -> Result<std::fs::File> {
    let name = lock_name(path);
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(|e| cannot_open(&name, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let folder = path.parent().unwrap_or(path);
            Err(StoreError::Unavailable(format!("another dockwright uses {}", folder.display())))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(cannot_open(&name, &e)),
    }
}

fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Another connection that may write.
fn open_second(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|e| cannot_open(path, &e))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    prepare(&connection)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| cannot_open(path, &e))?;
    prepare(&connection)?;
    Ok(connection)
}

/// The holders of these were threads of a process that is gone, as the lock file proves.
fn forget_former_process(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "UPDATE build SET lease_until = 0, lease_ms = 0 WHERE lease_until IS NOT NULL; DELETE FROM lock; DELETE FROM worker; DELETE FROM rate;",
    )?;
    Ok(())
}

fn warnings(path: &Path, journal_mode: &str) -> Vec<String> {
    if journal_mode.eq_ignore_ascii_case("wal") {
        return Vec::new();
    }
    vec![format!(
        "The file system below {} cannot keep SQLite's write-ahead log (journal mode is {journal_mode}): use a local disk.",
        path.display()
    )]
}

#[cfg(test)]
mod tests;
