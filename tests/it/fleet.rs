//! Runs on the real engine, kept by a keeper that may be cut off and by an engine that others use, too.

mod again;
mod cut_off;
mod engine_away;
mod fair;
mod history;
mod life;
mod orphans;
mod pulling;
mod races;
mod restarts;

use std::sync::Arc;
use std::time::Duration;

use dockwright::apps::{Apps, Line, NewRun, OutputQuery};
use dockwright::auth::Principal;
use dockwright::config::Settings;
use dockwright::domain::{Owner, Proof, Quota, Role, Run, RunId, RunState, User};
use dockwright::engine::containers::{Containers, INSTALLATION, Networks, Volumes};
use dockwright::error::Error;
use dockwright::fleet::{self, Fleet};
use dockwright::store::objects::Object;
use dockwright::wiring::{Service, UseCases};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::docker;
use crate::support::service::{Backend, settings};

/// One installation's use-cases, with a keeper that can be taken away. What it leaves on the engine goes when it is dropped.
pub struct Node {
    service: Service,
    parts: UseCases,
    keeper: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    _data: tempfile::TempDir,
}

impl Node {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Settings)) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut settings = settings(backend, data.path().to_owned());
        change(&mut settings);
        let config = settings.resolve(None).expect("valid settings");
        let service = Service::open(config).await.expect("opens");
        let parts = service.use_cases();
        let mut node = Self { service, parts, keeper: None, _data: data };
        node.keep().await;
        node
    }

    /// Begins to keep, with nothing in memory from before.
    pub async fn keep(&mut self) {
        self.parts = self.service.use_cases();
        let stop = CancellationToken::new();
        let task = tokio::spawn(fleet::keep(self.parts.fleet.clone(), true, stop.clone()));
        self.keeper = Some((stop, task));
        let fleet = &self.parts.fleet;
        eventually("the engine is known", || async { fleet.is_whole() }).await;
    }

    /// Takes the keeper away in the middle of whatever it does.
    pub async fn cut_off(&mut self) {
        let (stop, task) = self.keeper.take().expect("it keeps");
        stop.cancel();
        task.await.expect("ends");
    }

    pub fn apps(&self) -> &Arc<Apps> {
        &self.parts.apps
    }

    pub fn fleet(&self) -> &Fleet {
        &self.parts.fleet
    }

    pub fn installation(&self) -> &str {
        &self.fleet().settings().installation
    }

    pub async fn run(&self, fields: Value) -> Run {
        self.try_run(&ada(), fields).await.expect("accepted")
    }

    pub async fn try_run(&self, who: &Principal, mut fields: Value) -> Result<Run, Error> {
        let object = fields.as_object_mut().expect("an object");
        object.entry("image").or_insert_with(|| json!("busybox"));
        self.apps().run_once(who, object, NewRun::default()).await
    }

    pub async fn look(&self, id: RunId) -> Run {
        self.apps().run(&ada(), id).await.expect("there").body
    }

    /// The run when it has come to this state.
    pub async fn comes_to(&self, id: RunId, state: RunState) -> Run {
        let come = |run: &Object<Run>| run.body.state == state;
        let run = self.apps().wait_run(&ada(), id, Duration::from_secs(60), &come).await.expect("there").body;
        assert_eq!(run.state, state, "{run:#?}\n{:#?}", self.log(id).await);
        run
    }

    pub async fn log(&self, id: RunId) -> Vec<Line> {
        let query = OutputQuery { notes: true, ..OutputQuery::default() };
        self.apps().lines(&ada(), id, query).await.expect("a log").try_collect().await.expect("read")
    }

    pub async fn texts(&self, id: RunId) -> Vec<String> {
        self.log(id).await.into_iter().map(|line| line.text).collect()
    }

    /// Engine ids of the containers that this installation has on the engine.
    pub async fn on_engine(&self) -> Vec<String> {
        let all = docker().containers(None).await.expect("a list");
        let ours = all.into_iter().filter(|one| one.labels.get(INSTALLATION).is_some_and(|label| label == self.installation()));
        ours.map(|one| one.id).collect()
    }
}

impl Drop for Node {
    /// Also when the test has failed.
    fn drop(&mut self) {
        if let Some((stop, _)) = self.keeper.take() {
            stop.cancel();
        }
        let installation = self.installation().to_owned();
        let clean = async move {
            let docker = docker();
            for one in docker.containers(None).await.unwrap_or_default() {
                if one.labels.get(INSTALLATION) == Some(&installation) {
                    let _ = docker.remove(&one.id, true).await;
                }
            }
            for network in docker.networks((INSTALLATION, &installation)).await.unwrap_or_default() {
                let _ = docker.remove_network(&network.name).await;
            }
            for volume in docker.volumes((INSTALLATION, &installation), false).await.unwrap_or_default() {
                let _ = docker.remove_volume(&volume.name).await;
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(clean));
    }
}

pub fn ada() -> Principal {
    person("ada", Quota::default())
}

pub fn person(name: &str, quota: Quota) -> Principal {
    let name: Owner = name.parse().expect("a name");
    Principal::in_person(&User::new(name, Role::User, None, quota), Proof::Password)
}

pub use crate::support::watch::until as eventually;
