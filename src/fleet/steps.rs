//! What is done for a run in each of its states. Each step can be repeated: it looks at what is there before it does anything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use super::images::{Choice, Here, user_error};
use super::log::LogBook;
use super::{Fleet, seen};
use crate::domain::{BuildId, Ended, ErrorKind, ImageSource, Run, RunError, RunImage, RunState, Scope, SecretEnv, Timestamp};
use crate::engine::EngineError;
use crate::engine::containers::{ContainerDetails, ContainerState, CreateContainer, IMAGE, RUN};
use crate::engine::folders::HostFolders;
use crate::engine::request::{Placement, request};
use crate::error::Error;
use crate::store::{StoreError, Topic};

/// A run whose container does what it should is looked at again this often, although events tell of every change.
const SELDOM: Duration = Duration::from_secs(60);
/// Notes of a pull are written at most this often.
const TOLD: Duration = Duration::from_millis(500);

/// Why a step was not done.
#[derive(Debug)]
pub enum Fault {
    /// The run fails by it.
    Run(RunError),
    /// Something is away: it is tried again.
    Later(String),
    /// The store's own word, for a caller.
    Store(StoreError),
}

pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        if error.transient && error.code == seen::away().code {
            return Self::Later(error.message);
        }
        Self::Run(RunError { kind: error.kind, code: error.code.into(), message: error.message })
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "a run fails by a fault of ours");
                Self::Run(RunError { kind: ErrorKind::Internal, code: "internal".into(), message: "internal error".into() })
            }
            other => Self::Later(other.to_string()),
        }
    }
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the run is over, or another node's.
    Done,
    /// The next step, at once.
    Again,
    /// The same look again when the run moves, or after this long.
    Wait(Duration),
    /// When this build moves.
    WaitFor(BuildId),
}

impl Fleet {
    pub(super) async fn step(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        let node = self.node().ok_or_else(seen::away)?;
        if !run.state.is_live() || run.node.as_ref().is_some_and(|other| *other != node) {
            return Ok(Next::Done);
        }
        if run.stop_requested {
            return self.stop(run, book).await;
        }
        match run.state {
            RunState::Pending => self.prepare(run, book).await,
            RunState::Pulling => self.pull(run, book).await,
            RunState::Starting => self.start(run, book).await,
            _ => self.mind(run, book).await,
        }
    }

    /// Finds out what it is made from.
    async fn prepare(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        match self.choose_image(&run).await? {
            Choice::Here(here) => self.has_image(&run, &here).await,
            Choice::Wait(build) => {
                // Whose own log stands there otherwise.
                if !run.built_here {
                    book.note(format!("waits for the build {build}"));
                }
                Ok(Next::WaitFor(build))
            }
            Choice::Pull(image) => {
                book.note(format!("pulls {image}"));
                self.advance(&run, RunState::Pulling, |run| run.image = Some(image.reference())).await
            }
        }
    }

    async fn has_image(&self, run: &Run, here: &Here) -> Result<Next> {
        let set = |run: &mut Run| {
            run.image_id = Some(here.id.clone());
            run.image = Some(here.shown.clone());
        };
        self.advance(run, RunState::Starting, set).await
    }

    async fn advance(&self, run: &Run, state: RunState, set: impl Fn(&mut Run) + Send + Sync) -> Result<Next> {
        let node = self.node().ok_or_else(seen::away)?;
        let change = |run: &mut Run| {
            run.taken(&node, state);
            set(run);
            Ok(())
        };
        self.records().change(&Scope::All, run.id, None, change).await?;
        Ok(Next::Again)
    }

