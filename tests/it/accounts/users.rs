//! The life of an account: made, changed, disabled, removed with what it owns or without.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::people::{PASSWORD, nobody, person, queued, quiet, send, token, try_log_in, with_password};
use crate::support::service::{Backend, Running};
use crate::support::unique;
use dockwright::domain::{Permissions, Role};

async fn admin(service: &Running, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let sent = service.request(method, path);
    send(if body.is_null() { sent } else { sent.json(&body) }).await
}

fn is(answer: &(StatusCode, Value), status: u16, code: &str) {
    assert_eq!((answer.0.as_u16(), &answer.1["code"]), (status, &code.into()), "{}", answer.1);
}

async fn the_life_of_an_account(backend: Backend) {
    let service = quiet(backend).await;
    with_password(&service, "ada", "user").await;
    is(&admin(&service, Method::POST, "/api/v1/users", json!({"name": "ada"})).await, 409, "user_exists");
    for bad in ["Ada", "", "a b", "../x", ".a", &"a".repeat(65)] {
        is(&admin(&service, Method::POST, "/api/v1/users", json!({"name": bad})).await, 400, "invalid_user");
    }
    for weak in ["short", "password123", "1234567890", "aaaaaaaaaaaa"] {
        let form = json!({"name": "weak", "password": weak});
        is(&admin(&service, Method::POST, "/api/v1/users", form).await, 400, "weak_password");
        is(&admin(&service, Method::PATCH, "/api/v1/users/ada", json!({"password": weak})).await, 400, "weak_password");
    }
    is(&admin(&service, Method::GET, "/api/v1/users/weak", Value::Null).await, 404, "not_found");
    let shown = admin(&service, Method::GET, "/api/v1/users/ada", Value::Null).await.1;
    assert_eq!((&shown["role"], &shown["disabled"], &shown["has_password"]), (&"user".into(), &false.into(), &true.into()));
    assert!(!shown.to_string().contains("argon2"), "{shown}");
    // An unknown field is no wish that may be passed over.
    let odd = admin(&service, Method::PATCH, "/api/v1/users/ada", json!({"roel": "admin"})).await;
    assert_eq!(odd.0, StatusCode::BAD_REQUEST);
    assert_eq!(admin(&service, Method::PATCH, "/api/v1/users/ada", json!({"role": "admin"})).await.1["role"], "admin");
    let me = nobody(&service, Method::GET, "/api/v1/users").basic_auth("ada", Some(PASSWORD));
    assert_eq!(send(me).await.0, StatusCode::OK, "an admin at once");
    assert_eq!(admin(&service, Method::PATCH, "/api/v1/users/ada", json!({"role": "user"})).await.0, StatusCode::OK);
    let me = nobody(&service, Method::GET, "/api/v1/users").basic_auth("ada", Some(PASSWORD));
    assert_eq!(send(me).await.0, StatusCode::FORBIDDEN, "and no longer");
    let pages = admin(&service, Method::GET, "/api/v1/users?limit=1", Value::Null).await.1;
    let next = format!("/api/v1/users?limit=1&cursor={}", pages["next_cursor"].as_str().expect("another page"));
    let second = admin(&service, Method::GET, &next, Value::Null).await.1;
    assert_eq!((&pages["items"][0]["name"], &second["items"][0]["name"]), (&"ada".into(), &"admin".into()));
    assert_eq!(admin(&service, Method::DELETE, "/api/v1/users/ada", Value::Null).await.0, StatusCode::OK);
    is(&admin(&service, Method::DELETE, "/api/v1/users/ada", Value::Null).await, 404, "not_found");
    assert_eq!(try_log_in(&service, "ada", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    // Who comes after has the name, and nothing else of it.
    with_password(&service, "ada", "user").await;
    assert_eq!(try_log_in(&service, "ada", PASSWORD).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_account_with_the_embedded_store() {
    the_life_of_an_account(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_account_with_redis() {
    the_life_of_an_account(Backend::Redis).await;
}

async fn an_admin_is_always_left(backend: Backend) {
    let service = quiet(backend).await;
    for (method, path, body) in [
        (Method::PATCH, "/api/v1/users/admin", json!({"disabled": true})),
        (Method::PATCH, "/api/v1/users/admin", json!({"role": "user"})),
        (Method::DELETE, "/api/v1/users/admin", Value::Null),
        (Method::DELETE, "/api/v1/users/admin?objects=delete", Value::Null),
    ] {
        is(&admin(&service, method, path, body).await, 409, "last_admin");
    }
    assert_eq!(send(service.request(Method::GET, "/api/v1/me")).await.0, StatusCode::OK, "and is as it was");
    // Two that do it to each other at the same moment, over and over: one is left each time.
    for round in 0..10 {
        let name = unique("chief");
        let chief = person(&service, &name, Role::Admin).await;
        let theirs = token(&service, &chief, Permissions::of_role(Role::Admin), None).await;
        let (mine, other) = (format!("/api/v1/users/{name}"), "/api/v1/users/admin");
        let request = |token: &str, path: &str| {
            let change = service.request_as(token, if round % 2 == 0 { Method::PATCH } else { Method::DELETE }, path);
            send(if round % 2 == 0 { change.json(&json!({"role": "user"})) } else { change.query(&[("objects", "delete")]) })
        };
        let (one, two) = tokio::join!(request(&service.token, &mine), request(&theirs, other));
        let refused = [&one, &two].into_iter().filter(|answer| !answer.0.is_success()).count();
        assert!(refused >= 1, "both were done: {one:?} {two:?}");
        let left = if one.0.is_success() { &service.token } else { &theirs };
        let (status, users) = send(service.request_as(left, Method::GET, "/api/v1/users?limit=200")).await;
        assert_eq!(status, StatusCode::OK, "an admin is left: {one:?} {two:?}");
        let admins =
            users["items"].as_array().expect("a list").iter().filter(|user| user["role"] == "admin" && user["disabled"] == false);
        assert!(admins.count() >= 1, "{users}");
        if two.0.is_success() {
            // It is the other one's turn from here: the first is an admin again, with its token.
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_is_always_left_with_the_embedded_store() {
    an_admin_is_always_left(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_is_always_left_with_redis() {
    an_admin_is_always_left(Backend::Redis).await;
}

/// An account with two builds, a registry and a token; its token.
async fn with_belongings(service: &Running, name: &str) -> (String, [String; 2]) {
    let token = service.user(name).await;
    let builds = [queued(service, &token).await, queued(service, &token).await];
    let form = json!({"server": "127.0.0.1:1", "username": "u", "password": "p"});
    let put = service.request_as(&token, Method::PUT, "/api/v1/registries/kept").json(&form);
    assert_eq!(send(put).await.0, StatusCode::CREATED);
    (token, builds)
}

async fn what_an_account_owned_goes_as_was_said(backend: Backend) {
    let service = quiet(backend).await;
    let heir = service.user("heir").await;
    let (gone, builds) = with_belongings(&service, "gone").await;
    let bare = admin(&service, Method::DELETE, "/api/v1/users/gone", Value::Null).await;
    is(&bare, 409, "owns_objects");
    let detail = bare.1["detail"].as_str().expect("text");
    assert!(detail.contains("2 builds") && detail.contains("1 registries"), "{detail}");
    for bad in ["nothing", "transfer:", "transfer:gone", "transfer:stranger", "transfer:No Name"] {
        let refused = service.request(Method::DELETE, "/api/v1/users/gone").query(&[("objects", bad)]);
        is(&send(refused).await, 400, "invalid_query");
    }
    assert_eq!(send(service.request_as(&gone, Method::GET, "/api/v1/me")).await.0, StatusCode::OK, "nothing has happened yet");
    let (status, told) = admin(&service, Method::DELETE, "/api/v1/users/gone?objects=transfer:heir", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!((&told["objects"], &told["builds"], &told["registries"]), (&"transferred".into(), &2.into(), &1.into()), "{told}");
    for build in &builds {
        let (status, build) = send(service.request_as(&heir, Method::GET, &format!("/api/v1/builds/{build}"))).await;
        assert_eq!((status, &build["owner"]), (StatusCode::OK, &"heir".into()), "{build}");
    }
    let (_, list) = send(service.request_as(&heir, Method::GET, "/api/v1/builds")).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "in lists too");
    let check = service.request_as(&heir, Method::POST, "/api/v1/registries/kept/check");
    assert_eq!(send(check).await.0, StatusCode::OK, "sealed for its new owner");
    assert_eq!(send(service.request_as(&gone, Method::GET, "/api/v1/me")).await.0, StatusCode::UNAUTHORIZED);

    let (gone, builds) = with_belongings(&service, "gone").await;
    let (status, told) = admin(&service, Method::DELETE, "/api/v1/users/gone?objects=delete", Value::Null).await;
    assert_eq!((status, &told["builds"], &told["registries"]), (StatusCode::OK, &2.into(), &1.into()), "{told}");
    for build in &builds {
        is(&admin(&service, Method::GET, &format!("/api/v1/builds/{build}"), Value::Null).await, 404, "not_found");
    }
    assert_eq!(send(service.request_as(&gone, Method::GET, "/api/v1/me")).await.0, StatusCode::UNAUTHORIZED);
    // The same name later owns none of it.
    let again = service.user("gone").await;
    for list in ["builds", "registries"] {
        assert_eq!(send(service.request_as(&again, Method::GET, &format!("/api/v1/{list}"))).await.1["items"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_owned_goes_as_was_said_with_the_embedded_store() {
    what_an_account_owned_goes_as_was_said(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_owned_goes_as_was_said_with_redis() {
    what_an_account_owned_goes_as_was_said(Backend::Redis).await;
}
