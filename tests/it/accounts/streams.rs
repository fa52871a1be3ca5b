//! What is told as it happens is told to those it belongs to; and names that begin like others are others.

use std::time::Duration;

use dockwright::domain::{Owner, Permissions, Role, Scope, Session, Timestamp, User};
use dockwright::store::objects::{Expect, Kind, Write};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::people::{log_in, nobody, person, queued, quiet, send, token, with_password};
use crate::support::service::{Backend, Running};
use crate::support::unique;

/// Reads on until `text` has come; all that was read.
async fn read_until(stream: &mut Response, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("{text:?} never came: {seen}")).expect("the stream");
        seen.push_str(&String::from_utf8_lossy(&chunk.unwrap_or_else(|| panic!("the stream ended without {text:?}: {seen}"))));
    }
    seen
}

/// Reads to the end of a stream, which must come.
async fn read_to_end(mut stream: Response) {
    let end = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stream ends");
}

async fn events(service: &Running, token: &str) -> Response {
    let stream = service.request_as(token, Method::GET, "/api/v1/events").send().await.expect("an answer");
    assert_eq!(stream.status(), StatusCode::OK);
    stream
}

async fn everybodys_events_are_their_own(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob, bobby) = (service.user("ada").await, service.user("bob").await, service.user("bobby").await);
    let mut bobs = events(&service, &bob).await;
    let mut admins = events(&service, &service.token).await;
    let hers = queued(&service, &ada).await;
    let also_not_his = queued(&service, &bobby).await;
    let gone = service.request_as(&ada, Method::DELETE, &format!("/api/v1/builds/{hers}")).send().await.expect("an answer");
    assert_eq!(gone.status(), StatusCode::OK);
    // What is told in order is told in full when the last one has come.
    let his = queued(&service, &bob).await;
    let seen = read_until(&mut bobs, &his).await;
    for foreign in [&hers, &also_not_his, &"ada".to_owned(), &"bobby".to_owned(), &"resync".to_owned()] {
        assert!(!seen.contains(foreign.as_str()), "{foreign} is told to bob: {seen}");
    }
    let all = read_until(&mut admins, &his).await;
    assert!(all.contains(&hers) && all.contains(&also_not_his), "an admin sees all: {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybodys_events_are_their_own_with_the_embedded_store() {
    everybodys_events_are_their_own(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybodys_events_are_their_own_with_redis() {
    everybodys_events_are_their_own(Backend::Redis).await;
}

async fn foreign_streams_and_waits_are_not_there(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let build = queued(&service, &ada).await;
    for (path, accept) in [
        ("/logs?follow=true", "text/plain"),
        ("/logs", "text/event-stream"),
        ("/logs?tail=5&follow=true", "text/plain"),
        ("?wait=60", "application/json"),
        ("/dockerfile", "text/plain"),
    ] {
        let path = format!("/api/v1/builds/{build}{path}");
        for (who, status) in [(Some(&bob), 404), (None, 401)] {
            let asked = match who {
                Some(token) => service.request_as(token, Method::GET, &path),
                None => nobody(&service, Method::GET, &path),
            };
            let asked = asked.header("accept", accept).header("last-event-id", "0").header("if-none-match", "\"1\"");
            // At once, and not when the wait is over.
            let answer = tokio::time::timeout(Duration::from_secs(20), asked.send()).await.expect("no wait").expect("an answer");
            assert_eq!(answer.status(), status, "{path}");
            assert!(!answer.text().await.expect("text").contains("busybox"));
        }
    }
    for (method, path) in [(Method::POST, "/cancel"), (Method::DELETE, ""), (Method::DELETE, "?remote=true")] {
        let path = format!("/api/v1/builds/{build}{path}");
        assert_eq!(send(service.request_as(&bob, method, &path)).await.0, 404, "{path}");
    }
    let (_, still) = send(service.request_as(&ada, Method::GET, &format!("/api/v1/builds/{build}"))).await;
    assert_eq!((&still["state"], &still["cancel_requested"]), (&"queued".into(), &false.into()), "{still}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_streams_and_waits_are_not_there_with_the_embedded_store() {
    foreign_streams_and_waits_are_not_there(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_streams_and_waits_are_not_there_with_redis() {
    foreign_streams_and_waits_are_not_there(Backend::Redis).await;
}

async fn items(service: &Running, token: &str, path: &str) -> Vec<Value> {
    let (status, page) = send(service.request_as(token, Method::GET, path)).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page["items"].as_array().expect("a list").clone()
}

async fn names_that_begin_alike_do_not_mix(backend: Backend) {
    let service = quiet(backend).await;
    let names = ["bob", "bobby", "bo", "bob.", "bob-1", "bob_", "b"];
    let mut tokens = Vec::new();
    for name in names {
        let token = service.user(name).await;
        queued(&service, &token).await;
        let form = json!({"server": "127.0.0.1:1", "username": name, "password": "p"});
        for registry in ["r", "by", "1"] {
            let put = service.request_as(&token, Method::PUT, &format!("/api/v1/registries/{registry}")).json(&form);
            assert_eq!(send(put).await.0, StatusCode::CREATED, "{name} has a namespace of its own");
        }
        tokens.push((name, token));
    }
    for (name, token) in &tokens {
        let builds = items(&service, token, "/api/v1/builds?limit=200").await;
        assert_eq!(builds.iter().map(|build| build["owner"].as_str()).collect::<Vec<_>>(), [Some(*name)]);
        let registries = items(&service, token, "/api/v1/registries").await;
        assert_eq!(registries.len(), 3);
        assert!(registries.iter().all(|registry| registry["username"] == *name), "{registries:?}");
        assert_eq!(items(&service, token, "/api/v1/tokens").await.len(), 1);
        let asked = items(&service, token, "/api/v1/builds?owner=bobby").await;
        assert_eq!(asked.len(), usize::from(*name == "bobby"), "a filter widens nothing");
        let asked = items(&service, &service.token, &format!("/api/v1/builds?owner={name}")).await;
        assert_eq!(asked.len(), 1, "an admin's filter means the whole name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_begin_alike_do_not_mix_with_the_embedded_store() {
    names_that_begin_alike_do_not_mix(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_begin_alike_do_not_mix_with_redis() {
    names_that_begin_alike_do_not_mix(Backend::Redis).await;
}

/// A stream outlives its first answer, but not the right to it.
async fn streams_end_with_the_right_to_them(backend: Backend) {
    let service = quiet(backend).await;
    let owner = person(&service, &unique("ada"), Role::User).await;
    let keeper = token(&service, &owner, Permissions::of_role(Role::User), None).await;
    let build = queued(&service, &keeper).await;
    for way in ["revoked", "disabled"] {
        let made = service.request_as(&keeper, Method::POST, "/api/v1/tokens").json(&json!({"name": "short"}));
        let made = send(made).await.1;
        let text = made["token"].as_str().expect("a token");
        let follow = service.request_as(text, Method::GET, &format!("/api/v1/builds/{build}/logs?follow=true"));
        let streams = [events(&service, text).await, follow.send().await.expect("an answer")];
        let (status, told) = if way == "revoked" {
            send(service.request_as(&keeper, Method::DELETE, &format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"))))
                .await
        } else {
            send(service.request(Method::PATCH, &format!("/api/v1/users/{owner}")).json(&json!({"disabled": true}))).await
        };
        assert!(status.is_success(), "{told}");
        for stream in streams {
            read_to_end(stream).await;
        }
    }
}

/// Whoever logs out, or whose time is over, reads no more at that moment: long before the right is looked at again without a reason.
async fn streams_end_at_log_out_and_when_the_time_is_over(backend: Backend) {
    let service = quiet(backend).await;
    with_password(&service, "ada", "user").await;
    let by_cookie = async |method, path, cookie: &str| {
        let host = service.url("");
        let request = nobody(&service, method, path).header("cookie", cookie).header("origin", host.trim_end_matches('/'));
        request.send().await.expect("an answer")
    };
    let cookie = log_in(&service, "ada").await;
    let (ends, stays) = (by_cookie(Method::GET, "/api/v1/events", &cookie).await, log_in(&service, "ada").await);
    let mut stays = by_cookie(Method::GET, "/api/v1/events", &stays).await;
    assert_eq!(by_cookie(Method::DELETE, "/api/v1/session", &cookie).await.status(), StatusCode::NO_CONTENT);
    read_to_end(ends).await;

    let (now, life) = (Timestamp::now(), Duration::from_secs(2));
    let owner: Owner = "ada".parse().expect("a name");
    let short = token(&service, &owner, Permissions::of_role(Role::User), Some(now.plus(life))).await;
    let cookie = secrecy::SecretString::from("a-cookie-of-a-session-that-was-begun-long-ago");
    let user = service.store.object::<User>(&Scope::All, Kind::User, "ada").await.expect("the store").expect("ada").body;
    let began = Timestamp::from_millis(now.plus(life).as_millis() - i64::try_from(Session::ABSOLUTE.as_millis()).expect("fits"));
    let old = Session { owner: owner.clone(), epoch: user.epoch, created_at: began, seen_at: now, address: String::new() };
    let write = Write::put(Kind::Session, dockwright::auth::token::hash(&cookie), &owner, Expect::Absent, &old);
    service.store.commit(&[write]).await.expect("a session");
    let cookie = format!("dockwright={}", secrecy::ExposeSecret::expose_secret(&cookie));
    for stream in [events(&service, &short).await, by_cookie(Method::GET, "/api/v1/events", &cookie).await] {
        assert_eq!(stream.status(), StatusCode::OK);
        read_to_end(stream).await;
        assert!(Timestamp::now() >= now.plus(life), "not before its time");
    }
    let his = queued(&service, &service.token_of("ada").await).await;
    read_until(&mut stays, &his).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_at_log_out_and_when_the_time_is_over_with_the_embedded_store() {
    streams_end_at_log_out_and_when_the_time_is_over(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_at_log_out_and_when_the_time_is_over_with_redis() {
    streams_end_at_log_out_and_when_the_time_is_over(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_right_to_them_with_the_embedded_store() {
    streams_end_with_the_right_to_them(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_right_to_them_with_redis() {
    streams_end_with_the_right_to_them(Backend::Redis).await;
}
