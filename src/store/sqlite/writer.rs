//! The one thread that writes. What waits is committed together: under load one `fsync` serves many clients.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::Checkpointer;
use super::clock::Clock;
use super::events;
use super::live::{Live, News};
use crate::domain::Timestamp;
use crate::store::{Result, StoreError, Topic, Wakes};

/// Most commands of one commit, so that the first of them does not wait long for its answer.
const GROUP: usize = 256;
/// Doomed events removed in one go when nobody waits, and beside other work.
const IDLE_CHUNK: usize = 2000;
const BUSY_CHUNK: usize = 64;
/// As many commands' worth of log is an idle chunk, roughly.
const CLEANING: usize = 20;

/// One command's view of the transaction that it is part of.
pub(super) struct Txn<'c> {
    pub(super) conn: &'c Connection,
    /// The lease clock.
    pub(super) millis: i64,
    pub(super) now: Timestamp,
    wakes: RefCell<Vec<Topic>>,
    news: RefCell<Vec<News>>,
    doomed: Cell<bool>,
}

impl Txn<'_> {
    /// Wakes the topic once the commit is in.
    pub(super) fn wake(&self, topic: Topic) {
        let mut wakes = self.wakes.borrow_mut();
        if !wakes.contains(&topic) {
            wakes.push(topic);
        }
    }

    /// Enters the news into [`Live`] once the commit is in.
    pub(super) fn tell(&self, news: News) {
        self.news.borrow_mut().push(news);
    }

    /// Tells the writer that there are events to remove.
    pub(super) fn doom(&self) {
        self.doomed.set(true);
    }
}

/// Answers its caller, once it is known what became of the commit.
type Answer = Box<dyn FnOnce(&Committed) + Send>;
/// Does its work, unless there is no transaction to do it in.
type Command = Box<dyn FnOnce(Option<&Txn<'_>>) -> (Verdict, Answer) + Send>;

/// What becomes of a command's own savepoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Undo,
    UndoForFullDisk,
}

impl Verdict {
    fn of<T>(result: Option<&Result<T>>) -> Self {
        match result {
            Some(Ok(_)) => Self::Keep,
            Some(Err(StoreError::Full)) => Self::UndoForFullDisk,
            Some(Err(_)) | None => Self::Undo,
        }
    }
}

enum Committed {
    Yes,
    Full,
    Failed(String),
}

impl From<StoreError> for Committed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Committed {
    fn check(&self) -> Result<()> {
        match self {
            Self::Yes => Ok(()),
            Self::Full => Err(StoreError::Full),
            Self::Failed(why) => Err(StoreError::Unavailable(why.clone())),
        }
    }
}

pub(super) struct Writer {
    // Taken out only while being dropped.
    sender: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(parts: Parts) -> Result<Self> {
        let (sender, receiver) = channel();
        let run = move || Loop { parts, receiver, doomed: true }.run();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(run)
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store: {e}")))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Does `work` in a transaction and answers when it is durable; an error undoes that work alone.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |txn| {
            // A rule of the domain that panics must not take the writer with it.
            let guarded = |txn| {
                catch_unwind(AssertUnwindSafe(|| work(txn)))
                    .unwrap_or_else(|_| Err(StoreError::Internal("a change of a build panicked".into())))
            };
            let result = txn.map(guarded);
            let verdict = Verdict::of(result.as_ref());
            let tell: Answer = Box::new(move |committed| {
                let result = match result {
                    Some(Err(error)) => Err(error),
                    Some(Ok(value)) => committed.check().map(|()| value),
                    None => committed.check().and(Err(StoreError::Unavailable("the store did not get to it".into()))),
                };
                // A caller that has gone away needs no answer.
                let _ = reply.send(result);
            });
            (verdict, tell)
        });
        let closed = || StoreError::Unavailable("the store is closed".into());
        self.sender.as_ref().ok_or_else(closed)?.send(command).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // What was accepted is committed before the file is given free.
            let _ = thread.join();
        }
    }
}

/// What a commit has to tell.
type Told = (Vec<News>, Vec<Topic>);

