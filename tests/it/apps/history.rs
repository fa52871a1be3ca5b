//! What stays of a run, and what is told when something goes otherwise than it should.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{harbor, web, word};
use crate::support::service::{Backend, docker, id};

async fn the_log_outlives_the_container(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", "echo out; echo err >&2; exit 4"], "network": "none"})).await;
    let over = harbor.over(&ada, &run).await;
    let before = harbor.run_log(&ada, &run).await;
    assert!(before.contains("out\n") && before.contains("err\n") && before.contains("ended with exit code 4\n"), "{before}");
    let container = format!("/api/v1/containers/{}", word(&over["container"]));
    harbor.done(&ada, Method::DELETE, &container, Value::Null).await;
    assert_eq!(harbor.call(&ada, Method::GET, &container, Value::Null).await.0, StatusCode::NOT_FOUND);
    let gone = harbor.read(&ada, &format!("/api/v1/runs/{}", id(&run))).await;
    assert_eq!(
        (&gone["container_removed"], &gone["links"]["container"], &gone["exit_code"]),
        (&true.into(), &Value::Null, &4.into())
    );
    assert_eq!(gone["container"], over["container"], "the history still names it");
    assert_eq!(harbor.run_log(&ada, &run).await, before);
    // The last lines alone, and what comes behind one of them.
    let tail = format!("/api/v1/runs/{}/logs?tail=1&timestamps=true", id(&run));
    let last = harbor.read(&ada, &tail).await;
    let (at, text) = word(&last).split_once(' ').expect("a time");
    assert!(at.ends_with('Z') && at.len() == 24 && text == "ended with exit code 4\n", "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_outlives_the_container_with_the_embedded_store() {
    the_log_outlives_the_container(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_outlives_the_container_with_redis() {
    the_log_outlives_the_container(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_removes_is_told_as_such() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let run = harbor.run(&ada, json!({"command": ["sleep", "600"], "network": "none"})).await;
    let run = harbor.runs(&ada, &run).await;
    docker(&["rm", "-f", word(&run["container"])]);
    let lost = harbor.over(&ada, &run).await;
    assert_eq!((&lost["state"], &lost["error"]["code"]), (&"failed".into(), &"container_removed".into()), "{lost}");
    assert_eq!((&lost["container_removed"], &lost["error"]["kind"]), (&true.into(), &"infra".into()), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_in_the_engines_words() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let first = harbor.run(&ada, web("first")).await;
    harbor.runs(&ada, &first).await;
    let shown = harbor.read(&ada, &format!("/api/v1/containers/{}", id(&first))).await;
    let port = shown["ports"][0]["host"].clone();
    let mut same = web("second");
    same["ports"] = json!([{"container": 8080, "host": port}]);
    let second = harbor.run(&ada, same).await;
    let second = harbor.over(&ada, &second).await;
    assert_eq!((&second["state"], &second["error"]["code"]), (&"failed".into(), &"port_taken".into()), "{second}");
    assert!(word(&second["error"]["message"]).contains("port is already allocated"), "{second}");
    let mut out = web("third");
    out["ports"] = json!([{"container": 8080, "host": 22}]);
    out["image"] = "busybox".into();
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/containers", out).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(word(&told["errors"][0]["message"]).contains("host port 22 is outside 20000–29999"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_stopped_started_killed_and_removed() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let script = "trap 'echo usr' USR1; echo up; while true; do sleep 0.1; done";
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", script], "network": "none"})).await;
    let run = harbor.runs(&ada, &run).await;
    let path = format!("/api/v1/containers/{}", word(&run["container_name"]));
    let act = async |deed: &str| harbor.call(&ada, Method::POST, &format!("{path}/{deed}"), Value::Null).await;
    assert_eq!(act("kill?signal=usr1").await.0, StatusCode::OK);
    let mut log = harbor.request_as(&ada, Method::GET, &format!("{path}/logs?follow=true")).send().await.expect("a log");
    let mut seen = String::new();
    while !seen.contains("usr\n") {
        seen.push_str(&String::from_utf8_lossy(&log.chunk().await.expect("the log").expect("more of it")));
    }
    assert_eq!(act("kill?signal=nonsense").await.0, StatusCode::BAD_REQUEST);
    let top = harbor.read(&ada, &format!("{path}/top")).await;
    assert!(top["rows"].to_string().contains("while true"), "{top}");
    let (status, stopped) = act("stop?grace=0s").await;
    assert_eq!((status, &stopped["state"], &stopped["exit_code"]), (StatusCode::OK, &"exited".into(), &137.into()), "{stopped}");
    assert_eq!(harbor.read(&ada, &format!("/api/v1/runs/{}", id(&run))).await["state"], "stopped");
    assert_eq!(act("stop").await.0, StatusCode::OK, "twice is once");
    for deed in ["kill"] {
        let (status, told) = act(deed).await;
        assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"not_running".into()));
    }
    let (status, started) = act("start").await;
    assert_eq!((status, &started["state"]), (StatusCode::OK, &"running".into()), "{started}");
    let (status, again) = act("restart?grace=0s").await;
    assert_eq!((status, &again["state"]), (StatusCode::OK, &"running".into()), "{again}");
    assert_ne!(again["started_at"], started["started_at"]);
    let (status, told) = harbor.call(&ada, Method::DELETE, &path, Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"container_runs".into()));
    harbor.done(&ada, Method::DELETE, &format!("{path}?force=true"), Value::Null).await;
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("id={}", word(&run["container"]))]), "");
    assert_eq!(harbor.read(&ada, &format!("/api/v1/runs/{}", id(&run))).await["container_removed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_uses_and_changes_is_told() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let script = "echo x > /made; rm /bin/wget; while true; do sleep 1; done";
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", script], "network": "none", "memory": "64m"})).await;
    let run = harbor.runs(&ada, &run).await;
    let path = format!("/api/v1/containers/{}", id(&run));
    let sample = harbor.read(&ada, &format!("{path}/stats")).await;
    assert_eq!(sample["memory_limit_bytes"], 64 << 20, "{sample}");
    assert!(sample["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{sample}");
    let asked = harbor.request_as(&ada, Method::GET, &format!("{path}/stats")).header("accept", "text/event-stream");
    let mut stream = asked.send().await.expect("an answer");
    let mut seen = String::new();
    while seen.matches("event: stats").count() < 2 {
        seen.push_str(&String::from_utf8_lossy(&stream.chunk().await.expect("samples").expect("more of them")));
    }
    let changes = harbor.read(&ada, &format!("{path}/changes")).await["items"].clone();
    for (at, kind) in [("/made", "added"), ("/bin/wget", "deleted")] {
        assert!(changes.as_array().expect("a list").contains(&json!({"path": at, "kind": kind})), "{changes}");
    }
    let sized = harbor.read(&ada, &format!("{path}?size=true")).await["size"].clone();
    assert!(sized["own_bytes"].as_u64() > Some(0) && sized["all_bytes"].as_u64() > sized["own_bytes"].as_u64(), "{sized}");
    assert_eq!(harbor.read(&ada, &path).await["size"], Value::Null);
    // The stream ends with the container.
    harbor.done(&ada, Method::POST, &format!("{path}/stop?grace=0s"), Value::Null).await;
    while !seen.contains("event: end") {
        seen.push_str(&String::from_utf8_lossy(&stream.chunk().await.expect("samples").expect("the end")));
    }
}

/// A reader that breaks off at any line gets exactly the rest.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_log_go_on_from_any_place() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let script = "for i in 1 2 3 4 5 6 7 8; do echo line $i; done";
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", script], "network": "none"})).await;
    harbor.over(&ada, &run).await;
    let path = format!("/api/v1/runs/{}/logs", id(&run));
    let events = async |after: Option<&str>| {
        let asked = harbor.request_as(&ada, Method::GET, &path).header("accept", "text/event-stream");
        let asked = if let Some(after) = after { asked.header("last-event-id", after) } else { asked };
        let text = asked.send().await.expect("an answer").text().await.expect("text");
        assert!(text.contains("event: state") && text.trim_end().ends_with("data: {}"), "{text}");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        lines.filter(|line| line["text"].is_string()).collect::<Vec<Value>>()
    };
    let all = events(None).await;
    assert!(all.iter().any(|line| line["text"] == "line 8") && all.iter().any(|line| line["stream"] == "system"), "{all:?}");
    for (at, line) in all.iter().enumerate() {
        assert_eq!(events(Some(word(&line["seq"]))).await, all[at + 1..], "behind {line}");
    }
    let tail = harbor.read(&ada, &format!("{path}?after={}", word(&all[all.len() - 2]["seq"]))).await;
    assert_eq!(tail, format!("{}\n", word(&all[all.len() - 1]["text"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_very_many_changed_files_the_first_are_told() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let script = "mkdir /many; cd /many; seq 10010 | xargs touch";
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", script], "network": "none"})).await;
    harbor.over(&ada, &run).await;
    let told = harbor.read(&ada, &format!("/api/v1/containers/{}/changes", id(&run))).await;
    let paths: std::collections::BTreeSet<&str> =
        told["items"].as_array().expect("a list").iter().map(|change| word(&change["path"])).collect();
    assert_eq!((paths.len(), &told["truncated"]), (10_000, &true.into()));
}
