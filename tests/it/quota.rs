//! Quotas as a client meets them: named, with their value and their use.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::one_worker_behind_a_gate;
use crate::support::service::{self, Backend, Running, context, dockerfile, tar};
use crate::support::unique;

/// An account with a quota, made as an admin makes it; answers a token of it.
async fn account(service: &Running, name: &str, quota: Value) -> String {
    let made = service.request(Method::POST, "/api/v1/users").json(&json!({"name": name, "quota": quota})).send().await;
    assert_eq!(made.expect("an answer").status(), StatusCode::CREATED);
    service.token_of(name).await
}

async fn submit(service: &Running, token: &str, form: reqwest::multipart::Form) -> (StatusCode, Option<String>, Value) {
    let form = form.text("push", "false");
    let answer = service.request_as(token, Method::POST, "/api/v1/builds").multipart(form).send().await.expect("an answer");
    let retry = answer.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
    (answer.status(), retry, answer.json().await.expect("JSON"))
}

async fn refusals_name_the_quota(backend: Backend) {
    let service = service::start_with(backend, |s| s.engine = Some("unix:///nowhere.sock".into())).await;
    let queued = account(&service, "queued", json!({"builds_queued": 1})).await;
    assert_eq!(submit(&service, &queued, dockerfile("FROM busybox")).await.0, StatusCode::ACCEPTED);
    let (status, retry, problem) = submit(&service, &queued, dockerfile("FROM busybox")).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("quota_exceeded")), "{problem}");
    assert!(retry.is_some());
    assert_eq!(problem["detail"], "quota builds_queued: the limit is 1, and 1 are used");

    let often = account(&service, "often", json!({"uploads_per_minute": 2})).await;
    for _ in 0..2 {
        assert_eq!(submit(&service, &often, dockerfile("FROM busybox")).await.0, StatusCode::ACCEPTED);
    }
    let (status, retry, problem) = submit(&service, &often, dockerfile("FROM busybox")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(retry.is_some_and(|seconds| (1..=60).contains(&seconds.parse::<u64>().expect("seconds"))));
    assert_eq!(problem["detail"], "quota uploads_per_minute: the limit is 2, and 2 are used");

    let small = account(&service, "small", json!({"context_bytes": 1000})).await;
    let large = tar(&[("Dockerfile", "FROM busybox"), ("large", &"x".repeat(5000))]);
    let (status, _, problem) = submit(&service, &small, context(large)).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("quota_exceeded")));
    assert!(
        problem["detail"].as_str().is_some_and(|told| told.starts_with("quota context_bytes: the limit is 1000")),
        "{problem}"
    );

    let stored = account(&service, "stored", json!({"stored_bytes": 20})).await;
    assert_eq!(submit(&service, &stored, dockerfile("FROM busybox")).await.0, StatusCode::ACCEPTED);
    let (status, _, problem) = submit(&service, &stored, dockerfile("FROM busybox")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem["detail"], "quota stored_bytes: the limit is 20, and 12 are used");

    let short = account(&service, "short", json!({"build_seconds": 60})).await;
    assert_eq!(submit(&service, &short, dockerfile("FROM busybox")).await.0, StatusCode::ACCEPTED, "it gets what it may have");
    let (status, _, problem) = submit(&service, &short, dockerfile("FROM busybox").text("timeout", "2m")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(problem["detail"], "quota build_seconds: the limit is 60, and 120 are used");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_quota_on_sqlite() {
    refusals_name_the_quota(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_quota_on_redis() {
    refusals_name_the_quota(Backend::Redis).await;
}

/// All quotas of builds, and what is used of those that are used up: the others bound each upload or build by itself.
async fn an_account_sees_its_quota_and_its_use(backend: Backend) {
    let (gate, service) = one_worker_behind_a_gate(backend).await;
    let quota = json!({"builds_running": 1, "builds_queued": 5, "uploads_per_minute": 9, "context_bytes": 1000,
        "stored_bytes": 2000, "build_seconds": 60});
    let token = account(&service, "ada", quota.clone()).await;
    for _ in 0..3 {
        assert_eq!(submit(&service, &token, dockerfile("FROM busybox")).await.0, StatusCode::ACCEPTED);
    }
    gate.reached().await;
    let me: Value =
        service.request_as(&token, Method::GET, "/api/v1/me").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&me["name"], &me["quota"]), (&json!("ada"), &quota));
    let usage = json!({"builds_running": 1, "builds_queued": 2, "builds": 3, "stored_bytes": 36, "uploads_this_minute": 3});
    for (field, used) in usage.as_object().expect("an object") {
        assert_eq!(&me["usage"][field], used, "{field}");
    }
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_sees_its_quota_and_its_use_on_sqlite() {
    an_account_sees_its_quota_and_its_use(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_sees_its_quota_and_its_use_on_redis() {
    an_account_sees_its_quota_and_its_use(Backend::Redis).await;
}

/// One floods; the other's single build is the next to start.
async fn a_flood_does_not_delay_others(backend: Backend) {
    let service = service::start_with(backend, |s| s.workers = Some(1)).await;
    let (flood, single) = (service.user("flood").await, service.user("single").await);
    // The one worker is held until all are there.
    let slow = format!("FROM busybox\nRUN echo {} && sleep 300\n", unique("slow"));
    let (_, _, first) = submit(&service, &flood, dockerfile(&slow)).await;
    service.until(&first, |build| build["state"] == "building").await;
    let mut waiting = Vec::new();
    for index in 0..200 {
        let (status, _, build) = submit(&service, &flood, dockerfile(&format!("FROM busybox\nLABEL n={index}\n"))).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        waiting.push(build);
    }
    let (_, _, other) = submit(&service, &single, dockerfile("FROM busybox\nLABEL n=other\n")).await;
    service.cancel(&first).await;
    let other = service.until(&other, |build| build["state"] == "built").await;
    let mut before = 0;
    for build in &waiting {
        let now = service.get(&format!("/api/v1/builds/{}", service::id(build))).await;
        before += usize::from(now["started_at"].as_str().is_some_and(|at| Some(at) < other["started_at"].as_str()));
    }
    assert_eq!(before, 0, "the single build is the next one to start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_delay_others_on_sqlite() {
    a_flood_does_not_delay_others(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_delay_others_on_redis() {
    a_flood_does_not_delay_others(Backend::Redis).await;
}