/// What the writer works with.
pub(super) struct Parts {
    pub(super) connection: Connection,
    pub(super) checkpointer: Checkpointer,
    pub(super) clock: Clock,
    pub(super) live: Arc<Live>,
    pub(super) wakes: Wakes,
}

struct Loop {
    parts: Parts,
    receiver: Receiver<Command>,
    /// Whether there may be events to remove.
    doomed: bool,
}

impl Loop {
    fn run(mut self) {
        while let Some(group) = self.next_group() {
            self.commit(group);
        }
    }

    /// Everything that waits. Empty when nothing does and there is cleaning to do; `None` at the end.
    fn next_group(&self) -> Option<Vec<Command>> {
        let first = if self.doomed {
            match self.receiver.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return None,
            }
        } else {
            Some(self.receiver.recv().ok()?)
        };
        Some(first.into_iter().chain(self.receiver.try_iter().take(GROUP - 1)).collect())
    }

    fn commit(&mut self, group: Vec<Command>) {
        let commands = group.len();
        let mut answers = Vec::with_capacity(commands);
        self.parts.live.begin();
        let (committed, (news, woken)) = match self.transact(group, &mut answers) {
            Ok(told) => (Committed::Yes, told),
            Err(error) => {
                // SQLite has ended the transaction itself after some errors; then there is nothing to roll back.
                let _ = self.parts.connection.execute_batch("ROLLBACK");
                self.doomed = false;
                (error.into(), Told::default())
            }
        };
        // Whoever is woken or answered finds what was committed.
        self.parts.live.enter(news);
        for topic in woken {
            self.parts.wakes.wake(topic);
        }
        for answer in answers {
            answer(&committed);
        }
        self.parts.checkpointer.committed(&self.parts.connection, if commands == 0 { CLEANING } else { commands });
    }

    fn transact(&mut self, group: Vec<Command>, answers: &mut Vec<Answer>) -> Result<Told> {
        let txn = Txn {
            conn: &self.parts.connection,
            millis: self.parts.clock.millis(),
            now: self.parts.clock.wall(),
            wakes: RefCell::default(),
            news: RefCell::default(),
            doomed: Cell::new(self.doomed),
        };
        let begun = run_cached(txn.conn, "BEGIN IMMEDIATE");
        let chunk = if group.is_empty() { IDLE_CHUNK } else { BUSY_CHUNK };
        let mut going = begun;
        for command in group {
            match going {
                Ok(()) => going = in_savepoint(&txn, command, answers),
                // Its answer is the fault of the transaction; it must not run outside of one.
                Err(_) => answers.push(command(None).1),
            }
        }
        going?;
        if txn.doomed.get() && events::remove_doomed(txn.conn, chunk)? == 0 {
            txn.doomed.set(false);
        }
        run_cached(txn.conn, "COMMIT")?;
        self.doomed = txn.doomed.get();
        Ok((txn.news.into_inner(), txn.wakes.into_inner()))
    }
}

/// # Errors
/// When SQLite gave up the whole transaction, as it may for a full disk or an I/O error.
fn in_savepoint(txn: &Txn<'_>, command: Command, answers: &mut Vec<Answer>) -> Result<()> {
    if let Err(error) = run_cached(txn.conn, "SAVEPOINT command") {
        answers.push(command(None).1);
        return Err(error);
    }
    let (woken, told) = (txn.wakes.borrow().len(), txn.news.borrow().len());
    let (verdict, answer) = command(Some(txn));
    answers.push(answer);
    if txn.conn.is_autocommit() {
        return Err(match verdict {
            Verdict::UndoForFullDisk => StoreError::Full,
            Verdict::Keep | Verdict::Undo => StoreError::Unavailable("SQLite gave up the transaction".into()),
        });
    }
    if verdict != Verdict::Keep {
        run_cached(txn.conn, "ROLLBACK TO command")?;
        txn.wakes.borrow_mut().truncate(woken);
        txn.news.borrow_mut().truncate(told);
    }
    run_cached(txn.conn, "RELEASE command")
}

fn run_cached(conn: &Connection, sql: &str) -> Result<()> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}
