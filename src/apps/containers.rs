//! Containers: what the engine has of a run, and what can be done with it.

use std::sync::Arc;
use std::time::Duration;

use super::Apps;
use super::engine::{ContainerDetails, ContainerState, FileChange, Processes, Seen, Stats, Whose};
use crate::auth::Principal;
use crate::domain::{Owner, Quota, Role, Run, RunId, RunState, Scope, Timestamp, User, limits};
use crate::engine::containers::Told;
use crate::error::{Error, Result};
use crate::store::objects::{Kind, Object};

/// Shortest part of an engine's id that names a container.
const PREFIX: usize = 12;

/// How long a start is waited for before the answer says how far it is.
const STARTED: Duration = Duration::from_secs(30);

/// Which containers.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    pub owner: Option<Owner>,
    pub state: Option<ContainerState>,
    /// Name of the app.
    pub app: Option<String>,
    /// Part of the name or image.
    pub search: Option<String>,
    /// Only those behind this place in the list.
    pub after: Option<(Timestamp, String)>,
    pub limit: usize,
}

/// What is done to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Start,
    /// With its own time to end, or the configured one.
    Stop(Option<Duration>),
    Restart(Option<Duration>),
    /// A signal by name.
    Kill(String),
}

/// A container that a caller may see, and its run when it is one of ours.
pub struct ContainerInfo {
    pub seen: Arc<Seen>,
    pub run: Option<Run>,
}

impl Apps {
    /// A page of containers, newest first, and whether there are more. The engine is not asked.
    ///
    /// # Errors
    /// While the engine is away nobody knows.
    pub fn containers(&self, caller: &Principal, filter: &ContainerFilter) -> Result<(Vec<Arc<Seen>>, bool)> {
        let all = self.fleet.containers(&caller.scope())?;
        let behind =
            |seen: &Seen| filter.after.as_ref().is_none_or(|(at, id)| (seen.summary.created_at, &seen.summary.id) < (*at, id));
        let mut page: Vec<Arc<Seen>> =
            all.into_iter().filter(|seen| behind(seen) && matches(seen, filter)).take(filter.limit + 1).collect();
        let more = page.len() > filter.limit;
        page.truncate(filter.limit);
        Ok((page, more))
    }

