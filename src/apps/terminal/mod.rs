//! Terminals: processes in running containers. Each outlives the connection of whoever is at it for a while, and nobody's
//! memory grows with what it writes.

mod screen;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Apps, spec};
use crate::auth::Principal;
use crate::domain::Owner;
use crate::engine::containers::ExecRequest;
use crate::error::{Error, FieldError, Result};
use session::{Ends, Inlets, Newcomer, Session};

pub use session::{News, Parted, Typed};

/// Most terminals of an account at once.
const MOST: usize = 16;
/// Most bytes of a command's arguments together.
const COMMAND_BYTES: usize = 8 * 1024;
/// Columns and rows that a terminal may have, from 1.
pub const SIZE_MAX: u16 = 1000;
/// What is typed and not yet taken: more makes whoever types wait.
const TYPED: usize = 2;
/// How long the processes of terminals may take to end when the service does.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Without a command: the first shell that there is.
const SHELL: [&str; 3] =
    ["sh", "-c", "for shell in bash ash; do command -v $shell >/dev/null 2>&1 && exec $shell; done; exec sh"];

/// A process that is wanted in a container.
#[derive(Debug, Clone)]
pub struct TerminalRequest {
    /// Its arguments, the first one the program; empty: a shell.
    pub command: Vec<String>,
    pub user: Option<String>,
    /// Without one its outputs are told apart, and its input can end.
    pub tty: bool,
    /// Columns and rows.
    pub size: Option<(u16, u16)>,
}

impl TerminalRequest {
    fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.command.first().is_some_and(String::is_empty) || self.command.iter().any(|part| part.contains('\0')) {
            faults.push(FieldError::new("cmd", "must be a program and its arguments, none with a NUL in it"));
        }
        if self.command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES {
            faults.push(FieldError::new("cmd", format!("may have {COMMAND_BYTES} bytes at most")));
        }
        if self.user.as_deref().is_some_and(|user| !spec::is_user(user)) {
            faults.push(FieldError::new("user", spec::USER_FORM));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid { code: "invalid_query", fields: faults }) }
    }
}

/// A container that the caller may have a terminal in.
pub struct TerminalPlace {
    container: String,
    running: Result<()>,
}

/// A process's terminal, as the table of all knows it.
struct Known {
    owner: Owner,
    container: String,
    newcomers: mpsc::Sender<Newcomer>,
    typed: mpsc::Sender<Typed>,
    end: CancellationToken,
}

