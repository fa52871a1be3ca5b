//! The process itself is killed while containers run, and while one is pulled, made, started or stopped: another one goes on.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::gate::{Behind, Gate};
use crate::support::harbor::word;
use crate::support::installed::Installed;
use crate::support::service::{Backend, docker, id};
use crate::support::{published_image, registry, watch};

const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
/// Ends with code 3 as soon as somebody puts a file there, each time anew.
const ENDS_WHEN_TOLD: &str = "until [ -e /end ]; do sleep 0.05; done; rm /end; exit 3";

fn container(run: &Value) -> &str {
    word(&run["container"])
}

fn tell_to_end(run: &Value) {
    docker(&["exec", container(run), "touch", "/end"]);
}

fn inspect(run: &Value, what: &str) -> String {
    docker(&["inspect", "--format", what, container(run)])
}

/// Reads the events of a run's log until one has this text; the place behind it.
async fn read_to(service: &Installed, run: &Value, text: &str) -> String {
    let asked = service.request(Method::GET, &format!("/api/v1/runs/{}/logs?follow=true", id(run)));
    let mut stream = asked.header("accept", "text/event-stream").send().await.expect("a log");
    let mut seen = String::new();
    loop {
        seen.push_str(&String::from_utf8_lossy(&stream.chunk().await.expect("the log").expect("more of it")));
        let lines = seen.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        if let Some(line) = lines.into_iter().find(|line| line["text"] == text) {
            return word(&line["seq"]).to_owned();
        }
    }
}

/// The numbers of `COUNTS` in a log, in its order.
fn counted(log: &str) -> Vec<usize> {
    log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
}

