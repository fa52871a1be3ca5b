//! How a process in a container is ended for sure: the engine has no call for it, and dropping its connection does not do it.
//!
//! Each is started with a mark in its environment, which what it starts inherits. Ended is everything in the container that carries the
//! mark, or is of the process's own session:
//!
//! - on an engine of this host, by signals from here: to what `/proc` shows to be in this container's control group, and through a
//!   descriptor of the process, so that an id that was given anew hits nobody else;
//! - elsewhere, or where we may not, by a second process in the container, of the same user, which needs `sh`, `tr`, `grep` and `kill` there.
//!
//! What remains: a process that has left the session *and* wiped its environment (`setsid env -i …`), and elsewhere one that
//! became another user. Such a one is bounded by the container's limits, and ends with it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getsid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::Docker;
use super::calls::part;
use super::errors::fault;
use super::exec::ExecState;
use crate::engine::Result;
use crate::engine::containers::Terminals as _;

/// The variable that holds the mark.
pub(super) const MARK: &str = "DOCKWRIGHT_EXEC";
/// How long a process may take over its last words after SIGHUP.
const GRACE: Duration = Duration::from_millis(500);
/// How long SIGKILL may take, which a process that starts others all the time can delay.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the second process in the container may take.
const INSIDE_WITHIN: Duration = Duration::from_secs(10);
/// Ends all that carry the mark `$1`: asked first, then killed, twice for what was being started meanwhile.
const SCRIPT: &str = r#"for signal in HUP KILL KILL; do
  for process in /proc/[0-9]*; do
    if { tr '\0' '\n' < "$process/environ" | grep -qxF "$1"; } 2>/dev/null; then kill -$signal "${process#/proc/}" 2>/dev/null; fi
  done
  if [ $signal = HUP ]; then sleep 0.3 2>/dev/null || sleep 1; fi
done"#;

/// What tells a process and its children from all others in its container.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    container: String,
    value: String,
    /// As whom it runs.
    user: Option<String>,
}

