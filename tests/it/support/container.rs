//! A container of an account, made as the use-cases make one: a record, which the service then keeps.

use dockwright::apps::spec::{Rights, SpecRules, read};
use dockwright::domain::{Owner, Run, RunId, RunOfApp, RunState, Timestamp};
use dockwright::store::objects::{Expect, Kind, Write};
use serde_json::json;

use super::service::{Running, docker};
use super::{unique, watch};

/// A container that runs. Dropping it removes it.
pub struct Container {
    pub run: RunId,
    pub name: String,
    /// The engine's.
    pub id: String,
}

impl Container {
    /// One that runs this shell script.
    pub async fn of(service: &Running, owner: &str, script: &str) -> Self {
        let fields = json!({"image": "busybox", "command": ["sh", "-c", script], "network": "none", "memory": "64m"});
        let fields = fields.as_object().expect("an object");
        let (spec, _) = read(fields, &SpecRules::default(), Rights::User).expect("a valid container");
        let (owner, run, name): (Owner, _, _) = (owner.parse().expect("a name"), RunId::new(), unique("box"));
        let record = Run {
            id: run,
            owner: owner.clone(),
            app: None::<RunOfApp>,
            spec,
            sealed_env: None,
            registry: None,
            name: name.clone(),
            state: RunState::Pending,
            node: None,
            image_id: None,
            image: None,
            container: None,
            removed: false,
            restarts: 0,
            exit_code: None,
            oom_killed: false,
            error: None,
            stop_requested: false,
            stop_grace_ms: None,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
        };
        let writes = [
            Write::put(Kind::Run, run.to_string(), &owner, Expect::Absent, &record),
            Write::put(Kind::LiveRun, run.to_string(), &owner, Expect::Anything, &()),
        ];
        service.store.commit(&writes).await.expect("a record");
        watch("the container runs", || docker(&["ps", "-q", "--filter", &format!("name=^{name}$")]).len() >= 12).await;
        let id = docker(&["inspect", "-f", "{{.Id}}", &name]);
        Self { run, name, id }
    }

    /// How many of its processes have this in their arguments.
    pub fn processes(&self, part: &str) -> usize {
        docker(&["top", &self.id, "-eo", "pid,args"]).lines().filter(|line| line.contains(part)).count()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.name]);
    }
}
