//! An app's live runs, however long its history is, and what they lack of its newest description.

use dockwright::domain::{Run, RunId, RunState, Scope, Timestamp};
use dockwright::store::objects::{Expect, Kind, Object, Write};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, docker, id};

/// More than a page of runs of the same app that are over.
pub async fn long_history(harbor: &Harbor, like: &Value, many: usize) {
    let like: Object<Run> = harbor.store.object(&Scope::All, Kind::Run, id(like)).await.expect("the store").expect("a run");
    let over = Run {
        state: RunState::Exited,
        container: None,
        removed: true,
        exit_code: Some(0),
        finished_at: Some(Timestamp::now()),
        ..like.body
    };
    let writes: Vec<Write> = (0..many)
        .map(|_| {
            let run = Run { id: RunId::new(), ..over.clone() };
            let write = Write::put(Kind::Run, run.id.to_string(), &run.owner, Expect::Absent, &run);
            match &run.app {
                Some(app) => write.under(app.id.to_string()),
                None => write,
            }
        })
        .collect();
    harbor.store.commit(&writes).await.expect("written");
}

async fn a_live_run_is_seen_behind_a_long_history(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    harbor.app(&ada, "long", json!({"command": ["sleep", "600"], "network": "none"})).await;
    let run = harbor.start_app(&ada, "long").await;
    let run = harbor.runs(&ada, &run).await;
    long_history(&harbor, &run, 210).await;
    let app = harbor.read(&ada, "/api/v1/apps/long").await;
    assert_eq!(app["state"]["live"], json!([id(&run)]), "{app}");
    assert_ne!(app["state"]["last_run"], run["id"]);
    let listed = harbor.read(&ada, "/api/v1/apps").await;
    assert_eq!(listed["items"][0]["state"], app["state"]);
    let changed = harbor.done(&ada, Method::PATCH, "/api/v1/apps/long", json!({"command": ["sleep", "601"]})).await;
    assert_eq!(changed["state"]["restart_needed"], true, "{changed}");
    let (status, told) = harbor.call(&ada, Method::DELETE, "/api/v1/apps/long", Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"app_runs".into()), "{told}");
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", word(&run["container"])]), "true");
    harbor.done(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    assert_eq!(harbor.read(&ada, "/api/v1/apps/long").await["state"]["live"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_is_seen_behind_a_long_history_with_the_embedded_store() {
    a_live_run_is_seen_behind_a_long_history(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_is_seen_behind_a_long_history_with_redis() {
    a_live_run_is_seen_behind_a_long_history(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_is_told_by_field() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let fields = json!({"command": ["sleep", "600"], "network": "none", "env": {"KEY": {"secret": "first"}}});
    harbor.app(&ada, "one", fields).await;
    let run = harbor.start_app(&ada, "one").await;
    harbor.runs(&ada, &run).await;
    let change = async |body: Value| harbor.done(&ada, Method::PATCH, "/api/v1/apps/one", body).await["state"].clone();
    assert_eq!(harbor.read(&ada, "/api/v1/apps/one").await["state"]["restart_fields"], json!([]));
    let state = change(json!({"command": ["sleep", "601"], "memory": "64m"})).await;
    assert_eq!((&state["restart_needed"], &state["restart_fields"]), (&true.into(), &json!(["command", "memory"])), "{state}");
    // The value of a secret shows nowhere, and has changed all the same.
    let state = change(json!({"env": {"KEY": {"secret": "second"}}, "command": ["sleep", "600"]})).await;
    assert_eq!(state["restart_fields"], json!(["env", "memory"]), "{state}");
    let state = change(json!({"name": "other"})).await;
    assert_eq!(state["restart_fields"], json!(["name", "env", "memory"]), "{state}");
    harbor.done(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    let state = harbor.read(&ada, "/api/v1/apps/other").await["state"].clone();
    assert_eq!((&state["restart_needed"], &state["restart_fields"]), (&false.into(), &json!([])), "{state}");
}