    /// One container, by the engine's id (12 digits are enough), its name, or its run's id.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn container(&self, caller: &Principal, key: &str) -> Result<ContainerInfo> {
        let seen = self.find_container(caller, key)?;
        let run = match &seen.whose {
            Whose::Run(id, _) => self.fleet.records().run(&caller.scope(), *id).await?.map(|object| object.body),
            _ => None,
        };
        Ok(ContainerInfo { seen, run })
    }

    fn find_container(&self, caller: &Principal, key: &str) -> Result<Arc<Seen>> {
        let none = || Error::NotFound("container");
        let of_run = key.parse::<RunId>().ok();
        let is_id = key.len() >= PREFIX && key.bytes().all(|b| b.is_ascii_hexdigit());
        let named = |seen: &Seen| match of_run {
            Some(id) => matches!(seen.whose, Whose::Run(run, _) if run == id),
            None => seen.summary.name == key || (is_id && seen.summary.id.starts_with(key)),
        };
        let all = self.fleet.containers(&caller.scope())?;
        let mut found = all.into_iter().filter(|seen| named(seen));
        let one = found.next().ok_or_else(none)?;
        if found.next().is_some() {
            return Err(Error::invalid("ambiguous", "id", format!("{key} names several containers")));
        }
        Ok(one)
    }

    /// A container of the caller's that is ours to touch: an admin sees the engine's others, and changes nothing of them.
    ///
    /// # Errors
    /// As [`Apps::container`]; [`Error::Forbidden`] `not_ours`.
    pub async fn own_container(&self, caller: &Principal, key: &str) -> Result<(Arc<Seen>, Run)> {
        let info = self.container(caller, key).await?;
        match info.run {
            Some(run) => {
                self.here(&run)?;
                Ok((info.seen, run))
            }
            None => {
                let detail = "this container was not made by Dockwright, or has no record; it can be seen and not touched".into();
                Err(Error::Forbidden { code: "not_ours", detail })
            }
        }
    }

    /// The engine's own details.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is gone.
    pub async fn details(&self, id: &str, sizes: bool) -> Result<ContainerDetails> {
        self.fleet.engine().inspect(id, sizes).await?.ok_or(Error::NotFound("container"))
    }

    /// Does something to a container; answers it as it is afterwards.
    ///
    /// # Errors
    /// The engine's own words; [`Error::Invalid`] when the caller could not make such a container today; [`Error::TooMany`] when a start
    /// would go over the quota.
    pub async fn act(&self, caller: &Principal, key: &str, deed: &Deed) -> Result<ContainerInfo> {
        let (seen, run) = self.own_container(caller, key).await?;
        let id = &seen.summary.id;
        // Before a restart stops anything.
        if matches!(deed, Deed::Start | Deed::Restart(_)) {
            self.recheck(caller, &run.spec)?;
        }
        match deed {
            Deed::Start => self.start_again(caller, &run).await?,
            Deed::Stop(grace) if run.state.is_live() => self.end_run(caller, run.id, *grace).await.map(drop)?,
            Deed::Stop(_) => {}
            Deed::Restart(grace) => {
                if run.state.is_live() {
                    self.end_run(caller, run.id, *grace).await?;
                }
                self.start_again(caller, &run).await?;
            }
            Deed::Kill(signal) => {
                self.running(caller, &seen).await?;
                if signal == "SIGKILL" {
                    self.end_run(caller, run.id, Some(Duration::ZERO)).await?;
                } else {
                    self.fleet.engine().kill(id, signal).await?;
                }
            }
        }
        self.fleet.look_at(id).await?;
        self.container(caller, id).await
    }

    /// A run that starts again counts again. Its keeper starts it; the answer comes when it runs, or cannot.
    async fn start_again(&self, caller: &Principal, run: &Run) -> Result<()> {
        let quota = self.quota_of(caller, &run.owner).await?;
        let again = |run: &mut Run| {
            if !run.state.is_live() && !run.removed {
                run.state = RunState::Starting;
                run.stop_requested = false;
                run.error = None;
            }
            Ok(())
        };
        let now = self.fleet.records().change(&Scope::All, run.id, Some(&quota), again).await?;
        // Somebody has removed it meanwhile.
        if now.is_none_or(|run| run.removed) {
            return Err(Error::NotFound("container"));
        }
        let started = self.wait_run(caller, run.id, STARTED, &|run| run.body.state != RunState::Starting).await?.body;
        match started.error {
            Some(error) => Err(Error::Engine { kind: error.kind, code: error.code, message: error.message }),
            None => Ok(()),
        }
    }

    /// Removes a container; its run stays in the history.
    ///
    /// # Errors
    /// [`Error::Conflict`] `container_runs` while it runs, unless by force.
    pub async fn remove_container(&self, caller: &Principal, key: &str, force: bool) -> Result<()> {
        let (seen, run) = self.own_container(caller, key).await?;
        if run.state.is_live() {
            if !force {
                let detail = "the container runs; stop it first, or say ?force=true".into();
                return Err(Error::Conflict { code: "container_runs", detail });
            }
            self.end_run(caller, run.id, None).await?;
        }
        self.fleet.engine().remove(&seen.summary.id, true).await?;
        self.fleet.look_at(&seen.summary.id).await?;
        let gone = |run: &mut Run| {
            run.removed = true;
            Ok(())
        };
        self.fleet.records().change(&Scope::All, run.id, None, gone).await?;
        Ok(())
    }

    /// Samples of what it uses, until it ends.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_running`.
    pub async fn stats(&self, caller: &Principal, key: &str) -> Result<Told<Stats>> {
        let seen = self.container(caller, key).await?.seen;
        self.running(caller, &seen).await?;
        Ok(self.fleet.engine().stats(&seen.summary.id).await?)
    }

    /// Its processes.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_running`.
    pub async fn processes(&self, caller: &Principal, key: &str) -> Result<Processes> {
        let seen = self.container(caller, key).await?.seen;
        self.running(caller, &seen).await?;
        Ok(self.fleet.engine().processes(&seen.summary.id).await?)
    }

    /// What differs from its image: the first [`limits::CHANGES`] of it, and whether there is more.
    ///
    /// # Errors
    /// As [`Apps::container`].
    pub async fn changes(&self, caller: &Principal, key: &str) -> Result<(Vec<FileChange>, bool)> {
        let seen = self.container(caller, key).await?.seen;
        let mut changes = self.fleet.engine().changes(&seen.summary.id).await?;
        let truncated = changes.len() > limits::CHANGES;
        changes.truncate(limits::CHANGES);
        Ok((changes, truncated))
    }

    /// The engine's events come a moment after its other answers tell the same: what did not run when it was last seen is looked at.
    pub(super) async fn running(&self, caller: &Principal, seen: &Seen) -> Result<()> {
        if runs(seen) {
            return Ok(());
        }
        self.fleet.look_at(&seen.summary.id).await?;
        let now = self.find_container(caller, &seen.summary.id)?;
        if runs(&now) {
            return Ok(());
        }
        let detail = format!("the container does not run: it is {}", now.summary.state.as_str());
        Err(Error::Conflict { code: "not_running", detail })
    }

    pub(super) async fn quota_of(&self, caller: &Principal, owner: &Owner) -> Result<Quota> {
        if caller.owner == *owner {
            return Ok(caller.quota);
        }
        let user: Option<Object<User>> = self.store().object(&Scope::All, Kind::User, owner.as_str()).await?;
        debug_assert!(caller.role == Role::Admin, "only an admin sees another's objects");
        Ok(user.map(|user| user.body.quota).unwrap_or_default())
    }
}

fn runs(seen: &Seen) -> bool {
    matches!(seen.summary.state, ContainerState::Running | ContainerState::Paused)
}

fn matches(seen: &Seen, filter: &ContainerFilter) -> bool {
    filter.owner.as_ref().is_none_or(|wanted| seen.owner() == Some(wanted))
        && filter.state.is_none_or(|state| seen.summary.state == state)
        && filter.app.as_deref().is_none_or(|wanted| seen.app() == Some(wanted))
        && filter.search.as_ref().is_none_or(|part| seen.summary.name.contains(part) || seen.image().contains(part))
}