    async fn pull(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        let image = match &run.spec.image {
            ImageSource::Reference(image) => image.clone(),
            // Pinned when the pull was decided on.
            ImageSource::Build(_) => run
                .image
                .as_deref()
                .and_then(|image| image.parse::<RunImage>().ok())
                .ok_or_else(|| user_error("image_not_found", "the build's image is nowhere any more".into()))?,
        };
        let mut pull = self.pull_image(&run.owner, &image, run.registry.as_deref()).await?;
        let mut moved = self.store().wakes().subscribe(Topic::Run(run.id));
        loop {
            let state = pull.progress();
            state.layers.values().for_each(|layer| book.note_layer(layer));
            state.told.iter().for_each(|told| book.note_once(told));
            book.flush(self).await?;
            match state.ended {
                Some(Ok(())) => break,
                Some(Err(error)) => return Err(explained(error).into()),
                None => {}
            }
            tokio::select! {
                () = pull.moved() => {}
                () = moved.sleep(SELDOM) => if self.is_to_stop(&run).await? { return Ok(Next::Again) },
            }
            // Progress comes faster than anybody reads it.
            tokio::time::sleep(TOLD).await;
        }
        let here = pull.settle().await?;
        book.note(format!("has pulled {}", here.shown));
        self.has_image(&run, &here).await
    }

    /// Our own notes wake us too: only a record that says so stops a pull.
    async fn is_to_stop(&self, run: &Run) -> Result<bool> {
        let now = self.records().run(&Scope::All, run.id).await?;
        Ok(now.is_none_or(|run| run.body.stop_requested || !run.body.state.is_live()))
    }

    /// Makes the container, unless it was made before, and starts it.
    async fn start(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        let (container, is_new) = match self.own_container(&run).await? {
            Some(there) => (there.summary.id, false),
            None => {
                let id = self.engine().create(self.request(&run).await?).await?;
                book.note(format!("made the container {} from {}", run.name, run.image.as_deref().unwrap_or_default()));
                (id, true)
            }
        };
        book.note("starts");
        // Whoever follows the log reads on at the container as soon as the record names it.
        book.flush(self).await?;
        let made = |run: &mut Run| {
            run.container = Some(container.clone());
            Ok(())
        };
        let Some(run) = self.records().change(&Scope::All, run.id, None, made).await? else {
            // Removed meanwhile: nothing of it may stay.
            self.engine().remove(&container, true).await?;
            return Ok(Next::Done);
        };
        self.look_at(&container).await?;
        if let Err(error) = self.engine().start(&container).await {
            let fault = Fault::from(error);
            // One that ran before may hold what somebody wants.
            if let (Fault::Run(_), true) = (&fault, is_new) {
                self.engine().remove(&container, true).await?;
                let gone = |run: &mut Run| {
                    run.removed = true;
                    Ok(())
                };
                self.records().change(&Scope::All, run.id, None, gone).await?;
            }
            return Err(fault);
        }
        self.note_running(&run, &container).await
    }

    async fn note_running(&self, run: &Run, container: &str) -> Result<Next> {
        let details = self.engine().inspect(container, false).await?;
        let at = details.as_ref().and_then(|details| details.started_at).unwrap_or_else(Timestamp::now);
        let restarts = details.map_or(0, |details| details.restarts);
        let runs = |run: &mut Run| {
            if run.state == RunState::Starting {
                let stop = run.stop_requested;
                run.runs(at);
                run.stop_requested = stop;
                run.restarts = restarts;
            }
            Ok(())
        };
        self.records().change(&Scope::All, run.id, None, runs).await?;
        Ok(Next::Again)
    }

    /// What the engine has under the run's name, if it is this run's.
    async fn own_container(&self, run: &Run) -> Result<Option<ContainerDetails>> {
        let there = self.engine().inspect(run.container.as_deref().unwrap_or(&run.name), false).await?;
        Ok(there.filter(|there| there.summary.labels.get(RUN) == Some(&run.id.to_string())))
    }

