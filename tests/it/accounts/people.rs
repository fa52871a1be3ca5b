//! Accounts for a test, and what they send.

use std::time::Duration;

use dockwright::auth::{NewToken, issue_token};
use dockwright::domain::{Owner, Permission, Permissions, Quota, Role, Timestamp, User};
use dockwright::store::objects::{Expect, Kind, Write};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::service::{Backend, Running, dockerfile, id, start_with};

/// Strong enough for everybody here.
pub const PASSWORD: &str = "correct horse battery staple";

/// A service whose engine is away: what it accepts stays queued, and no test waits for a build. Its webhooks may go to 127.0.0.8.
pub async fn quiet(backend: Backend) -> Running {
    start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        // Where nobody listens.
        settings.allow_egress = Some(vec!["127.0.0.8".parse().expect("an address")]);
    })
    .await
}

/// An account without a password, made in the store itself; its name.
pub async fn person(service: &Running, name: &str, role: Role) -> Owner {
    let owner: Owner = name.parse().expect("a valid name");
    let user = User::new(owner.clone(), role, None, Quota::default());
    service.store.commit(&[Write::put(Kind::User, name, &owner, Expect::Anything, &user)]).await.expect("an account");
    owner
}

/// A token of an account, with these scopes; `life` from now, or one that is over already.
pub async fn token(service: &Running, owner: &Owner, scopes: Permissions, expires_at: Option<Timestamp>) -> String {
    let new = NewToken { name: "test".into(), scopes, images: Vec::new(), expires_at };
    issue_token(&service.store, owner, &new).await.expect("a token").1.expose_secret().to_owned()
}

/// A moment that has passed.
pub fn past() -> Option<Timestamp> {
    Some(Timestamp::from_millis(Timestamp::now().as_millis() - 1000))
}

/// All scopes of a role but one.
pub fn without(role: Role, missing: Permission) -> Permissions {
    Permissions::of_role(role).iter().filter(|scope| *scope != missing).collect()
}

/// An account with a password, made by the admin.
pub async fn with_password(service: &Running, name: &str, role: &str) {
    let form = json!({"name": name, "password": PASSWORD, "role": role});
    let (status, told) = send(service.request(Method::POST, "/api/v1/users").json(&form)).await;
    assert_eq!(status, StatusCode::CREATED, "{told}");
}

/// Status and JSON of an answer; null when it has no body.
pub async fn send(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.expect("text");
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

/// A client that shows nothing of who it is.
pub fn nobody(service: &Running, method: Method, path: &str) -> RequestBuilder {
    crate::support::http().request(method, service.url(path)).timeout(Duration::from_secs(60))
}

pub async fn try_log_in(service: &Running, name: &str, password: &str) -> Response {
    let form = json!({"name": name, "password": password});
    nobody(service, Method::POST, "/api/v1/session").json(&form).send().await.expect("an answer")
}

/// Logs in; the cookie as a browser sends it.
pub async fn log_in(service: &Running, name: &str) -> String {
    let answer = try_log_in(service, name, PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
    let cookie = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().expect("a cookie").to_owned()
}

/// A build that is queued for ever; its id.
pub async fn queued(service: &Running, token: &str) -> String {
    let form = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app");
    id(&service.submit_as(token, form).await).to_owned()
}

/// A service whose only worker is held at its first build, until the gate opens.
pub async fn one_worker_behind_a_gate(backend: Backend) -> (Gate, Running) {
    let gate = Gate::engine("/build?", 0).await;
    let service = start_with(backend, |settings| {
        settings.engine = Some(format!("tcp://{}", gate.address));
        settings.workers = Some(1);
    })
    .await;
    (gate, service)
}
