//! What is wrong with a body is told all at once, each fault by its field.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::Backend;

async fn told(harbor: &Harbor, token: &str, method: Method, path: &str, body: Value, expected: &[&str]) {
    let (status, told) = harbor.call(token, method, path, body.clone()).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &"invalid_spec".into()), "{path} {body}: {told}");
    let mut fields: Vec<&str> = told["errors"].as_array().expect("a list").iter().map(|error| word(&error["field"])).collect();
    fields.sort_unstable();
    assert_eq!(fields, expected, "{path} {body}: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_together() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    harbor.app(&ada, "kept", json!({})).await;
    let nowhere = "0193a3f0-0000-7000-8000-000000000000";
    let (post, patch) = (Method::POST, Method::PATCH);
    for (method, path, body, fields) in [
        (
            &post,
            "/api/v1/apps",
            json!({"name": "X_", "image": "busybox", "memory": "1k", "privileged": true}),
            &["memory", "name", "privileged"][..],
        ),
        (&post, "/api/v1/apps", json!({"build": nowhere, "memory": "1k"}), &["build", "memory", "name"]),
        (&post, "/api/v1/apps", json!({"name": 7, "build": nowhere}), &["build", "name"]),
        (&patch, "/api/v1/apps/kept", json!({"name": "X_", "memory": "1k", "build": nowhere}), &["build", "memory", "name"]),
        (&post, "/api/v1/containers", json!({"build": nowhere, "memory": "1k", "registry": 7}), &["build", "memory", "registry"]),
    ] {
        told(&harbor, &ada, method.clone(), path, body, fields).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_are_read_by_field() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    harbor.app(&ada, "kept", json!({})).await;
    for (path, body, fields) in [
        ("/api/v1/volumes", json!({"name": "X_", "driver": "local"}), &["driver", "name"][..]),
        ("/api/v1/volumes", json!({}), &["name"]),
        ("/api/v1/volumes", json!({"name": 7}), &["name"]),
        ("/api/v1/networks", json!({"name": "X_", "internal": true}), &["internal", "name"]),
        ("/api/v1/apps/kept/runs", json!({"registry": 7, "spec": {}}), &["registry", "spec"]),
        ("/api/v1/images/pull", json!({"image": "Upper/Case", "registry": [], "all": true}), &["all", "image", "registry"]),
        ("/api/v1/images/push", json!({"tag": "x"}), &["image", "tag"]),
        ("/api/v1/images/tag", json!({"image": "Upper/Case", "tag": "also:Bad:tag"}), &["image", "tag"]),
    ] {
        told(&harbor, &ada, Method::POST, path, body, fields).await;
    }
    // What is no object at all is a fault of the body.
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/volumes", json!(["one"])).await;
    assert_eq!(
        (status, &told["code"], &told["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &"invalid_json".into(), &"body".into())
    );
}
