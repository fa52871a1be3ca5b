//! What several do to one container at the same moment, some of them at the engine itself.

use std::time::Duration;

use dockwright::apps::Deed;
use dockwright::domain::{Run, RunState};
use dockwright::engine::containers::Containers;
use dockwright::error::Error;
use dockwright::store::Topic;
use serde_json::json;

use super::{Node, ada};
use crate::engine::docker;
use crate::support::service::Backend;

/// One that does not end when it is asked to.
async fn stubborn(node: &Node) -> Run {
    let run = node.run(json!({"command": ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]})).await;
    let run = node.comes_to(run.id, RunState::Running).await;
    super::eventually("it heeds no signal", || async { node.texts(run.id).await.contains(&"up".to_owned()) }).await;
    run
}

/// Begins a deed that takes a while, and comes when it is under way.
async fn begun(node: &Node, run: &Run, deed: Deed) -> tokio::task::JoinHandle<Result<(), Error>> {
    let mut moved = node.apps().store().wakes().subscribe(Topic::Run(run.id));
    let (apps, id) = (node.apps().clone(), run.id.to_string());
    let task = tokio::spawn(async move { apps.act(&ada(), &id, &deed).await.map(drop) });
    while !node.look(run.id).await.stop_requested {
        moved.woken(Duration::from_secs(1)).await;
    }
    task
}

async fn removed_behind_the_back(backend: Backend, deed: Deed) {
    let node = Node::start(backend).await;
    let run = stubborn(&node).await;
    let task = begun(&node, &run, deed).await;
    docker().remove(run.container.as_deref().expect("it has one"), true).await.expect("removed");
    let told = tokio::time::timeout(Duration::from_secs(20), task).await.expect("soon").expect("ends");
    assert!(matches!(told, Err(Error::NotFound("container"))), "{told:?}");
    let run = node.comes_to(run.id, RunState::Stopped).await;
    assert_eq!((run.removed, run.error), (true, None));
    assert!(node.on_engine().await.is_empty(), "and none was made anew");
    assert_eq!(node.fleet().records().holdings(&run.owner).await.expect("answers").containers(), 0);
}

const LONG: Option<Duration> = Some(Duration::from_secs(30));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_behind_the_back_of_a_stop() {
    removed_behind_the_back(Backend::Sqlite, Deed::Stop(LONG)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_behind_the_back_of_a_restart() {
    removed_behind_the_back(Backend::Redis, Deed::Restart(LONG)).await;
}

/// Whoever wins, what is told is what is there, and there is one of it.
async fn two_stops_and_a_start(backend: Backend) {
    let node = Node::start(backend).await;
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let run = node.comes_to(run.id, RunState::Running).await;
    let container = run.container.clone().expect("it has one");
    for _ in 0..4 {
        let act = |deed: Deed| {
            let (apps, id) = (node.apps().clone(), run.id.to_string());
            async move { apps.act(&ada(), &id, &deed).await.map(drop) }
        };
        let stop = || act(Deed::Stop(Some(Duration::ZERO)));
        let told = tokio::join!(stop(), act(Deed::Start), stop());
        assert!(told.0.is_ok() && told.1.is_ok() && told.2.is_ok(), "{told:?}");
        let now = node.look(run.id).await;
        let there = docker().inspect(&container, false).await.expect("answers").expect("there");
        let runs = there.summary.state == dockwright::engine::containers::ContainerState::Running;
        assert_eq!(now.state == RunState::Running, runs, "{now:#?}");
        assert!(now.error.is_none() && now.state.is_live() == runs, "{now:#?}");
        assert_eq!(node.on_engine().await, std::slice::from_ref(&container));
        // The next round begins with one that runs.
        act(Deed::Start).await.expect("started");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stops_and_a_start_with_the_embedded_store() {
    two_stops_and_a_start(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stops_and_a_start_with_redis() {
    two_stops_and_a_start(Backend::Redis).await;
}

/// A container that was removed while nobody looked is not made anew by a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_makes_no_second_container() {
    let mut node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let run = node.comes_to(run.id, RunState::Running).await;
    node.apps().stop_run(&ada(), run.id).await.expect("stopped");
    node.cut_off().await;
    let again = |run: &mut Run| {
        run.state = RunState::Starting;
        run.stop_requested = false;
        Ok(())
    };
    let scope = dockwright::domain::Scope::All;
    node.fleet().records().change(&scope, run.id, None, again).await.expect("answers");
    docker().remove(run.container.as_deref().expect("it has one"), true).await.expect("removed");
    node.keep().await;
    let lost = node.comes_to(run.id, RunState::Failed).await;
    assert_eq!(lost.error.map(|error| error.code).as_deref(), Some("container_removed"));
    assert!(node.on_engine().await.is_empty());
}
