//! The engine is started again, or hangs, while containers should run.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::eventually;
use crate::support::engine::OwnEngine;
use crate::support::harbor::{Harbor, harbor_with, word};
use crate::support::installed::Installed;
use crate::support::service::{Backend, id};
use crate::support::watch;

const NOTHING: Value = Value::Null;

async fn engine_is(harbor: &Harbor, there: bool) {
    let asked = || async { harbor.call("", Method::GET, "/readyz", NOTHING).await.1 };
    eventually("readyz tells of the engine", || async { asked().await["checks"]["engine"]["ok"] == there }).await;
}

async fn sleeper(harbor: &Harbor, policy: &str) -> Value {
    let fields = json!({"command": ["sleep", "600"], "network": "none", "restart": policy});
    let run = harbor.run(&harbor.token, fields).await;
    harbor.runs(&harbor.token, &run).await
}

fn status(engine: &OwnEngine, run: &Value) -> String {
    engine.prints(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", word(&run["container"])])
}

/// What is told while the engine is not there: nothing is claimed, and nothing fails by it.
async fn away(harbor: &Harbor, run: &Value) {
    let own = format!("/api/v1/containers/{}", id(run));
    for path in ["/api/v1/containers", &own, &format!("{own}/logs"), &format!("{own}/stats")] {
        let (status, told) = harbor.call(&harbor.token, Method::GET, path, NOTHING).await;
        assert_eq!((status, &told["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"engine_away".into()), "{path}: {told}");
    }
    let now = harbor.read(&harbor.token, &format!("/api/v1/runs/{}", id(run))).await;
    assert_eq!((&now["state"], &now["stale"]), (&"running".into(), &true.into()), "{now}");
    let listed = harbor.read(&harbor.token, "/api/v1/runs").await;
    assert!(listed["items"].as_array().expect("a list").iter().any(|one| one["id"] == now["id"] && one["stale"] == true));
}

async fn containers_outlive_a_restart_of_their_engine(backend: Backend) {
    let mut engine = OwnEngine::start().await;
    let harbor = harbor_with(backend, |settings| settings.engine = Some(engine.address())).await;
    let admin = harbor.token.clone();
    let mut runs = Vec::new();
    for policy in ["no", "on-failure", "always", "unless-stopped"] {
        runs.push(sleeper(&harbor, policy).await);
    }
    let stopped = [sleeper(&harbor, "always").await, sleeper(&harbor, "unless-stopped").await];
    for run in &stopped {
        harbor.done(&admin, Method::POST, &format!("/api/v1/runs/{}/stop", id(run)), NOTHING).await;
    }
    engine.stop();
    engine_is(&harbor, false).await;
    away(&harbor, &runs[2]).await;
    let asked_for = harbor.run(&admin, json!({"command": ["sleep", "600"], "network": "none"})).await;
    engine.restart().await;
    engine_is(&harbor, true).await;

    let [none, on_failure, always, unless_stopped] = &runs[..] else { panic!("four of them") };
    let ended = harbor.over(&admin, none).await;
    assert_eq!((&ended["state"], &ended["error"]), (&"exited".into(), &NOTHING), "{ended}");
    assert_eq!(status(&engine, none), format!("exited {}", ended["exit_code"]));
    for run in [on_failure, always, unless_stopped] {
        assert_eq!(status(&engine, run), "running 0", "{run}");
        let now = harbor.run_until(&admin, run, |run| run["restarts"] == 1 && run["stale"] == false).await;
        assert_eq!((&now["state"], &now["container"]), (&"running".into(), &run["container"]), "{now}");
        assert_ne!(now["started_at"], run["started_at"]);
        let log = harbor.run_log(&admin, run).await;
        let said: Vec<_> = ["waits: ", "was started again by the engine (1 in all)", "goes on"].map(|text| log.find(text)).into();
        assert!(said.iter().all(Option::is_some), "{said:?}: {log}");
    }
    // As Docker has it: what was stopped by hand stays so with the one policy, and not with the other.
    for (run, state) in stopped.iter().zip(["running", "stopped"]) {
        let now = harbor.run_until(&admin, run, |run| run["state"] == state).await;
        assert_eq!(status(&engine, run).starts_with("running"), state == "running", "{now}");
    }
    let asked_for = harbor.runs(&admin, &asked_for).await;
    assert_eq!(engine.prints(&["ps", "-aq"]).lines().count(), 7, "no second container");
    let again = harbor.done(&admin, Method::POST, &format!("/api/v1/containers/{}/start", id(none)), NOTHING).await;
    assert_eq!(again["state"], "running");
    for run in runs.iter().chain(&stopped).chain([&asked_for]) {
        harbor.done(&admin, Method::DELETE, &format!("/api/v1/containers/{}?force=true", id(run)), NOTHING).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_a_restart_of_their_engine_with_the_embedded_store() {
    containers_outlive_a_restart_of_their_engine(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_a_restart_of_their_engine_with_redis() {
    containers_outlive_a_restart_of_their_engine(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_cannot_start_again_is_told() {
    let mut engine = OwnEngine::start().await;
    let harbor = harbor_with(Backend::Sqlite, |settings| settings.engine = Some(engine.address())).await;
    let admin = harbor.token.clone();
    let mount = json!([{"volume": "data", "path": "/data"}]);
    let fields = json!({"command": ["sleep", "600"], "network": "none", "restart": "always", "volumes": mount});
    let run = harbor.run(&admin, fields).await;
    harbor.runs(&admin, &run).await;
    let volume = harbor.read(&admin, "/api/v1/volumes/data").await;
    engine.stop();
    let folder = engine.data().join("volumes").join(word(&volume["engine_name"])).join("_data");
    std::fs::remove_dir_all(&folder).expect("its files are lost");
    engine.restart().await;
    let lost = harbor.over(&admin, &run).await;
    assert_eq!((&lost["state"], &lost["error"]["code"]), (&"failed".into(), &"not_restarted".into()), "{lost}");
    assert!(word(&lost["error"]["message"]).contains("no such file or directory"), "the engine's own words: {lost}");
    assert!(harbor.run_log(&admin, &run).await.contains("the engine could not start it again"));
    // Mended, it can be started by hand.
    std::fs::create_dir(&folder).expect("they are back");
    harbor.done(&admin, Method::POST, &format!("/api/v1/containers/{}/start", id(&run)), NOTHING).await;
    harbor.done(&admin, Method::DELETE, &format!("/api/v1/containers/{}?force=true", id(&run)), NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_as_one_that_is_away() {
    let engine = OwnEngine::start().await;
    let service = Installed::start(Backend::Sqlite, Some(engine.address())).await;
    let lasts = service.runs("sleep 600", NOTHING).await;
    let before = service.open_files();
    engine.signal("-STOP");
    let begun = Instant::now();
    let waits = service.run(json!({"command": ["sleep", "600"]})).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "accepted after {:?}", begun.elapsed());
    let told = service.until("/api/v1/containers", |status, _| status == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(told["code"], "engine_away", "{told}");
    assert!(begun.elapsed() < Duration::from_secs(30), "told after {:?}", begun.elapsed());
    let path = format!("/api/v1/containers/{}/stop", id(&lasts));
    let (status, told) = service.call(Method::POST, &path, NOTHING).await;
    assert_eq!((status, &told["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"engine_away".into()), "{told}");
    let ready = service.call(Method::GET, "/readyz", NOTHING).await.1;
    assert_eq!(ready["checks"]["engine"]["ok"], false, "{ready}");
    service.until(&format!("/api/v1/runs/{}/logs", id(&waits)), |_, log| log.to_string().contains("waits: ")).await;
    assert_eq!(service.read(&format!("/api/v1/runs/{}", id(&waits))).await["status"], "R", "it has not failed");
    engine.signal("-CONT");
    service.comes_to(&waits, "running").await;
    watch("nothing stays open", || service.open_files() <= before + 2).await;
    assert_eq!(engine.prints(&["ps", "-aq"]).lines().count(), 2);
    for run in [&lasts, &waits] {
        service.call(Method::DELETE, &format!("/api/v1/containers/{}?force=true", id(run)), NOTHING).await;
    }
}