    async fn request(&self, run: &Run) -> Result<CreateContainer> {
        let image = run.image_id.clone().ok_or_else(|| user_error("image_not_found", "it has no image".into()))?;
        let settings = self.settings();
        let folders = HostFolders { roots: &settings.bind_roots, forbidden: &settings.forbidden_sources };
        folders.allow_links(&run.spec.admin.binds).map_err(|why| user_error("mount_refused", why))?;
        let (network, volumes) = (self.network_of(run).await?, self.volumes_of(run).await?);
        let app = run.app.as_ref().map(|app| &app.name);
        let place = Placement {
            name: &run.name,
            image,
            installation: &settings.installation,
            owner: &run.owner,
            run: run.id,
            app,
            volumes: &volumes,
            network: network.as_deref(),
            aliases: app.iter().map(ToString::to_string).collect(),
            publish_on: settings.publish_address,
            host_ports: settings.host_ports.clone(),
        };
        let mut request = request(&run.spec, &self.secrets(run)?, place)?;
        if let Some(image) = &run.image {
            request.labels.insert(IMAGE.into(), image.clone());
        }
        self.confined(request).await
    }

    fn secrets(&self, run: &Run) -> Result<SecretEnv> {
        let Some(sealed) = &run.sealed_env else { return Ok(SecretEnv::default()) };
        let open = || -> anyhow::Result<SecretEnv> {
            let plain = self.vault().open(&Run::purpose(&run.owner, run.id), &STANDARD.decode(sealed)?)?;
            Ok(SecretEnv::from_json(plain.expose_secret())?)
        };
        Ok(open().map_err(Error::internal)?)
    }

    /// Looks after a container that runs.
    async fn mind(&self, run: Run, book: &mut LogBook) -> Result<Next> {
        let Some(container) = run.container.clone() else {
            return self.advance(&run, RunState::Starting, |_| {}).await;
        };
        // Away is another thing than gone.
        let seen = self.container_of(run.id)?;
        let Some(details) = self.engine().inspect(&container, false).await? else {
            book.note("its container is gone from the engine");
            let at = Timestamp::now();
            self.records()
                .change(&Scope::All, run.id, None, |run| {
                    run.container_gone(at);
                    Ok(())
                })
                .await?;
            return Ok(Next::Again);
        };
        if seen.is_none() {
            self.look_at(&container).await?;
        }
        match details.summary.state {
            ContainerState::Exited | ContainerState::Dead => self.has_ended(&run, &details, book).await,
            ContainerState::Created => self.advance(&run, RunState::Starting, |_| {}).await,
            _ => {
                if details.restarts != run.restarts {
                    book.note(format!("was started again by the engine ({} times)", details.restarts));
                }
                let restarts = details.restarts;
                self.records()
                    .change(&Scope::All, run.id, None, |run| {
                        run.restarts = restarts;
                        Ok(())
                    })
                    .await?;
                Ok(Next::Wait(SELDOM))
            }
        }
    }

    async fn has_ended(&self, run: &Run, details: &ContainerDetails, book: &mut LogBook) -> Result<Next> {
        self.save_output(&details.summary.id, book).await;
        let how = Ended {
            exit_code: details.exit_code,
            oom_killed: details.oom_killed,
            at: details.finished_at.unwrap_or_else(Timestamp::now),
        };
        let why = if how.oom_killed { ", out of memory" } else { "" };
        book.note(format!("ended with exit code {}{why}", how.exit_code));
        let error = never_ran(&how, book);
        // The log is whole before anybody is told of the end.
        book.flush(self).await?;
        let restarts = details.restarts;
        let ended = |run: &mut Run| {
            run.restarts = restarts;
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
    async fn kill(&self, id: &str) -> Result<()> {
        match self.engine().kill(id, "SIGKILL").await {
            Err(error) if error.code == "container_not_running" => Ok(()),
            done => Ok(done?),
        }
    }

    /// Somebody wants it to end.
    async fn stop(&self, run: Run, book: &mut LogBook) -> Result<Next> {
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
        if grace.is_zero() {
            self.kill(&id).await?;
        } else {
            self.engine().stop(&id, grace).await?;
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

/// A registry that limits pulls says so in its own words; what to do about it stands behind them.
fn explained(error: EngineError) -> EngineError {
    if error.code != "rate_limited" {
        return error;
    }
    let advice = "the registry limits how often images are pulled; store credentials for it, or wait";
    EngineError { message: format!("{} ({advice})", error.message), transient: false, ..error }
}
