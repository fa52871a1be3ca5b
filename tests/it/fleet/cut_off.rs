//! The keeper goes away at any moment, and another one goes on.

use std::time::Duration;

use dockwright::domain::RunState;
use dockwright::store::Topic;
use serde_json::json;

use super::{Node, ada};
use crate::support::service::Backend;

/// Cuts the keeper off as soon as the run has this state, and lets another one finish.
async fn cut_off_at(backend: Backend, state: RunState) {
    let mut node = Node::start(backend).await;
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let mut moved = node.apps().store().wakes().subscribe(Topic::Run(run.id));
    while node.look(run.id).await.state != state && node.look(run.id).await.state != RunState::Running {
        moved.woken(Duration::from_secs(10)).await;
    }
    node.cut_off().await;
    node.keep().await;
    let run = node.comes_to(run.id, RunState::Running).await;
    assert_eq!(node.on_engine().await, [run.container.clone().expect("it has a container")], "one, and only one");
    node.apps().remove_run(&ada(), run.id).await.expect("removed");
    assert!(node.on_engine().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_while_it_waits() {
    cut_off_at(Backend::Sqlite, RunState::Pending).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_while_it_starts() {
    cut_off_at(Backend::Sqlite, RunState::Starting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_while_it_starts_with_redis() {
    cut_off_at(Backend::Redis, RunState::Starting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_while_it_runs() {
    cut_off_at(Backend::Redis, RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_nobody_looked_is_told() {
    let mut node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["sh", "-c", "echo begun; sleep 2; echo done; exit 5"]})).await;
    let container = node.comes_to(run.id, RunState::Running).await.container.expect("it has a container");
    node.cut_off().await;
    let waited = std::process::Command::new("docker").args(["wait", &container]).output().expect("the docker client");
    assert_eq!(String::from_utf8_lossy(&waited.stdout).trim(), "5");
    node.keep().await;
    let run = node.comes_to(run.id, RunState::Exited).await;
    assert_eq!(run.exit_code, Some(5));
    assert!(node.texts(run.id).await.contains(&"done".to_owned()));
}
