//! Runs: an app's, and those that were asked for without one.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Apps, spec};
use crate::auth::Principal;
use crate::domain::{App, ContainerSpec, Owner, Run, RunId, RunOfApp, RunState, Scope, Timestamp};
use crate::error::{Error, Result};
use crate::fleet::container_name;
use crate::store::objects::{Kind, Object, ObjectQuery};
use crate::store::{StoreError, Topic};

/// How long a stop or a removal is waited for before the answer says how far it is.
const PATIENCE: Duration = Duration::from_secs(15);
/// A wake-up that was lost is made up for after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A run that is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// The id that it is to have, the same however often it is tried.
    pub id: Option<RunId>,
    /// Name of stored credentials for pulling.
    pub registry: Option<String>,
    /// Whether its build is made by the same request.
    pub built_here: bool,
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub owner: Option<Owner>,
    pub before: Option<u64>,
    pub limit: usize,
}

impl Apps {
    /// Starts an app. Answers as soon as the wish is durable.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the caller could not make such an app today; [`Error::TooMany`] `quota_exceeded`; or when the store
    /// cannot be asked.
    pub async fn run_app(&self, caller: &Principal, app: &App, new: NewRun) -> Result<Run> {
        self.recheck(caller, &app.spec)?;
        let id = new.id.unwrap_or_else(RunId::new);
        let secrets = self.open_env(&App::purpose(&app.owner, app.id), app.sealed_env.as_deref())?;
        let of = RunOfApp { id: app.id, name: app.name.clone(), generation: app.generation };
        let sealed = self.seal_env(&Run::purpose(&app.owner, id), &secrets);
        let run = Run { app: Some(of), ..self.fresh(id, app.owner.clone(), app.spec.clone(), sealed, new.registry) };
        self.accept(caller, run).await
    }

    /// Runs a container once, without an app.
    ///
    /// # Errors
    /// Bad input; and as [`Apps::run_app`].
    pub async fn run_once(&self, caller: &Principal, fields: &Map<String, Value>, new: NewRun) -> Result<Run> {
        let (spec, secrets) = self.read_spec(caller, fields).await?;
        let id = new.id.unwrap_or_else(RunId::new);
        let sealed = self.seal_env(&Run::purpose(&caller.owner, id), &secrets);
        let run = Run { built_here: new.built_here, ..self.fresh(id, caller.owner.clone(), spec, sealed, new.registry) };
        self.accept(caller, run).await
    }

    /// Whether [`Apps::run_once`] would take this description, but for the quota and for a build that there is not yet.
    ///
    /// # Errors
    /// Bad input.
    pub fn check_spec(&self, caller: &Principal, fields: &Map<String, Value>) -> Result<()> {
        spec::read(fields, &self.rules, Self::rights(caller)).map(drop)
    }

    /// Rights end, apps get other owners, and rules change: what was allowed once is looked at each time that it is to run.
    pub(super) fn recheck(&self, caller: &Principal, stored: &ContainerSpec) -> Result<()> {
        spec::recheck(stored, &self.rules, Self::rights(caller))
    }

    /// What is wrong with this description besides the fault that was found.
    pub async fn with_faults_of(&self, caller: &Principal, fields: &Map<String, Value>, found: Error) -> Error {
        let read = self.read_spec(caller, fields).await.map(drop);
        Error::together(Err::<(), _>(found), read).expect_err("wrong, because one of them is")
    }

    fn fresh(&self, id: RunId, owner: Owner, spec: ContainerSpec, sealed_env: Option<String>, registry: Option<String>) -> Run {
        Run {
            id,
            owner,
            app: None,
            spec,
            sealed_env,
            registry,
            built_here: false,
            name: container_name(),
            state: RunState::Pending,
            // Containers live where their volumes and their owner's network are.
            node: self.fleet.node(),
            image_id: None,
            image: None,
            container: None,
            removed: false,
            restarts: 0,
            engine_restarts: 0,
            exit_code: None,
            oom_killed: false,
            error: None,
            stop_requested: false,
            stop_grace_ms: None,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
        }
    }

    async fn accept(&self, caller: &Principal, run: Run) -> Result<Run> {
        // An app that an admin starts counts against its owner, whose quota is on its account.
        let quota = self.quota_of(caller, &run.owner).await?;
        match self.fleet.records().add(&run, &quota).await {
            // Sent before, and its answer was lost.
            Err(StoreError::Conflict) => self.run(caller, run.id).await.map(|object| object.body),
            done => Ok(done.map(|()| run)?),
        }
    }

