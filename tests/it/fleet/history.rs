//! Of runs that are over, only so many are kept; and what is not here is pulled only while there is room for it.

use dockwright::apps::{NamedApp, NewRun};
use dockwright::domain::{AppId, Run, RunId, RunState};
use dockwright::error::Error;
use dockwright::fleet::trim_once;
use serde_json::{Value, json};

use super::{Node, ada};
use crate::support::service::Backend;

fn fields(command: Value) -> Value {
    json!({"image": "busybox", "command": command, "network": "none"})
}

async fn is_there(node: &Node, id: RunId) -> bool {
    match node.apps().run(&ada(), id).await {
        Ok(_) => true,
        Err(Error::NotFound(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn the_oldest_runs_go(backend: Backend) {
    let node = Node::start_with(backend, |settings| settings.keep_runs = Some(2)).await;
    let mut described = fields(json!(["true"]));
    described["name"] = "app".into();
    let input = NamedApp::of(described.as_object().expect("an object").clone());
    let app = node.apps().make_app(&ada(), AppId::new(), input).await.expect("made");
    let live = node.run(fields(json!(["sleep", "300"]))).await;
    node.comes_to(live.id, RunState::Running).await;
    let (mut of_app, mut alone): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let run = node.apps().run_app(&ada(), &app, NewRun::default()).await.expect("accepted");
        of_app.push(node.comes_to(run.id, RunState::Exited).await);
        let run = node.run(fields(json!(["true"]))).await;
        alone.push(node.comes_to(run.id, RunState::Exited).await);
    }
    trim_once(node.fleet()).await.expect("a pass");
    assert!(is_there(&node, live.id).await, "what runs stays, however old it is");
    let on_engine = node.on_engine().await;
    for runs in [of_app, alone] {
        for (run, kept) in runs.iter().zip([false, true, true]) {
            assert_eq!(is_there(&node, run.id).await, kept, "{run:#?}");
            let log = node.fleet().records().log(&dockwright::domain::Scope::All, run.id).await.expect("answers");
            assert_eq!(!log.notes.is_empty(), kept, "its log goes with it");
            let container = run.container.as_ref().expect("it had a container");
            assert_eq!(on_engine.contains(container), kept, "and so does its container");
        }
    }
    trim_once(node.fleet()).await.expect("a pass that finds nothing");
    assert_eq!(node.on_engine().await.len(), on_engine.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_runs_go_embedded() {
    the_oldest_runs_go(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_runs_go_with_redis() {
    the_oldest_runs_go(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_pulled_onto_a_full_disk() {
    let node =
        Node::start_with(Backend::Sqlite, |settings| settings.min_free_disk = Some("9000000g".parse().expect("an amount"))).await;
    let image = crate::support::published_image("full");
    let run = node.run(json!({"image": image, "command": ["true"], "network": "none"})).await;
    let error = node.comes_to(run.id, RunState::Failed).await.error.expect("told");
    assert_eq!(error.code, "storage_full", "{error:?}");
    assert!(error.message.contains("are free"), "{error:?}");
    let asked = image.parse().expect("a name");
    let refused = node.apps().pull(&ada(), &asked, None).await.err().expect("refused");
    assert!(matches!(&refused, Error::StorageFull(_)), "{refused:?}");
    // What is here runs.
    let run = node.run(fields(json!(["true"]))).await;
    node.comes_to(run.id, RunState::Exited).await;
}
