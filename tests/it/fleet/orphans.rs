//! What carries our labels and has no record, and what only looks like it.

use std::collections::BTreeMap;
use std::time::Duration;

use dockwright::domain::{RunId, RunState};
use dockwright::engine::containers::{Containers, INSTALLATION, Networks, RUN, Volumes};
use dockwright::fleet::sweep_once;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Node, ada, eventually};
use crate::engine::docker;
use crate::support::harbor::{Swept, harbor};
use crate::support::service::{self, Backend};
use crate::support::unique;

/// A sleeping container with these labels, made by somebody at the engine.
fn stranger(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("--label={key}={value}")).collect();
    let mut args = vec!["create", "--name", name, "--network", "none"];
    args.extend(labels.iter().map(String::as_str));
    service::docker(&[&args[..], &["busybox", "sleep", "300"]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_shown_to_admins_alone_and_touched_by_nobody() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let labels = [(INSTALLATION, &*harbor.installation), ("dockwright.owner", "ada"), (RUN, &RunId::new().to_string())];
    let orphan = stranger(&unique("orphan"), &labels);
    let path = format!("/api/v1/containers/{orphan}");
    let shown = || harbor.call(&harbor.token, Method::GET, &path, Value::Null);
    eventually("it is seen", || async { shown().await.0 == StatusCode::OK }).await;
    let told = shown().await.1;
    assert_eq!((&told["orphan"], &told["managed"], &told["owner"]), (&true.into(), &false.into(), &Value::Null), "{told}");
    assert_eq!(harbor.call(&ada, Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND, "its label proves nothing");
    let listed = harbor.read(&ada, "/api/v1/containers").await;
    assert_eq!(listed["items"], json!([]));
    let (status, told) = harbor.call(&harbor.token, Method::DELETE, &format!("{path}?force=true"), Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::FORBIDDEN, &"not_ours".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_another_installations_is_left_alone() {
    let node = Node::start(Backend::Sqlite).await;
    let other = Swept(unique("other"));
    // Names that one is the beginning of are not the same.
    let near = Swept(format!("{}0", node.installation()));
    let labels = |installation: &str| BTreeMap::from([(INSTALLATION.to_owned(), installation.to_owned())]);
    let mut theirs = Vec::new();
    for Swept(installation) in [&other, &near] {
        let name = unique("theirs");
        docker().create_network(&name, &labels(installation)).await.expect("made");
        docker().create_volume(&name, &labels(installation)).await.expect("made");
        theirs.push((stranger(&name, &[(INSTALLATION, installation)]), name));
    }
    let ours = unique("ours");
    docker().create_network(&ours, &labels(node.installation())).await.expect("made");
    docker().create_volume(&ours, &labels(node.installation())).await.expect("made");
    let orphan = stranger(&ours, &[(INSTALLATION, node.installation()), (RUN, &RunId::new().to_string())]);
    let all = || node.fleet().containers(&dockwright::domain::Scope::All).expect("known");
    eventually("all are seen", || async {
        theirs.iter().map(|(id, _)| id).chain([&orphan]).all(|id| all().iter().any(|seen| seen.summary.id == *id))
    })
    .await;
    sweep_once(node.fleet(), Duration::ZERO).await.expect("a pass");
    let networks = service::docker(&["network", "ls", "--format", "{{.Name}}"]);
    let volumes = service::docker(&["volume", "ls", "-q"]);
    for (container, name) in &theirs {
        assert!(docker().inspect(container, false).await.expect("answers").is_some(), "their container is there");
        assert!(networks.lines().any(|network| network == name) && volumes.lines().any(|volume| volume == name), "{name}");
    }
    assert!(docker().inspect(&orphan, false).await.expect("answers").is_none(), "ours went");
    assert!(!networks.lines().any(|network| *network == ours), "its network, too");
    assert!(volumes.lines().any(|volume| *volume == ours), "what is in a volume may be wanted: it is left");
    service::docker(&["volume", "rm", &ours]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_just_being_made_is_no_orphan() {
    let mut node = Node::start(Backend::Redis).await;
    node.cut_off().await;
    // As far as a keeper had come that was killed: made, and not yet in the record.
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let made = stranger(&run.name, &[(INSTALLATION, node.installation()), (RUN, &run.id.to_string())]);
    node.keep().await;
    sweep_once(node.fleet(), Duration::ZERO).await.expect("a pass");
    let run = node.comes_to(run.id, RunState::Running).await;
    assert_eq!(run.container.as_deref(), Some(&*made), "it was gone on with");
    assert_eq!(node.on_engine().await, [made]);
}

async fn a_volume_stays_as_long_as_its_record(backend: Backend) {
    let node = Node::start(backend).await;
    let mount = json!([{"volume": "data", "path": "/data"}]);
    let run = node.run(json!({"command": ["sh", "-c", "echo kept > /data/file"], "volumes": mount})).await;
    node.comes_to(run.id, RunState::Exited).await;
    node.apps().remove_run(&ada(), run.id).await.expect("removed");
    for _ in 0..2 {
        sweep_once(node.fleet(), Duration::ZERO).await.expect("a pass");
    }
    let run = node.run(json!({"command": ["cat", "/data/file"], "volumes": mount})).await;
    node.comes_to(run.id, RunState::Exited).await;
    assert!(node.texts(run.id).await.contains(&"kept".to_owned()), "its files are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_stays_as_long_as_its_record_with_the_embedded_store() {
    a_volume_stays_as_long_as_its_record(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_stays_as_long_as_its_record_with_redis() {
    a_volume_stays_as_long_as_its_record(Backend::Redis).await;
}
