//! Pulls that are told of, limited, given up, or no longer wanted.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use dockwright::domain::{Run, RunState};
use dockwright::store::Topic;
use serde_json::json;

use super::{Node, ada, eventually};
use crate::registry::proxy::{Act, Proxy};
use crate::support::gate::{Behind, Gate};
use crate::support::service::{Backend, docker};
use crate::support::{published_image, registry};

/// As Docker Hub says it.
fn left(remaining: &'static str) -> HeaderMap {
    let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", remaining)];
    headers.map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).into_iter().collect()
}

/// Stands for the Hub, which limits pulls and tells how many are left to whoever asks without pulling.
async fn hub(remaining: &'static str, engine: fn() -> Act) -> Proxy {
    Proxy::by_headers(&registry(), move |method, path, headers| {
        let ours = headers.get("user-agent").is_some_and(|agent| agent.as_bytes().starts_with(b"dockwright/"));
        match path.contains("/manifests/") {
            true if ours && *method == Method::HEAD => Act::Answer(StatusCode::OK, left(remaining), String::new()),
            true if !ours => engine(),
            _ => Act::Pass,
        }
    })
    .await
}

async fn pulled_from(hub: &Proxy, state: RunState) -> (Run, Vec<String>) {
    let node = Node::start(Backend::Sqlite).await;
    let image = published_image("hub").replace(&registry(), &hub.host);
    let run = node.run(json!({"image": image, "command": ["true"]})).await;
    let run = node.comes_to(run.id, state).await;
    let texts = node.texts(run.id).await;
    node.apps().remove_run(&ada(), run.id).await.expect("removed");
    docker(&["rmi", &image]);
    (run, texts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pulls_that_are_left_are_told() {
    let hub = hub("76;w=21600", || Act::Pass).await;
    let (_, texts) = pulled_from(&hub, RunState::Exited).await;
    let wanted = format!("{}: 76 of 100 pulls in 6 hours are left", hub.host);
    assert!(texts.contains(&wanted), "{wanted}: {texts:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_does_not_tell_is_not_quoted() {
    let silent = Proxy::before(&registry(), |_, _| Act::Pass).await;
    let (_, texts) = pulled_from(&silent, RunState::Exited).await;
    assert!(!texts.iter().any(|text| text.contains("are left")), "{texts:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_reached_is_explained() {
    let refuse = || {
        let why = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading";
        let body = json!({"errors": [{"code": "TOOMANYREQUESTS", "message": why}]}).to_string();
        let json = HeaderMap::from_iter([(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Act::Answer(StatusCode::TOO_MANY_REQUESTS, json, body)
    };
    let (run, texts) = pulled_from(&hub("0;w=21600", refuse).await, RunState::Failed).await;
    let error = run.error.expect("told");
    assert_eq!(error.code, "rate_limited", "{error:?}");
    for part in ["You have reached your pull rate limit", "store credentials for it, or wait"] {
        assert!(error.message.contains(part), "{part}: {error:?}");
    }
    assert!(texts.iter().any(|text| text.contains("0 of 100 pulls in 6 hours are left")), "{texts:#?}");
}

/// A run whose pull is held on the way, and what holds it.
async fn held(node: &Node) -> (Gate, String, Run) {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/", 0).await;
    let image = published_image("held").replace(&registry(), &gate.address.to_string());
    let run = node.run(json!({"image": image, "command": ["sleep", "300"]})).await;
    gate.reached().await;
    let mut moved = node.apps().store().wakes().subscribe(Topic::Run(run.id));
    while node.look(run.id).await.state != RunState::Pulling {
        moved.woken(std::time::Duration::from_secs(1)).await;
    }
    (gate, image, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_tells_nothing_is_given_up() {
    let node = Node::start_with(Backend::Sqlite, |settings| settings.push_stall = Some("1s".parse().expect("a span"))).await;
    let (_gate, _, run) = held(&node).await;
    let run = node.comes_to(run.id, RunState::Failed).await;
    let error = run.error.expect("told");
    assert_eq!(error.code, "registry_timeout", "{error:?}");
    assert!(node.on_engine().await.is_empty());
}

async fn a_run_is_removed_while_it_is_pulled(backend: Backend) {
    let node = Node::start(backend).await;
    let (gate, image, run) = held(&node).await;
    node.apps().remove_run(&ada(), run.id).await.expect("removed");
    assert!(node.apps().run(&ada(), run.id).await.is_err(), "it is gone");
    assert_eq!(node.fleet().records().holdings(&run.owner).await.expect("answers").containers(), 0);
    // The gate would let it through now, and nobody pulls any more.
    gate.open();
    assert_eq!(docker(&["images", "-q", &image]), "", "the pull was stopped");
    assert!(node.fleet().records().live().await.expect("answers").is_empty());
    assert!(node.on_engine().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_removed_while_it_is_pulled_with_the_embedded_store() {
    a_run_is_removed_while_it_is_pulled(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_removed_while_it_is_pulled_with_redis() {
    a_run_is_removed_while_it_is_pulled(Backend::Redis).await;
}

/// One whose registry hangs does not hold up another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_stopped_while_it_is_pulled() {
    let node = Node::start(Backend::Sqlite).await;
    let (_gate, _, run) = held(&node).await;
    node.apps().stop_run(&ada(), run.id).await.expect("stopped");
    let run = node.look(run.id).await;
    assert_eq!((run.state, run.container, run.error), (RunState::Stopped, None, None));
    let other = node.run(json!({"command": ["true"]})).await;
    node.comes_to(other.id, RunState::Exited).await;
    eventually("only the other is there", || async { node.on_engine().await.len() == 1 }).await;
}
