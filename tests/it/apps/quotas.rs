//! What an account may hold at most, and what it is told beyond that.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, id};

async fn limited(harbor: &Harbor, name: &str, quota: Value) -> String {
    harbor.done(&harbor.token, Method::POST, "/api/v1/users", json!({"name": name, "quota": quota})).await;
    harbor.token_of(name).await
}

/// A sleeper without a network.
fn sleeper(more: Value) -> Value {
    let mut fields = json!({"image": "busybox", "command": ["sleep", "600"], "network": "none", "memory": "32m", "cpus": "0.1"});
    fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    fields
}

/// Beyond a quota it is 429, which names the quota, its limit and its use.
async fn refused(harbor: &Harbor, token: &str, path: &str, body: Value, told: &str) {
    let answer = harbor.request_as(token, Method::POST, path).json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path} {body}");
    assert!(answer.headers().contains_key("retry-after"));
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!((word(&problem["code"]), word(&problem["detail"])), ("quota_exceeded", told));
}

async fn quotas_hold(backend: Backend) {
    let harbor = harbor(backend).await;
    let path = "/api/v1/containers";
    let ada = limited(&harbor, "ada", json!({"containers": 1})).await;
    let run = harbor.run(&ada, sleeper(json!({}))).await;
    refused(&harbor, &ada, path, sleeper(json!({})), "quota containers: the limit is 1, and 1 are used").await;
    harbor.app(&ada, "one", sleeper(json!({}))).await;
    refused(&harbor, &ada, "/api/v1/apps/one/runs", json!({}), "quota containers: the limit is 1, and 1 are used").await;
    harbor.runs(&ada, &run).await;
    let me = harbor.read(&ada, "/api/v1/me").await;
    assert_eq!((&me["quota"]["containers"], &me["usage"]["containers"]), (&1.into(), &1.into()), "{me}");
    assert_eq!((&me["usage"]["memory_bytes"], &me["usage"]["milli_cpus"]), (&(32 << 20).into(), &100.into()), "{me}");
    let user = harbor.read(&harbor.token, "/api/v1/users/ada").await;
    assert_eq!(user["usage"]["containers"], 1, "{user}");
    // What has ended is a container as long as it is there, but takes no memory.
    harbor.done(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    let usage = harbor.read(&ada, "/api/v1/me").await["usage"].clone();
    assert_eq!((&usage["containers"], &usage["memory_bytes"]), (&1.into(), &0.into()), "{usage}");
    refused(&harbor, &ada, path, sleeper(json!({})), "quota containers: the limit is 1, and 1 are used").await;
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await;
    assert_eq!(harbor.read(&ada, "/api/v1/me").await["usage"]["containers"], 0);

    let bob = limited(&harbor, "bob", json!({"memory_bytes": 64 << 20, "milli_cpus": 250, "ports": 1, "volumes": 1})).await;
    let run = harbor.run(&bob, sleeper(json!({"memory": "48m"}))).await;
    harbor.runs(&bob, &run).await;
    refused(&harbor, &bob, path, sleeper(json!({})), "quota memory_bytes: the limit is 67108864, and 50331648 are used").await;
    refused(
        &harbor,
        &bob,
        path,
        sleeper(json!({"memory": "6m", "cpus": "0.2"})),
        "quota milli_cpus: the limit is 250, and 100 are used",
    )
    .await;
    let ports = sleeper(json!({"memory": "6m", "network": "default", "ports": [80, 81]}));
    refused(&harbor, &bob, path, ports, "quota ports: the limit is 1, and 0 are used").await;
    harbor.done(&bob, Method::POST, "/api/v1/volumes", json!({"name": "one"})).await;
    refused(&harbor, &bob, "/api/v1/volumes", json!({"name": "two"}), "quota volumes: the limit is 1, and 1 are used").await;
    // A start is as a new run.
    harbor.done(&bob, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    let second = harbor.run(&bob, sleeper(json!({}))).await;
    harbor.runs(&bob, &second).await;
    let start = format!("/api/v1/containers/{}/start", id(&run));
    refused(&harbor, &bob, &start, json!({}), "quota memory_bytes: the limit is 67108864, and 33554432 are used").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_containers_hold_with_the_embedded_store() {
    quotas_hold(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_containers_hold_with_redis() {
    quotas_hold(Backend::Redis).await;
}

/// A container whose volumes would be too many does not get them another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_volumes_holds_for_those_that_containers_name() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = limited(&harbor, "ada", json!({"volumes": 1})).await;
    let volumes =
        |names: &[&str]| json!(names.iter().map(|name| json!({"volume": name, "path": format!("/{name}")})).collect::<Vec<_>>());
    refused(
        &harbor,
        &ada,
        "/api/v1/containers",
        sleeper(json!({"volumes": volumes(&["a", "b"])})),
        "quota volumes: the limit is 1, and 0 are used",
    )
    .await;
    let run = harbor.run(&ada, sleeper(json!({"volumes": volumes(&["a"])}))).await;
    harbor.runs(&ada, &run).await;
    refused(
        &harbor,
        &ada,
        "/api/v1/containers",
        sleeper(json!({"volumes": volumes(&["b"])})),
        "quota volumes: the limit is 1, and 1 are used",
    )
    .await;
    let again = harbor.run(&ada, sleeper(json!({"volumes": volumes(&["a"])}))).await;
    harbor.runs(&ada, &again).await;
}

/// A hundred at once get no more than one may have.
#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_against_a_crowd() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = limited(&harbor, "ada", json!({"containers": 2})).await;
    let body = sleeper(json!({}));
    let sent = (0..30).map(|_| harbor.call(&ada, Method::POST, "/api/v1/containers", body.clone()));
    let answers = futures::future::join_all(sent).await;
    let accepted = answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count();
    assert_eq!(accepted, 2, "{answers:?}");
}

async fn a_quota_of_volumes_holds_against_a_crowd(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = limited(&harbor, "ada", json!({"volumes": 2})).await;
    // Their volumes are made later, and count from now on.
    let named = |n: usize| sleeper(json!({"volumes": [{"volume": format!("named-{n}"), "path": "/data"}]}));
    let runs = (0..6).map(|n| harbor.call(&ada, Method::POST, "/api/v1/containers", named(n)));
    let runs = futures::future::join_all(runs).await;
    let accepted: Vec<&Value> = runs.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).map(|(_, run)| run).collect();
    assert_eq!(accepted.len(), 2, "{runs:?}");
    harbor.runs(&ada, accepted[0]).await;
    harbor.runs(&ada, accepted[1]).await;
    for run in accepted {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    for volume in harbor.read(&ada, "/api/v1/volumes").await["items"].as_array().expect("a list") {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/volumes/{}", word(&volume["name"])), Value::Null).await;
    }
    harbor.done(&ada, Method::POST, "/api/v1/volumes", json!({"name": "first"})).await;
    let made = (0..8).map(|n| harbor.call(&ada, Method::POST, "/api/v1/volumes", json!({"name": format!("made-{n}")})));
    let made = futures::future::join_all(made).await;
    assert_eq!(made.iter().filter(|(status, _)| status.is_success()).count(), 1, "{made:?}");
    let there = harbor.read(&ada, "/api/v1/volumes").await["items"].as_array().expect("a list").clone();
    assert_eq!(there.len(), 2, "{there:?}");
    // What is removed is given back.
    harbor.done(&ada, Method::DELETE, "/api/v1/volumes/first", Value::Null).await;
    harbor.done(&ada, Method::POST, "/api/v1/volumes", json!({"name": "last"})).await;
    let usage = harbor.read(&ada, "/api/v1/me").await["usage"].clone();
    assert_eq!(usage["volumes"], 2, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_volumes_holds_against_a_crowd_with_the_embedded_store() {
    a_quota_of_volumes_holds_against_a_crowd(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_volumes_holds_against_a_crowd_with_redis() {
    a_quota_of_volumes_holds_against_a_crowd(Backend::Redis).await;
}

async fn a_quota_of_networks_holds(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = limited(&harbor, "ada", json!({"networks": 2})).await;
    let made = (0..6).map(|n| harbor.call(&ada, Method::POST, "/api/v1/networks", json!({"name": format!("own-{n}")})));
    let made = futures::future::join_all(made).await;
    assert_eq!(made.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 2, "{made:?}");
    refused(&harbor, &ada, "/api/v1/networks", json!({"name": "more"}), "quota networks: the limit is 2, and 2 are used").await;
    // Everybody's own comes on top.
    let run = harbor.run(&ada, json!({"command": ["true"]})).await;
    assert_eq!(harbor.over(&ada, &run).await["state"], "exited");
    let me = harbor.read(&ada, "/api/v1/me").await;
    assert_eq!((&me["quota"]["networks"], &me["usage"]["networks"]), (&2.into(), &2.into()), "{me}");
    let one = harbor.read(&ada, "/api/v1/networks").await["items"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["name"] != "default")
        .cloned();
    let name = word(&one.expect("one of them")["name"]).to_owned();
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/networks/{name}"), Value::Null).await;
    harbor.done(&ada, Method::POST, "/api/v1/networks", json!({"name": "more"})).await;
    // Who has no quota said has the service's own.
    let bob = harbor.user("bob").await;
    for n in 0..4 {
        harbor.done(&bob, Method::POST, "/api/v1/networks", json!({"name": format!("own-{n}")})).await;
    }
    refused(&harbor, &bob, "/api/v1/networks", json!({"name": "more"}), "quota networks: the limit is 4, and 4 are used").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_networks_holds_with_the_embedded_store() {
    a_quota_of_networks_holds(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_networks_holds_with_redis() {
    a_quota_of_networks_holds(Backend::Redis).await;
}
