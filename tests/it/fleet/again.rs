//! The same run asked for twice, because the first answer was lost.

use std::time::Duration;

use dockwright::apps::NewRun;
use dockwright::domain::{Quota, RunId};
use serde_json::json;

use super::{Node, person};
use crate::support::service::Backend;

async fn a_run_that_is_sent_again_is_the_same(backend: Backend) {
    let node = Node::start(backend).await;
    // No room for a second one.
    let ada = person("ada", Quota { containers: Some(1), ..Quota::default() });
    let fields = json!({"image": "busybox", "command": ["sleep", "300"], "network": "none"});
    let fields = fields.as_object().expect("an object");
    let id = RunId::new();
    let send = || async {
        let new = NewRun { id: Some(id), ..NewRun::default() };
        let sent = node.apps().run_once(&ada, fields, new);
        tokio::time::timeout(Duration::from_secs(10), sent).await.expect("an answer").expect("accepted")
    };
    let first = send().await;
    let again = send().await;
    assert_eq!((first.id, &first.name), (again.id, &again.name), "the run that there is");
    node.apps().remove_run(&ada, id).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_sent_again_is_the_same_embedded() {
    a_run_that_is_sent_again_is_the_same(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_sent_again_is_the_same_with_redis() {
    a_run_that_is_sent_again_is_the_same(Backend::Redis).await;
}
