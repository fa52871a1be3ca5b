//! What is told of apps, runs and containers as it happens is told to those it belongs to.

use std::time::Duration;

use dockwright::domain::{Permission, Permissions};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::{nobody, token};
use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, docker, dockerfile, id};
use crate::support::watch::until;

/// Reads on until `text` has come; all that was read.
async fn read_until(stream: &mut Response, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = tokio::time::timeout(Duration::from_secs(30), stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("{text:?} never came: {seen}")).expect("the stream");
        seen.push_str(&String::from_utf8_lossy(&chunk.unwrap_or_else(|| panic!("the stream ended without {text:?}: {seen}"))));
    }
    seen
}

async fn events(harbor: &Harbor, token: &str) -> Response {
    let stream = harbor.request_as(token, Method::GET, "/api/v1/events").send().await.expect("an answer");
    assert_eq!(stream.status(), StatusCode::OK);
    stream
}

fn sleeper() -> Value {
    json!({"command": ["sleep", "600"], "network": "none"})
}

async fn changes_are_told_to_their_owner(backend: Backend) {
    let harbor = harbor(backend).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let (mut hers, mut his, mut all) =
        (events(&harbor, &ada).await, events(&harbor, &bob).await, events(&harbor, &harbor.token).await);
    let app = harbor.app(&ada, "hers", sleeper()).await;
    let run = harbor.start_app(&ada, "hers").await;
    let run = harbor.runs(&ada, &run).await;
    let container = word(&run["container"]);
    let told = read_until(&mut hers, "\"state\":\"running\",\"health\"").await;
    for (event, of) in [("app", id(&app)), ("run", id(&run)), ("container", container)] {
        let one = told.split("\n\n").find(|one| one.contains(&format!("event: {event}\n")) && one.contains(of));
        assert!(one.is_some(), "no {event} {of}: {told}");
    }
    // What somebody does at the engine is told, too.
    docker(&["kill", container]);
    let mut told = read_until(&mut hers, "\"state\":\"exited\"").await;
    harbor.done(&ada, Method::DELETE, "/api/v1/apps/hers?force=true", Value::Null).await;
    for (kind, of) in [("run", id(&run)), ("app", id(&app)), ("container", container)] {
        let gone = format!("\"kind\":\"{kind}\"");
        let seen =
            |told: &str| told.split("\n\n").any(|one| one.contains("event: deleted") && one.contains(&gone) && one.contains(of));
        while !seen(&told) {
            told.push_str(&read_until(&mut hers, "event: ").await);
        }
    }
    let last = harbor.app(&bob, "his", sleeper()).await;
    let seen = read_until(&mut his, id(&last)).await;
    for foreign in [id(&app), id(&run), container, "\"ada\"", "resync"] {
        assert!(!seen.contains(foreign), "{foreign} is told to bob: {seen}");
    }
    let seen = read_until(&mut all, id(&last)).await;
    assert!([id(&app), id(&run), container].iter().all(|of| seen.contains(of)), "an admin sees all: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_to_their_owner_with_the_embedded_store() {
    changes_are_told_to_their_owner(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_to_their_owner_with_redis() {
    changes_are_told_to_their_owner(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_shows_its_own_part_of_the_events() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let owner = "ada".parse().expect("a name");
    let with = async |scope: Permission| token(&harbor, &owner, [scope].into_iter().collect::<Permissions>(), None).await;
    let (builds, apps) = (with(Permission::BuildsRead).await, with(Permission::AppsRead).await);
    let (mut builds, mut apps) = (events(&harbor, &builds).await, events(&harbor, &apps).await);
    let build = harbor.submit_as(&ada, dockerfile("FROM busybox\n").text("push", "false")).await;
    let first = harbor.app(&ada, "first", sleeper()).await;
    harbor.app(&ada, "second", sleeper()).await;
    let seen = read_until(&mut apps, "second").await;
    assert!(seen.contains(id(&first)) && !seen.contains("event: build") && !seen.contains(id(&build)), "{seen}");
    let last = harbor.submit_as(&ada, dockerfile("FROM busybox\n").text("push", "false")).await;
    let seen = read_until(&mut builds, id(&last)).await;
    assert!(seen.contains(id(&build)) && !seen.contains("event: app") && !seen.contains(id(&first)), "{seen}");
}

async fn foreign_streams_are_not_there(backend: Backend) {
    let harbor = harbor(backend).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let run = harbor.run(&ada, json!({"command": ["sh", "-c", "echo hers; sleep 600"], "network": "none"})).await;
    let run = harbor.runs(&ada, &run).await;
    let (own, container) = (format!("/api/v1/runs/{}", id(&run)), format!("/api/v1/containers/{}", word(&run["container"])));
    for (path, accept) in [
        (format!("{own}?wait=60"), "application/json"),
        (format!("{own}/logs?follow=true"), "text/plain"),
        (format!("{own}/logs"), "text/event-stream"),
        (format!("{own}/logs?tail=5&follow=true"), "text/plain"),
        (format!("{container}/logs?follow=true"), "text/plain"),
        (format!("{container}/logs"), "text/event-stream"),
        (format!("{container}/stats"), "text/event-stream"),
        (format!("/api/v1/containers/{}/logs", word(&run["container_name"])), "text/event-stream"),
        (format!("/api/v1/containers/{}/top", id(&run)), "application/json"),
    ] {
        for (who, status) in [(Some(&bob), 404), (None, 401)] {
            let asked = match who {
                Some(token) => harbor.request_as(token, Method::GET, &path),
                None => nobody(&harbor, Method::GET, &path),
            };
            let asked = asked.header("accept", accept).header("last-event-id", "0-0-0").header("if-none-match", "\"1\"");
            // At once, and not when the wait is over.
            let answer = tokio::time::timeout(Duration::from_secs(20), asked.send()).await.expect("no wait").expect("an answer");
            assert_eq!(answer.status(), status, "{path}");
            assert!(!answer.text().await.expect("text").contains("hers"), "{path}");
        }
    }
    // And whose it is reads it while it goes on.
    let asked = harbor.request_as(&ada, Method::GET, &format!("{own}/logs")).header("accept", "text/event-stream");
    let mut stream = asked.send().await.expect("an answer");
    read_until(&mut stream, "\"text\":\"hers\"").await;
    harbor.done(&ada, Method::POST, &format!("{own}/stop"), Value::Null).await;
    let rest = read_until(&mut stream, "event: end").await;
    assert!(rest.contains("\"state\":\"stopped\""), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_streams_of_runs_are_not_there_with_the_embedded_store() {
    foreign_streams_are_not_there(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_streams_of_runs_are_not_there_with_redis() {
    foreign_streams_are_not_there(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_follows_only_so_much_at_once() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let run = harbor.run(&ada, json!({"command": ["sleep", "600"], "network": "none"})).await;
    harbor.runs(&ada, &run).await;
    let follow = async |token: &str, path: &str| {
        let asked = harbor.request_as(token, Method::GET, path).header("accept", "text/event-stream");
        asked.send().await.expect("an answer")
    };
    let (events, logs) = ("/api/v1/events".to_owned(), format!("/api/v1/runs/{}/logs", id(&run)));
    let stats = format!("/api/v1/containers/{}/stats", id(&run));
    let mut open = vec![follow(&ada, &logs).await, follow(&ada, &stats).await];
    for _ in 0..62 {
        open.push(follow(&ada, &events).await);
    }
    assert!(open.iter().all(|answer| answer.status() == StatusCode::OK));
    for path in [&events, &logs, &stats] {
        let answer = follow(&ada, path).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "too_many_streams");
    }
    assert_eq!(follow(&bob, &events).await.status(), StatusCode::OK, "another one's are another one's");
    // What is not followed is read all the same.
    harbor.run_log(&ada, &run).await;
    open.clear();
    until("what has ended does not count", async || follow(&ada, &logs).await.status() == StatusCode::OK).await;
}