    /// One run.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn run(&self, caller: &Principal, id: RunId) -> Result<Object<Run>> {
        self.fleet.records().run(&caller.scope(), id).await?.ok_or(Error::NotFound("run"))
    }

    /// Whether a run that should have a container is told as it was known last, because its engine does not answer this process now.
    #[must_use]
    pub fn is_stale(&self, run: &Run) -> bool {
        let elsewhere = |node: &crate::domain::NodeId| self.fleet.node().is_some_and(|here| here != *node);
        let has_container = run.state.is_live() && run.container.is_some();
        has_container && !self.fleet.is_whole() && !run.node.as_ref().is_some_and(elsewhere)
    }

    /// Runs of all apps and of none, newest first.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn runs(&self, caller: &Principal, filter: &RunFilter) -> Result<(Vec<Object<Run>>, bool)> {
        let RunFilter { owner, before, limit } = filter.clone();
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Run, owner, parent: None, before, limit };
        Ok(self.store().objects(&query).await?)
    }

    /// Waits until `enough` is true of a run, at most `long`, and answers it as it is then.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, or none any more.
    pub async fn wait_run(
        &self,
        caller: &Principal,
        id: RunId,
        long: Duration,
        enough: &(dyn Fn(&Object<Run>) -> bool + Send + Sync),
    ) -> Result<Object<Run>> {
        let mut moved = self.store().wakes().subscribe(Topic::Run(id));
        let until = tokio::time::Instant::now() + long;
        loop {
            let run = self.run(caller, id).await?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() || enough(&run) {
                return Ok(run);
            }
            moved.woken(left.min(LOOK_AGAIN)).await;
        }
    }

    /// Asks a run to end. Answers when it has, or after some time with `stop_requested` and the state as it is. Repeatable.
    ///
    /// # Errors
    /// [`Error::Conflict`] `already_finished`.
    pub async fn stop_run(&self, caller: &Principal, id: RunId) -> Result<Object<Run>> {
        let run = self.run(caller, id).await?;
        if !run.body.state.is_live() {
            let detail = format!("the run is over: {}", run.body.state.as_str());
            return Err(Error::Conflict { code: "already_finished", detail });
        }
        self.end_run(caller, id, None).await
    }

    /// Has a run's keeper end it, with its own time to do so or the configured one.
    pub(super) async fn end_run(&self, caller: &Principal, id: RunId, grace: Option<Duration>) -> Result<Object<Run>> {
        self.ask_to_stop(id, grace).await?;
        let grace = grace.unwrap_or(self.fleet.settings().grace);
        self.wait_run(caller, id, grace + PATIENCE, &|run| !run.body.state.is_live()).await
    }

    async fn ask_to_stop(&self, id: RunId, grace: Option<Duration>) -> Result<()> {
        let grace = grace.and_then(|grace| u64::try_from(grace.as_millis()).ok());
        let stop = |run: &mut Run| {
            if run.state.is_live() {
                run.stop_requested = true;
                run.stop_grace_ms = grace;
            }
            Ok(())
        };
        self.fleet.records().change(&Scope::All, id, None, stop).await?;
        Ok(())
    }

    /// Removes a run from the history, with its container and logs; a live one is stopped first.
    ///
    /// # Errors
    /// When the engine or the store is away: what is left can be removed again.
    pub async fn remove_run(&self, caller: &Principal, id: RunId) -> Result<Run> {
        let run = self.run(caller, id).await?.body;
        self.take_out(run.clone()).await?;
        Ok(run)
    }

    /// Whatever state it is in: its container goes first, then its record.
    pub(super) async fn take_out(&self, run: Run) -> Result<()> {
        self.here(&run)?;
        if run.state.is_live() {
            self.ask_to_stop(run.id, None).await?;
        }
        let mut moved = self.store().wakes().subscribe(Topic::Run(run.id));
        let until = tokio::time::Instant::now() + self.fleet.settings().grace + PATIENCE;
        loop {
            let Some(now) = self.fleet.records().run(&Scope::All, run.id).await? else { return Ok(()) };
            if !now.body.state.is_live() || tokio::time::Instant::now() > until {
                break;
            }
            moved.woken(LOOK_AGAIN).await;
        }
        let Some(now) = self.fleet.records().run(&Scope::All, run.id).await? else { return Ok(()) };
        self.fleet.drop_container(&now.body).await?;
        Ok(self.fleet.records().remove(&run).await?)
    }

    /// A container is reached only through the engine that has it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `other_node`.
    pub(super) fn here(&self, run: &Run) -> Result<()> {
        match (&run.node, self.fleet.node()) {
            (Some(of), Some(here)) if *of != here => {
                let detail = format!("it lives on the node {of}, and this service speaks with {here}");
                Err(Error::Conflict { code: "other_node", detail })
            }
            _ => Ok(()),
        }
    }
}