/// All terminals of this process.
pub(super) struct Sessions {
    // A std mutex, for it is never held across an await.
    all: Mutex<All>,
    keep: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct All {
    known: HashMap<Uuid, Known>,
    /// Places that are taken, also by those that only start.
    taken: HashMap<Owner, usize>,
}

/// One of its owner's places; given back when it is dropped.
struct Taken {
    sessions: Arc<Sessions>,
    owner: Owner,
    id: Uuid,
}

impl Sessions {
    pub(super) fn new(keep: Duration) -> Self {
        Self { all: Mutex::default(), keep, stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("not poisoned, because nothing panics while it is held")
    }

    fn take_place(self: &Arc<Self>, owner: &Owner) -> Result<Taken> {
        let mut all = self.lock();
        let taken = all.taken.entry(owner.clone()).or_default();
        if *taken >= MOST {
            let detail = format!("an account has {MOST} terminals at most; leave one of them");
            return Err(Error::TooMany { code: "too_many_terminals", detail, retry_after: self.keep });
        }
        *taken += 1;
        Ok(Taken { sessions: Arc::clone(self), owner: owner.clone(), id: Uuid::new_v4() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut all = self.sessions.lock();
        all.known.remove(&self.id);
        let left = all.taken.get_mut(&self.owner).map(|taken| {
            *taken -= 1;
            *taken
        });
        if left == Some(0) {
            all.taken.remove(&self.owner);
        }
    }
}

/// Somebody at a terminal. When all of it is dropped, the process waits for somebody to come back.
pub struct Attached {
    /// By which it can be come back to.
    pub session: Uuid,
    pub screen: Screen,
    pub hands: Hands,
}

/// What is told at a terminal.
pub struct Screen(mpsc::Receiver<News>);

impl Screen {
    /// The next news; none when there will be no more. Nothing is lost when it is dropped while it waits.
    pub async fn next(&mut self) -> Option<News> {
        self.0.recv().await
    }
}

/// What can be done at a terminal.
pub struct Hands {
    typed: mpsc::Sender<Typed>,
    parted: watch::Receiver<Option<Parted>>,
    end: CancellationToken,
    /// The service waits for those who are there.
    _counted: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Hands {
    /// Waits until the process has taken most of what was typed before.
    pub async fn type_in(&self, typed: Typed) {
        // One that has ended takes nothing, which is told otherwise.
        let _ = self.typed.send(typed).await;
    }

    /// Why somebody was sent away, if that has come.
    pub fn why(&self) -> Option<Parted> {
        *self.parted.borrow()
    }

    /// Comes when somebody is sent away.
    pub async fn parted(&self) -> Parted {
        let mut parted = self.parted.clone();
        match parted.wait_for(Option::is_some).await.ok().and_then(|why| *why) {
            Some(why) => why,
            // The process has ended, and nobody is sent away any more.
            None => std::future::pending().await,
        }
    }

    /// Ends the process at once.
    pub fn end(&self) {
        self.end.cancel();
    }
}

impl Apps {
    /// The container of the caller's, or for an admin of any account, in which a terminal is wanted.
    ///
    /// # Errors
    /// As [`Apps::own_container`].
    pub async fn terminal_place(&self, caller: &Principal, key: &str) -> Result<TerminalPlace> {
        let (seen, _) = self.own_container(caller, key).await?;
        Ok(TerminalPlace { container: seen.summary.id.clone(), running: self.running(caller, &seen).await })
    }

    /// Starts a process in the container.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_running`; bad input; [`Error::TooMany`] `too_many_terminals`; or the engine's own words.
    pub async fn open_terminal(&self, caller: &Principal, place: TerminalPlace, wanted: TerminalRequest) -> Result<Attached> {
        wanted.check()?;
        place.running?;
        let sessions = &self.terminals;
        let taken = sessions.take_place(&caller.owner)?;
        let command = if wanted.command.is_empty() { SHELL.map(str::to_owned).to_vec() } else { wanted.command };
        let request = ExecRequest { command, user: wanted.user, tty: wanted.tty, size: wanted.size };
        let engine = Arc::clone(self.fleet.engine());
        let exec = match engine.exec(&place.container, &request).await {
            Ok(exec) => exec,
            Err(error) if error.code == "container_not_running" => {
                self.fleet.look_at(&place.container).await?;
                return Err(Error::Conflict { code: "not_running", detail: error.message });
            }
            Err(error) => return Err(error.into()),
        };
        let (session, input) = Session::new(engine, place.container.clone(), exec, request.tty, sessions.keep);
        let (newcomers, come) = mpsc::channel(1);
        let (typed, taps) = mpsc::channel(TYPED);
        let end = sessions.stop.child_token();
        let known = Known { owner: caller.owner.clone(), container: place.container, newcomers, typed, end: end.clone() };
        let id = taken.id;
        sessions.lock().known.insert(id, known);
        sessions.tasks.spawn(async move {
            session.run(Inlets { newcomers: come, typed: taps, input }, end).await;
            drop(taken);
        });
        self.attach(caller, id, None).await
    }

    /// Comes back to a process that was left, or takes it over from whoever is there; what it wrote last comes first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has ended, or is another account's or another container's.
    pub async fn return_to_terminal(&self, caller: &Principal, place: &TerminalPlace, session: Uuid) -> Result<Attached> {
        self.attach(caller, session, Some(place)).await
    }

    async fn attach(&self, caller: &Principal, session: Uuid, place: Option<&TerminalPlace>) -> Result<Attached> {
        let none = || Error::NotFound("terminal");
        let (newcomers, typed, end) = {
            let all = self.terminals.lock();
            let known = all.known.get(&session).filter(|known| known.owner == caller.owner);
            let known = known.filter(|known| place.is_none_or(|place| place.container == known.container)).ok_or_else(none)?;
            (known.newcomers.clone(), known.typed.clone(), known.end.clone())
        };
        let (newcomer, Ends { news, parted }) = Newcomer::new();
        newcomers.send(newcomer).await.map_err(|_| none())?;
        let hands = Hands { typed, parted, end, _counted: self.terminals.tasks.token() };
        Ok(Attached { session, screen: Screen(news), hands })
    }

    /// Waits for `stop`, then ends the processes of all terminals and waits for those who were there to be told.
    pub async fn keep_terminals(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
        self.terminals.stop.cancel();
        self.terminals.tasks.close();
        if tokio::time::timeout(END_WITHIN, self.terminals.tasks.wait()).await.is_err() {
            tracing::warn!("some processes of terminals had not ended in time");
        }
    }
}
