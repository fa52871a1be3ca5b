//! What was built also runs: by a build's id, or from a Dockerfile in one call.

use reqwest::multipart::Form;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, context, docker, dockerfile, id, tar};
use crate::support::{registry, unique};

async fn post(harbor: &Harbor, token: &str, form: Form, key: Option<&str>) -> (StatusCode, Value) {
    let sent = harbor.request_as(token, Method::POST, "/api/v1/containers").multipart(form);
    let sent = if let Some(key) = key { sent.header("idempotency-key", key) } else { sent };
    let answer = sent.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn a_dockerfile_becomes_a_container_in_one_call(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    let mark = unique("mark");
    let file = format!("FROM busybox\nRUN echo built-{mark}\nCMD echo runs-{mark} $MORE; id -u\n");
    let form =
        || dockerfile(&file).text("env", "MORE=and more").text("user", "1000").text("network", "none").text("memory", "32m");
    let key = unique("key");
    let (status, run) = post(&harbor, &ada, form(), Some(&key)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{run}");
    // One log, of both, from the first line of the build on.
    let path = format!("/api/v1/runs/{}/logs?follow=true", id(&run));
    let log = harbor.request_as(&ada, Method::GET, &path).send().await.expect("a log").text().await.expect("text");
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    assert!(place(&format!("built-{mark}")) < place("made the container"), "{log}");
    assert!(place("made the container") < place(&format!("\nruns-{mark} and more\n")), "{log}");
    assert!(place("\n1000\n") < place("ended with exit code 0"), "{log}");
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["exit_code"], &over["spec"]["memory"]), (&0.into(), &"32m".into()), "{over}");
    assert_eq!(harbor.output(&ada, &run).await, format!("runs-{mark} and more\n1000\n"));
    let build = word(&over["spec"]["build"]).to_owned();
    let built = harbor.read(&ada, &format!("/api/v1/builds/{build}")).await;
    assert_eq!((&built["state"], &built["options"]["push"]), (&"built".into(), &false.into()), "{built}");
    // What comes behind any line of one log, in one log.
    let read = async |after: &str| {
        let asked = harbor.request_as(&ada, Method::GET, &format!("/api/v1/runs/{}/logs", id(&run)));
        let text = asked.header("accept", "text/event-stream").header("last-event-id", after).send().await.expect("an answer");
        let text = text.text().await.expect("text");
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        events.filter(|event| event["text"].is_string()).collect::<Vec<Value>>()
    };
    let all = read("0-0-0").await;
    for (at, line) in all.iter().enumerate() {
        assert_eq!(read(word(&line["seq"])).await, all[at + 1..], "behind {line}");
    }
    let (status, again) = post(&harbor, &ada, form(), Some(&key)).await;
    assert_eq!((status, id(&again)), (StatusCode::ACCEPTED, id(&run)), "sent again, done once");
    assert_eq!(harbor.read(&ada, "/api/v1/runs").await["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(harbor.read(&ada, "/api/v1/builds").await["items"].as_array().map(Vec::len), Some(1));
    let (status, other) = post(&harbor, &ada, form().text("workdir", "/tmp"), Some(&key)).await;
    assert_eq!((status.as_u16(), &other["code"]), (422, &"idempotency_key_reused".into()));
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await;
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/builds/{build}"), Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_becomes_a_container_in_one_call_with_the_embedded_store() {
    a_dockerfile_becomes_a_container_in_one_call(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_becomes_a_container_in_one_call_with_redis() {
    a_dockerfile_becomes_a_container_in_one_call(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_does_not_run() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let files = tar(&[("Dockerfile", "FROM busybox\nCOPY word /word\nRUN cat /word; exit 9\n"), ("word", "seen")]);
    let (status, run) = post(&harbor, &ada, context(files), None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{run}");
    let over = harbor.over(&ada, &run).await;
    assert_eq!(
        (&over["state"], &over["error"]["code"], &over["container"]),
        (&"failed".into(), &"build_failed".into(), &Value::Null),
        "{over}"
    );
    let log = harbor.run_log(&ada, &run).await;
    assert!(log.contains("seen") && log.contains("exit code: 9"), "{log}");
    // A fault of the container is told before anything is built.
    let (status, told) = post(&harbor, &ada, dockerfile("FROM busybox\n").text("memory", "1k"), None).await;
    assert_eq!((status, word(&told["errors"][0]["field"])), (StatusCode::BAD_REQUEST, "memory"), "{told}");
    for named in [r#"{"image": "busybox"}"#, r#"{"build": "01a1fcc6-00db-778f-aa50-18c1c74c2480"}"#] {
        let (status, told) = post(&harbor, &ada, dockerfile("FROM busybox\n").text("spec", named), None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{told}");
    }
    assert_eq!(harbor.read(&ada, "/api/v1/builds").await["items"].as_array().map(Vec::len), Some(1));
    // And so is a quota.
    harbor.done(&harbor.token, Method::PATCH, "/api/v1/users/ada", json!({"quota": {"containers": 0}})).await;
    let (status, told) = post(&harbor, &ada, dockerfile("FROM busybox\n"), None).await;
    assert_eq!((status, &told["code"]), (StatusCode::TOO_MANY_REQUESTS, &"quota_exceeded".into()), "{told}");
    assert_eq!(harbor.read(&ada, "/api/v1/builds").await["items"].as_array().map(Vec::len), Some(1), "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_build_runs_by_its_digest() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = format!("{}/{}:1", registry(), unique("pinned"));
    let file = format!("FROM busybox\nRUN echo {image}\nCMD echo mine\n");
    let build = harbor.submit_as(&ada, dockerfile(&file).text("image", image.clone())).await;
    // Accepted before it is built, and waits for it.
    let app = harbor.app(&ada, "mine", json!({"build": id(&build), "network": "none"})).await;
    assert_eq!((&app["build"], app.get("image")), (&build["id"], None), "{app}");
    let run = harbor.start_app(&ada, "mine").await;
    let over = harbor.over(&ada, &run).await;
    let built = harbor.ended(&build).await;
    let digest = word(&built["destinations"][0]["digest"]);
    assert_eq!(over["image"], format!("{}@{digest}", image.trim_end_matches(":1")), "{over}");
    assert_eq!(harbor.output(&ada, &run).await, "mine\n");
    // Also when the engine has nothing of it any more.
    let app = harbor.done(&ada, Method::PATCH, "/api/v1/apps/mine", json!({"command": ["echo", "other"]})).await;
    assert_eq!(app["build"], build["id"]);
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await;
    docker(&["rmi", &format!("dockwright.local/build:{}", id(&build))]);
    let run = harbor.start_app(&ada, "mine").await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["state"], harbor.output(&ada, &run).await), (&"exited".into(), "other\n".to_owned()), "{over}");
    assert!(harbor.run_log(&ada, &run).await.contains("has pulled"), "from the registry");
    // Another's build is none.
    let (status, told) = harbor.call(&bob, Method::POST, "/api/v1/containers", json!({"build": build["id"]})).await;
    assert_eq!((status, word(&told["errors"][0]["field"])), (StatusCode::BAD_REQUEST, "build"), "{told}");
    harbor.done(&ada, Method::DELETE, "/api/v1/apps/mine?force=true", Value::Null).await;
    harbor.delete(&build).await;
}