async fn what_happened_meanwhile_is_told(backend: Backend) {
    let mut service = Installed::start(backend, None).await;
    let goes_on = service.runs(COUNTS, Value::Null).await;
    let ends = service.runs(ENDS_WHEN_TOLD, Value::Null).await;
    let again = service.runs(ENDS_WHEN_TOLD, json!({"restart": "always"})).await;
    let removed = service.runs("sleep 600", Value::Null).await;
    let [over, started] = [service.runs(ENDS_WHEN_TOLD, Value::Null).await, service.runs(ENDS_WHEN_TOLD, Value::Null).await];
    for run in [&over, &started] {
        tell_to_end(run);
        service.comes_to(run, "exited").await;
    }
    let place = read_to(&service, &goes_on, "line 10").await;
    service.kill();

    tell_to_end(&ends);
    assert_eq!(docker(&["wait", container(&ends)]), "3");
    tell_to_end(&again);
    watch("the engine starts it again", || inspect(&again, "{{.RestartCount}} {{.State.Running}}") == "1 true").await;
    docker(&["rm", "-f", container(&removed)]);
    docker(&["rm", container(&over)]);
    docker(&["start", container(&started)]);
    service.start_again().await;

    let ended = service.comes_to(&ends, "exited").await;
    let at = inspect(&ends, "{{.State.FinishedAt}}");
    assert_eq!((&ended["exit_code"], &word(&ended["finished_at"])[..23]), (&3.into(), &at[..23]), "{ended}");
    let lost = service.comes_to(&removed, "failed").await;
    assert_eq!((&lost["error"]["code"], &lost["container_removed"]), (&"container_removed".into(), &true.into()), "{lost}");
    let gone = service.run_until(&over, |run| run["container_removed"] == true).await;
    assert_eq!((&gone["state"], &gone["exit_code"]), (&"exited".into(), &3.into()), "{gone}");
    assert_eq!(service.read("/api/v1/me").await["usage"]["containers"], 4, "what is gone does not count");
    let running = service.comes_to(&started, "running").await;
    assert_eq!((&running["exit_code"], &running["finished_at"]), (&Value::Null, &Value::Null), "{running}");
    assert!(service.log(&started).await.contains("runs again"), "{}", service.log(&started).await);
    let restarted = service.run_until(&again, |run| run["restarts"] == 1).await;
    assert_eq!(restarted["state"], "running", "{restarted}");
    assert!(service.log(&again).await.contains("was started again by the engine (1 in all)"));

    let now = service.comes_to(&goes_on, "running").await;
    assert_eq!(now["container"], goes_on["container"]);
    let all = counted(&service.log(&goes_on).await);
    assert_eq!(all, (1..=all.len()).collect::<Vec<_>>(), "nothing is lost or doubled");
    let rest = service.request(Method::GET, &format!("/api/v1/runs/{}/logs?after={place}", id(&goes_on)));
    let rest = counted(&rest.send().await.expect("a log").text().await.expect("text"));
    assert!(rest.len() >= all.len() - 10, "{rest:?}");
    assert_eq!(rest, (11..11 + rest.len()).collect::<Vec<_>>(), "a reader goes on where it was");
    assert_eq!(service.containers().len(), 4, "no second container");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_meanwhile_is_told_with_the_embedded_store() {
    what_happened_meanwhile_is_told(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_meanwhile_is_told_with_redis() {
    what_happened_meanwhile_is_told(Backend::Redis).await;
}

async fn killed_while_it_pulls(backend: Backend) {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/", 0).await;
    let image = published_image("killed").replace(&registry(), &gate.address.to_string());
    let mut service = Installed::start(backend, None).await;
    let run = service.run(json!({"image": image, "command": ["sleep", "600"]})).await;
    service.comes_to(&run, "pulling").await;
    gate.reached().await;
    service.kill();
    gate.open();
    service.start_again().await;
    let run = service.comes_to(&run, "running").await;
    assert_eq!(service.containers(), [container(&run)], "one, and only one");
    assert_eq!(service.call(Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await.0, StatusCode::NO_CONTENT);
    docker(&["rmi", &image]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_pulls_with_the_embedded_store() {
    killed_while_it_pulls(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_pulls_with_redis() {
    killed_while_it_pulls(Backend::Redis).await;
}

/// Killed while the engine has not yet got the whole of this request.
async fn killed_at(request: &'static str, made: usize) {
    let gate = Gate::engine(request, 0).await;
    let mut service = Installed::start(Backend::Sqlite, Some(format!("tcp://{}", gate.address))).await;
    let run = service.run(json!({"command": ["sleep", "600"]})).await;
    gate.reached().await;
    service.kill();
    assert_eq!(service.containers().len(), made);
    gate.open();
    service.start_again().await;
    let run = service.comes_to(&run, "running").await;
    assert_eq!(service.containers(), [container(&run)], "one, and only one");
    assert_eq!(inspect(&run, "{{.State.Running}}"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_its_container_is_made() {
    killed_at("/containers/create", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_its_container_is_started() {
    killed_at("/start", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_as_soon_as_its_container_is_there() {
    let mut service = Installed::start(Backend::Sqlite, None).await;
    let run = service.run(json!({"command": ["sleep", "600"]})).await;
    watch("it is made", || !service.containers().is_empty()).await;
    service.kill();
    let made = service.containers();
    service.start_again().await;
    let run = service.comes_to(&run, "running").await;
    assert_eq!(service.containers(), made, "the same, and only one");
    assert_eq!(container(&run), made[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_stopped() {
    let mut service = Installed::start(Backend::Redis, None).await;
    let run = service.runs("trap '' TERM; while :; do sleep 0.1; done", Value::Null).await;
    let stop = service.request(Method::POST, &format!("/api/v1/containers/{}/stop?grace=5s", id(&run))).send();
    let stop = tokio::spawn(stop);
    service.run_until(&run, |run| run["stop_requested"] == true).await;
    service.kill();
    assert!(stop.await.expect("ends").is_err(), "nothing was answered");
    service.start_again().await;
    let stopped = service.comes_to(&run, "stopped").await;
    assert_eq!(stopped["exit_code"], 137, "{stopped}");
    assert_eq!(inspect(&run, "{{.State.Status}}"), "exited");
    assert_eq!(service.containers(), [container(&run)]);
}
