//! `Idempotency-Key`: what is sent again is done once, for its owner alone.

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::people::{queued, quiet, send};
use crate::support::service::{Backend, Running, dockerfile};
use crate::support::unique;

/// Status, whether it is an answer given before, and the answer.
async fn submit(service: &Running, token: &str, key: &str, text: &str) -> (StatusCode, bool, Value) {
    let form = dockerfile(text).text("image", "127.0.0.1:1/team/app");
    let sent = service.request_as(token, Method::POST, "/api/v1/builds").header("idempotency-key", key).multipart(form);
    let answer = sent.send().await.expect("an answer");
    let replayed = answer.headers().get("idempotent-replayed").is_some_and(|told| told == "true");
    (answer.status(), replayed, answer.json().await.expect("JSON"))
}

async fn builds(service: &Running, token: &str) -> usize {
    let (_, page) = send(service.request_as(token, Method::GET, "/api/v1/builds?limit=200")).await;
    page["items"].as_array().expect("a list").len()
}

async fn a_hundred_at_once_are_one_build(backend: Backend) {
    let service = quiet(backend).await;
    let ada = service.user("ada").await;
    let key = unique("key");
    let answers = join_all((0..100).map(|_| submit(&service, &ada, &key, "FROM busybox\n"))).await;
    let (mut first, mut ids) = (0, Vec::new());
    for (status, replayed, told) in &answers {
        match (status.as_u16(), replayed) {
            (202, replayed) => {
                first += usize::from(!replayed);
                ids.push(told["id"].as_str().expect("an id").to_owned());
            }
            (409, false) => assert_eq!(told["code"], "still_running", "{told}"),
            _ => panic!("{status} {told}"),
        }
    }
    assert_eq!(first, 1, "one of them was the first");
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), builds(&service, &ada).await), (1, 1));
    let (status, replayed, told) = submit(&service, &ada, &key, "FROM busybox\n").await;
    assert_eq!((status, replayed, told["id"].as_str()), (StatusCode::ACCEPTED, true, Some(&*ids[0])), "{told}");
    let (status, _, told) = submit(&service, &ada, &key, "FROM alpine\n").await;
    assert_eq!((status.as_u16(), &told["code"]), (422, &"idempotency_key_reused".into()), "{told}");
    assert_eq!(builds(&service, &ada).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_are_one_build_with_the_embedded_store() {
    a_hundred_at_once_are_one_build(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_are_one_build_with_redis() {
    a_hundred_at_once_are_one_build(Backend::Redis).await;
}

async fn a_key_is_its_owners(backend: Backend) {
    let service = quiet(backend).await;
    let (bob, bobby) = (service.user("bob").await, service.user("bobby").await);
    let key = unique("key");
    let mut ids = Vec::new();
    for token in [&bob, &bobby, &service.token] {
        let (status, replayed, told) = submit(&service, token, &key, "FROM busybox\n").await;
        assert_eq!((status.as_u16(), replayed), (202, false), "another owner's key is another one: {told}");
        ids.push(told["id"].clone());
    }
    // Also when it says something else, which the owner itself would be refused for.
    assert_eq!(submit(&service, &service.user("b").await, &key, "FROM alpine\n").await.0, StatusCode::ACCEPTED);
    for (token, id) in [&bob, &bobby, &service.token].into_iter().zip(&ids) {
        let (_, replayed, told) = submit(&service, token, &key, "FROM busybox\n").await;
        assert_eq!((replayed, &told["id"]), (true, id));
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_its_owners_with_the_embedded_store() {
    a_key_is_its_owners(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_its_owners_with_redis() {
    a_key_is_its_owners(Backend::Redis).await;
}

async fn every_post_can_be_sent_again(backend: Backend) {
    let service = quiet(backend).await;
    let (user, registry) = (unique("made"), unique("kept"));
    let put = service.request(Method::PUT, &format!("/api/v1/registries/{registry}"));
    let put = put.json(&json!({"server": "127.0.0.1:1", "username": "u", "password": "p"}));
    assert_eq!(send(put).await.0, StatusCode::CREATED);
    let build = queued(&service, &service.token).await;
    for (path, body) in [
        ("/api/v1/users".to_owned(), json!({"name": user})),
        ("/api/v1/tokens".to_owned(), json!({"name": "again"})),
        (format!("/api/v1/registries/{registry}/check"), Value::Null),
        (format!("/api/v1/builds/{build}/cancel"), Value::Null),
        ("/api/v1/keys/rotate".to_owned(), Value::Null),
    ] {
        let key = unique("key");
        let post = || {
            let post = service.request(Method::POST, &path).header("idempotency-key", &key);
            if body.is_null() { post } else { post.json(&body) }
        };
        let first = post().send().await.expect("an answer");
        assert!(first.status().is_success() && !first.headers().contains_key("idempotent-replayed"), "{path}");
        let (status, location) = (first.status(), first.headers().get("location").cloned());
        let text = first.text().await.expect("text");
        let again = post().send().await.expect("an answer");
        let replayed = again.headers().get("idempotent-replayed").is_some_and(|told| told == "true");
        assert_eq!((again.status(), replayed), (status, true), "{path}");
        assert_eq!(again.headers().get("location").cloned(), location, "{path}");
        if path.ends_with("/tokens") {
            assert_eq!(again.headers()["cache-control"], "no-store", "it shows a token once more");
        }
        assert_eq!(again.text().await.expect("text"), text, "{path}");
    }
    let (_, tokens) = send(service.request(Method::GET, "/api/v1/tokens?limit=200")).await;
    let made = tokens["items"].as_array().expect("a list").iter().filter(|token| token["name"] == "again").count();
    assert_eq!(made, 1);
    for bad in ["", &"k".repeat(256), "schlüssel"] {
        let sent = service.request(Method::POST, "/api/v1/tokens").header("idempotency-key", bad).json(&json!({"name": "x"}));
        let (status, told) = send(sent).await;
        assert_eq!((status.as_u16(), &told["code"]), (400, &"invalid_idempotency_key".into()), "{bad:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_can_be_sent_again_with_the_embedded_store() {
    every_post_can_be_sent_again(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_can_be_sent_again_with_redis() {
    every_post_can_be_sent_again(Backend::Redis).await;
}
