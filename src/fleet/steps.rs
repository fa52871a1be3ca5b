//! What is done for a run in each of its states. Each step can be repeated: it looks at what is there before it does anything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use super::ends::is_gone;
use super::images::{Choice, Here, user_error};
use super::log::LogBook;
use super::pulls::{self, RATE_LIMITED, explained};
use super::{Fleet, seen};
use crate::domain::{BuildId, ErrorKind, ImageSource, Run, RunError, RunImage, RunState, Scope, SecretEnv, Timestamp};
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
        // The last two pass by themselves.
        if error.transient && error.code == seen::away().code || ["container_removing", "engine_busy"].contains(&error.code) {
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
    /// When others of its owner are prepared.
    WaitForTurn,
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
                // An engine that hangs is silent, too.
                Some(Err(error)) if error.code == pulls::SILENT && !self.is_whole() => return Err(seen::away().into()),
                Some(Err(error)) => {
                    if error.code == RATE_LIMITED
                        && let Some(left) = pull.left().await
                    {
                        book.note(left);
                    }
                    return Err(explained(error).into());
                }
                None => {}
            }
            tokio::select! {
                () = pull.moved() => {}
                () = moved.woken(SELDOM) => if self.is_to_stop(&run).await? { return Ok(Next::Again) },
            }
            // Progress comes faster than anybody reads it.
            tokio::time::sleep(TOLD).await;
        }
        let here = pull.settle().await?;
        book.note(format!("has pulled {}", here.shown));
        if let Some(left) = pull.left().await {
            book.note(left);
        }
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
            // Made before, and nobody here has removed it.
            None if run.container.is_some() => return self.has_lost_it(&run, book).await,
            None => match self.engine().create(self.request(&run).await?).await {
                Ok(id) => {
                    book.note(format!("made the container {} from {}", run.name, run.image.as_deref().unwrap_or_default()));
                    (id, true)
                }
                // A keeper that was thought to be gone has made it at this very moment.
                Err(error) if error.code == "name_taken" && self.own_container(&run).await?.is_some() => return Ok(Next::Again),
                Err(error) => return Err(error.into()),
            },
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
            if is_gone(&error) {
                return Ok(Next::Again);
            }
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
        // Whoever sees the run running sees its container running.
        self.look_at(container).await?;
        let details = self.engine().inspect(container, false).await?;
        let at = details.as_ref().and_then(|details| details.started_at).unwrap_or_else(Timestamp::now);
        let restarts = details.map_or(0, |details| details.restarts);
        let runs = |run: &mut Run| {
            if run.state == RunState::Starting {
                let stop = run.stop_requested;
                run.runs(at);
                run.stop_requested = stop;
                (run.restarts, run.engine_restarts) = (restarts, restarts);
            }
            Ok(())
        };
        self.records().change(&Scope::All, run.id, None, runs).await?;
        Ok(Next::Again)
    }

    /// What the engine has under the run's name, if it is this run's.
    pub(super) async fn own_container(&self, run: &Run) -> Result<Option<ContainerDetails>> {
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
            return self.has_lost_it(&run, book).await;
        };
        if seen.is_none() {
            self.look_at(&container).await?;
        }
        match details.summary.state {
            ContainerState::Exited | ContainerState::Dead => self.has_ended(&run, &details, book).await,
            ContainerState::Created => self.advance(&run, RunState::Starting, |_| {}).await,
            _ => {
                let lives = |run: &mut Run| {
                    run.lives(details.started_at, details.restarts);
                    Ok(())
                };
                let now = self.records().change(&Scope::All, run.id, None, lives).await?;
                if let Some(now) = now.filter(|now| now.restarts != run.restarts) {
                    book.note(format!("was started again by the engine ({} in all)", now.restarts));
                }
                Ok(Next::Wait(SELDOM))
            }
        }
    }
}
