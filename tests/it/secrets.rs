//! Build secrets, ssh agents and caches: they reach the steps of their own build, and nobody else's.

mod agents;
mod caches;
mod canary;
mod digests;
mod mounts;

use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::support::service::Running;

/// An upload with a secret of any bytes.
fn secret(form: Form, id: &str, value: impl Into<Vec<u8>>) -> Form {
    form.part(format!("secret.{id}"), Part::bytes(value.into()))
}

/// Builds without publishing; the build as it ended well.
async fn built(service: &Running, token: &str, form: Form) -> Value {
    let build = service.submit_as(token, form.text("push", "false")).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}\n{}", service.log(&build).await);
    ended
}

/// What a file in a build's image holds.
fn file_in(build: &Value, path: &str) -> String {
    crate::support::service::docker(&[
        "run",
        "--rm",
        "--network=none",
        build["image_id"].as_str().expect("an image"),
        "cat",
        path,
    ])
}
