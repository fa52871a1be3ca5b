//! How a run comes to its end: by itself, because somebody wants it, or because its container is lost.

use std::time::Duration;

use super::Fleet;
use super::log::LogBook;
use super::steps::{Next, Result};
use crate::domain::{Ended, ErrorKind, RestartPolicy, Run, RunError, Scope, Timestamp};
use crate::engine::EngineError;
use crate::engine::containers::{ContainerDetails, ContainerState};

impl Fleet {
    /// Its container was there, and is not any more.
    pub(super) async fn has_lost_it(&self, run: &Run, book: &mut LogBook) -> Result<Next> {
        book.note("its container is gone from the engine");
        let at = Timestamp::now();
        let gone = |run: &mut Run| {
            run.container_gone(at);
            Ok(())
        };
        self.records().change(&Scope::All, run.id, None, gone).await?;
        Ok(Next::Again)
    }

    pub(super) async fn has_ended(&self, run: &Run, details: &ContainerDetails, book: &mut LogBook) -> Result<Next> {
        self.save_output(&details.summary.id, book).await;
        self.look_at(&details.summary.id).await?;
        let how = Ended {
            exit_code: details.exit_code,
            oom_killed: details.oom_killed,
            at: details.finished_at.unwrap_or_else(Timestamp::now),
        };
        let why = if how.oom_killed { ", out of memory" } else { "" };
        book.note(format!("ended with exit code {}{why}", how.exit_code));
        let error = never_ran(&how, book).or_else(|| not_restarted(run, details));
        if let Some(error) = error.as_ref().filter(|error| error.code == NOT_RESTARTED) {
            book.note(&error.message);
        }
        // The log is whole before anybody is told of the end.
        book.flush(self).await?;
        let ended = |run: &mut Run| {
            run.lives(details.started_at, details.restarts);
            match &error {
                Some(error) => run.failed(error.clone(), how.at),
                None => run.ended(&how),
            }
            run.exit_code = Some(how.exit_code);
            Ok(())
        };
        self.records().change(&Scope::All, run.id, None, ended).await?;
        Ok(Next::Again)
    }

    /// Ends it at once; one that has ended meanwhile has.
    async fn kill(&self, id: &str) -> Result<(), EngineError> {
        match self.engine().kill(id, "SIGKILL").await {
            Err(error) if error.code == "container_not_running" => Ok(()),
            done => done,
        }
    }

    /// Somebody wants it to end.
    pub(super) async fn stop(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        let Some(there) = self.own_container(&run).await? else {
            book.note("stopped");
            let at = Timestamp::now();
            self.records()
                .change(&Scope::All, run.id, None, |run| {
                    run.container_gone(at);
                    Ok(())
                })
                .await?;
            return Ok(Next::Again);
        };
        let id = there.summary.id.clone();
        let grace = run.stop_grace_ms.map_or(self.settings().grace, Duration::from_millis);
        let asked = if grace.is_zero() { self.kill(&id).await } else { self.engine().stop(&id, grace).await };
        match asked {
            // Somebody else removes it: the next look finds none.
            Err(error) if is_gone(&error) => return Ok(Next::Again),
            asked => asked?,
        }
        match self.engine().inspect(&id, false).await? {
            Some(details) if matches!(details.summary.state, ContainerState::Exited | ContainerState::Dead) => {
                let known = |run: &mut Run| {
                    run.container = Some(id.clone());
                    Ok(())
                };
                self.records().change(&Scope::All, run.id, None, known).await?;
                self.has_ended(&run, &details, book).await
            }
            // Made and never started.
            Some(_) => {
                self.engine().remove(&id, true).await?;
                Ok(Next::Again)
            }
            None => Ok(Next::Again),
        }
    }
}

/// The program that the engine puts before every other one could not start it: to the engine a process that ended, to everybody else
/// a command that never ran. Its own word stands at the end of the output (tini, `[FATAL tini (7)] exec x failed: …`).
fn never_ran(how: &Ended, book: &LogBook) -> Option<RunError> {
    let word = book.last_saved().filter(|line| matches!(how.exit_code, 126 | 127) && line.starts_with("[FATAL tini"))?;
    Some(RunError { kind: ErrorKind::User, code: "command_failed_to_start".into(), message: word.to_owned() })
}

/// Code of a run that should have been started again and was not.
const NOT_RESTARTED: &str = "not_restarted";

/// The engine's own word says that it tried to start the container again, as its policy wants, and could not.
fn not_restarted(run: &Run, details: &ContainerDetails) -> Option<RunError> {
    let wanted = run.spec.restart != RestartPolicy::No && !run.stop_requested && !details.error.is_empty();
    let message = format!("the engine could not start it again: {}", details.error);
    wanted.then(|| RunError { kind: ErrorKind::Engine, code: NOT_RESTARTED.into(), message })
}

pub(super) fn is_gone(error: &EngineError) -> bool {
    error.code == "container_not_found"
}