impl Mark {
    pub(super) fn new(container: &str, user: Option<String>) -> Self {
        Self { container: container.to_owned(), value: Uuid::new_v4().simple().to_string(), user }
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

/// The marks of the processes that this service has started and not ended; in a folder, too, if there is one, for the next start to
/// end what a service that was killed has left.
#[derive(Default)]
pub(super) struct Marks {
    known: Mutex<HashMap<String, Mark>>,
    folder: Option<PathBuf>,
    /// What was in the folder at the start.
    left: Vec<String>,
}

impl Marks {
    /// Those that are left in the folder are known, too.
    pub(super) fn of_folder(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut known = HashMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // One that was cut off in the writing belongs to a process that was not started.
            match serde_json::from_slice(&std::fs::read(entry.path())?) {
                Ok(mark) => drop(known.insert(entry.file_name().to_string_lossy().into_owned(), mark)),
                Err(_) => std::fs::remove_file(entry.path())?,
            }
        }
        let left = known.keys().cloned().collect();
        Ok(Self { known: Mutex::new(known), folder: Some(folder), left })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Mark>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the process is started.
    pub(super) fn keep(&self, exec: &str, mark: Mark) -> io::Result<()> {
        if let Some(folder) = &self.folder {
            std::fs::write(folder.join(exec), serde_json::to_vec(&mark)?)?;
        }
        self.lock().insert(exec.to_owned(), mark);
        Ok(())
    }

    fn of(&self, exec: &str) -> Option<Mark> {
        self.lock().get(exec).cloned()
    }

    fn forget(&self, exec: &str) {
        if let Some(file) = self.folder.as_ref().map(|folder| folder.join(exec)) {
            // What stays costs one look at the next start.
            let _ = std::fs::remove_file(file);
        }
        self.lock().remove(exec);
    }
}

impl Docker {
    /// Keeps in this folder what tells the processes of terminals from others, so that [`Docker::end_left`] finds those that a service
    /// which was killed has left. No other process may use the folder.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn with_marks_in(self, folder: PathBuf) -> io::Result<Self> {
        Ok(Self { marks: Arc::new(Marks::of_folder(folder)?), ..self })
    }

    /// Ends the processes of terminals that were left by a service before this one.
    ///
    /// # Errors
    /// When the engine is away: what was not ended is still known.
    pub async fn end_left(&self) -> Result<()> {
        for exec in &self.marks.left {
            if let Some(mark) = self.marks.of(exec) {
                self.end_exec(&mark.container, exec).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn end_exec(&self, container: &str, exec: &str) -> Result<()> {
        let mark = self.marks.of(exec);
        // With its container the engine forgets it, and it is gone.
        if let Some(state) = self.find::<ExecState>(&format!("/exec/{}/json", part(exec))).await? {
            let here = self.transport.is_unix() && self.is_here(&state.container).await?;
            // The id of one that has ended may be another's by now.
            let session = Pid::from_raw(state.pid).filter(|_| state.running);
            let hunted = Hunted { container: state.container, session, mark: mark.clone() };
            if !here || !hunted.end().await? {
                self.end_inside(container, exec, mark).await?;
            }
        }
        self.marks.forget(exec);
        Ok(())
    }

    /// Whether the container's processes are among those that we see, or it has none.
    async fn is_here(&self, container: &str) -> Result<bool> {
        let Some(found) = self.find::<Value>(&format!("/containers/{}/json", part(container))).await? else { return Ok(true) };
        let pid = found["State"]["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        Ok(Pid::from_raw(pid).is_none_or(|pid| is_in(pid, container)))
    }

    async fn end_inside(&self, container: &str, exec: &str, mark: Option<Mark>) -> Result<()> {
        let still_runs = || fault("the process could not be ended: its container has no shell to do it with");
        let Some(mark) = mark else {
            return if self.exit_code(exec).await?.is_some() { Ok(()) } else { Err(still_runs()) };
        };
        let mut body = json!({"Cmd": ["sh", "-c", SCRIPT, "sh", format!("{MARK}={}", mark.value)]});
        if let Some(user) = &mark.user {
            body["User"] = json!(user);
        }
        let id = match self.exec_id(container, &body).await {
            Ok(id) => id,
            Err(error) if matches!(error.code, "container_not_running" | "container_not_found") => return Ok(()),
            Err(error) => return Err(error),
        };
        let start = json!({"Detach": true, "Tty": false});
        self.act(Method::POST, &format!("/exec/{}/start", part(&id)), Some(&start), Duration::ZERO).await?;
        let give_up = Instant::now() + INSIDE_WITHIN;
        while self.exit_code(&id).await?.is_none() || self.exit_code(exec).await?.is_none() {
            if Instant::now() > give_up {
                return Err(still_runs());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

/// What is to be ended, on this host.
#[derive(Clone)]
struct Hunted {
    container: String,
    /// The process's own id, which its session has, too; none when it has ended.
    session: Option<Pid>,
    mark: Option<Mark>,
}

impl Hunted {
    /// False when we may not.
    async fn end(&self) -> Result<bool> {
        let began = Instant::now();
        let mut asked = false;
        while began.elapsed() < GRACE + KILLED_WITHIN {
            let signal = if began.elapsed() < GRACE { Signal::HUP } else { Signal::KILL };
            let (hunted, silent) = (self.clone(), asked && signal == Signal::HUP);
            let found = tokio::task::spawn_blocking(move || hunted.signal_all((!silent).then_some(signal))).await;
            match found.map_err(|e| fault(e.to_string()))? {
                Ok(0) => return Ok(true),
                Ok(_) => asked = true,
                Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => return Ok(false),
                Err(error) => return Err(fault(format!("the process could not be ended: {error}"))),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(fault("the process starts others faster than they can be ended"))
    }

    /// Signals all that are there; answers how many they are.
    fn signal_all(&self, signal: Option<Signal>) -> Result<usize, Errno> {
        let mut found = 0;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let Some(pid) = pid.filter(|pid| self.is_one(*pid)) else { continue };
            found += 1;
            if let Some(signal) = signal {
                self.signal(pid, signal)?;
            }
        }
        Ok(found)
    }

    fn signal(&self, pid: Pid, signal: Signal) -> Result<(), Errno> {
        let gone = |error: Errno| if error == Errno::SRCH { Ok(()) } else { Err(error) };
        let held = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) => held,
            Err(error) => return gone(error),
        };
        // Looked at again, now that its id cannot be given to another.
        if self.is_one(pid) { pidfd_send_signal(&held, signal).or_else(gone) } else { Ok(()) }
    }

    fn is_one(&self, pid: Pid) -> bool {
        is_in(pid, &self.container) && is_alive(pid) && (self.is_of_session(pid) || self.is_marked(pid))
    }

    fn is_of_session(&self, pid: Pid) -> bool {
        self.session.is_some() && getsid(Some(pid)).ok() == self.session
    }

    fn is_marked(&self, pid: Pid) -> bool {
        let Some(mark) = &self.mark else { return false };
        let wanted = format!("{MARK}={}", mark.value);
        let environment = std::fs::read(file_of(pid, "environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }
}

fn file_of(pid: Pid, name: &str) -> std::path::PathBuf {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join(name)
}

/// Whether the process is in the control group of this container: its 64 digits are part of the group's name.
fn is_in(pid: Pid, container: &str) -> bool {
    container.len() == 64 && std::fs::read_to_string(file_of(pid, "cgroup")).is_ok_and(|groups| groups.contains(container))
}

/// A process that has ended and was not yet waited for is no concern of ours.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read(file_of(pid, "stat")).unwrap_or_default();
    // Its name, in brackets, may hold anything.
    let after = stat.iter().rposition(|byte| *byte == b')').map(|at| &stat[at + 1..]).unwrap_or_default();
    !matches!(after.trim_ascii_start().first(), None | Some(b'Z' | b'X'))
}
