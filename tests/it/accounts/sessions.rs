//! Sessions and tokens end when they are to: at once here, and soon in other processes of the same store.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::people::{PASSWORD, log_in, nobody, quiet, send, try_log_in, with_password};
use crate::support::service::{self, Backend, Running};
use crate::support::unique;
use crate::support::watch::seen_within;

/// What a caller has in hand.
enum Proof<'a> {
    Cookie(&'a str),
    Token(&'a str),
    Password(&'a str, &'a str),
}

async fn me(service: &Running, proof: &Proof<'_>) -> u16 {
    let asked = nobody(service, Method::GET, "/api/v1/me");
    let asked = match proof {
        Proof::Cookie(cookie) => asked.header("cookie", *cookie),
        Proof::Token(token) => asked.bearer_auth(token),
        Proof::Password(name, password) => asked.basic_auth(name, Some(password)),
    };
    asked.send().await.expect("an answer").status().as_u16()
}

/// Until it is refused there; how long that took.
async fn refused_soon(service: &Running, proof: &Proof<'_>) -> Duration {
    let began = Instant::now();
    let refused = async || (me(service, proof).await == 401).then_some(());
    seen_within(Duration::from_secs(3), "it is let in no more", refused).await;
    began.elapsed()
}

async fn make_token(service: &Running, cookie: &str) -> (String, String) {
    let made = nobody(service, Method::POST, "/api/v1/tokens").header("cookie", cookie).header("origin", service.url(""));
    let (status, made) = send(made.json(&json!({"name": "ci"}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    (made["id"].as_str().expect("an id").to_owned(), made["token"].as_str().expect("a token").to_owned())
}

/// A change with a session, as its own page sends it.
async fn change(service: &Running, cookie: &str, method: Method, path: &str, body: serde_json::Value) -> StatusCode {
    let sent = nobody(service, method, path).header("cookie", cookie).header("origin", service.url(""));
    send(sent.json(&body)).await.0
}

/// `here` is where things are ended, `there` another process, or the same one.
async fn what_is_ended_is_refused(here: &Running, there: &Running) {
    with_password(here, "ada", "user").await;
    let cookie = log_in(here, "ada").await;
    assert_eq!(me(there, &Proof::Cookie(&cookie)).await, 200);
    assert_eq!(change(here, &cookie, Method::DELETE, "/api/v1/session", json!(null)).await, StatusCode::NO_CONTENT);
    assert_eq!(me(here, &Proof::Cookie(&cookie)).await, 401, "logged out");
    refused_soon(there, &Proof::Cookie(&cookie)).await;

    // Two sessions, a token and the password; then another password.
    let (one, two) = (log_in(here, "ada").await, log_in(there, "ada").await);
    let (id, token) = make_token(here, &one).await;
    let (cookies, word) = ([Proof::Cookie(&one), Proof::Cookie(&two)], Proof::Password("ada", PASSWORD));
    for proof in cookies.iter().chain([&word, &Proof::Token(&token)]) {
        assert_eq!((me(here, proof).await, me(there, proof).await), (200, 200));
    }
    let other = "another horse with a longer battery";
    let form = |old: &str| json!({"old_password": old, "new_password": other});
    assert_eq!(change(here, &one, Method::PUT, "/api/v1/me/password", form("not the old one")).await, StatusCode::BAD_REQUEST);
    assert_eq!(me(here, &cookies[0]).await, 200, "nothing was changed");
    assert_eq!(change(here, &one, Method::PUT, "/api/v1/me/password", form(PASSWORD)).await, StatusCode::NO_CONTENT);
    for proof in cookies.iter().chain([&word]) {
        assert_eq!(me(here, proof).await, 401, "at once");
        refused_soon(there, proof).await;
    }
    assert_eq!(me(here, &Proof::Password("ada", other)).await, 200);
    assert_eq!(me(here, &Proof::Token(&token)).await, 200, "tokens are not the password's");

    // A token is revoked, and the account disabled.
    assert_eq!(me(there, &Proof::Token(&token)).await, 200);
    let revoke = here.request_as(&token, Method::DELETE, &format!("/api/v1/tokens/{id}"));
    assert_eq!(send(revoke).await.0, StatusCode::NO_CONTENT);
    assert_eq!(me(here, &Proof::Token(&token)).await, 401, "at once");
    refused_soon(there, &Proof::Token(&token)).await;
    disabled_and_back(here, there, other).await;
}

async fn disabled_and_back(here: &Running, there: &Running, password: &str) {
    let cookie = try_log_in(here, "ada", password).await.headers()["set-cookie"].to_str().expect("text").to_owned();
    let cookie = cookie.split(';').next().expect("a cookie");
    let (_, token) = make_token(here, cookie).await;
    let proofs = [Proof::Cookie(cookie), Proof::Token(&token), Proof::Password("ada", password)];
    for proof in &proofs {
        assert_eq!((me(here, proof).await, me(there, proof).await), (200, 200));
    }
    let disable = |yes: bool| here.request(Method::PATCH, "/api/v1/users/ada").json(&json!({"disabled": yes}));
    assert_eq!(send(disable(true)).await.0, StatusCode::OK);
    for proof in &proofs {
        assert_eq!(me(here, proof).await, 401, "at once");
        refused_soon(there, proof).await;
    }
    assert_eq!(try_log_in(here, "ada", password).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(disable(false)).await.0, StatusCode::OK);
    assert_eq!(me(here, &proofs[0]).await, 401, "an old session does not come back");
    assert_eq!(me(here, &proofs[1]).await, 200, "its tokens do");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_is_refused_with_the_embedded_store() {
    let service = quiet(Backend::Sqlite).await;
    what_is_ended_is_refused(&service, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_is_refused_with_redis() {
    let service = quiet(Backend::Redis).await;
    what_is_ended_is_refused(&service, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_is_refused_in_another_process() {
    let (one, two) = two_processes().await;
    what_is_ended_is_refused(&one, &two).await;
}

/// Two services with nothing in common but the store and the data folder.
async fn two_processes() -> (Running, Running) {
    let first = quiet(Backend::Redis).await;
    let second = service::start_on(first.config.clone()).await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_with_the_right_password_are_let_in() {
    let service = quiet(Backend::Sqlite).await;
    let name = unique("ci");
    with_password(&service, &name, "user").await;
    // One client: making forty takes so long that they would come one after the other.
    let (client, url) = (crate::support::http(), service.url("/api/v1/me"));
    let asked = (0..40).map(|_| client.get(&url).basic_auth(&name, Some(PASSWORD)).send());
    let answers = futures::future::join_all(asked).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.expect("an answer").status().as_u16()).collect();
    assert_eq!(statuses, vec![200; 40], "who knows the password is not locked out by being quick");
}
