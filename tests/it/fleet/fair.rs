//! One owner's crowd of runs does not stand before another's one.

use std::time::Duration;

use dockwright::apps::RunFilter;
use dockwright::auth::Principal;
use dockwright::domain::{Quota, Run, RunState};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Node, eventually, person};
use crate::support::service::Backend;

const CROWD: usize = 30;
/// Runs of one owner that are prepared at once.
const AT_ONCE: usize = 4;

async fn runs(node: &Node, who: &Principal) -> Vec<Run> {
    let filter = RunFilter { limit: 200, ..RunFilter::default() };
    node.apps().runs(who, &filter).await.expect("a list").0.into_iter().map(|run| run.body).collect()
}

/// A registry that takes connections and never says a word.
async fn mute() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    (host, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_runs_leaves_room_for_others() {
    let node = Node::start(Backend::Sqlite).await;
    let bob = person("bob", Quota::default());
    let (host, registry) = mute().await;
    for number in 0..CROWD {
        let fields = json!({"image": format!("{host}/never/{number}:1"), "network": "none"});
        node.try_run(&bob, fields).await.expect("accepted");
    }
    let in_state = async |state: RunState| runs(&node, &bob).await.iter().filter(|run| run.state == state).count();
    eventually("the first are pulled", || async { in_state(RunState::Pulling).await >= AT_ONCE }).await;
    let run = node.run(json!({"command": ["true"], "network": "none"})).await;
    node.comes_to(run.id, RunState::Exited).await;
    assert_eq!(in_state(RunState::Pulling).await, AT_ONCE, "the others wait for their turn");
    let waiting = runs(&node, &bob).await.into_iter().find(|run| run.state == RunState::Pending).expect("one waits");
    let stopped = tokio::time::timeout(Duration::from_secs(20), node.apps().stop_run(&bob, waiting.id));
    let stopped = stopped.await.expect("at once").expect("stopped").body;
    assert_eq!(stopped.state, RunState::Stopped, "also one that waits");
    registry.abort();
    for run in runs(&node, &bob).await {
        node.apps().remove_run(&bob, run.id).await.expect("removed");
    }
}
