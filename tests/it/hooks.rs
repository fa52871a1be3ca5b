//! Webhooks: what has ended is told, to whom it should be, and by nobody else.

mod bounds;
mod kills;
pub mod receiver;
mod superseded;
mod tells;

use dockwright::config::{Config, Settings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::send;
use crate::support::service::{Backend, Running, start_with};
use crate::support::watch;

/// Lets webhooks go to this machine, and tries again soon.
pub fn open(settings: &mut Settings) {
    settings.allow_egress = Some(vec!["127.0.0.1".parse().expect("an address")]);
    settings.webhook_retry = Some("50ms".parse().expect("a span"));
}

/// A service without an engine: what it accepts stays queued, and ends by a cancel.
pub async fn idle(backend: Backend) -> Running {
    start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        open(settings);
    })
    .await
}

/// Stops a service and lets its store go; the folder, and the settings to start it again with.
pub async fn stopped(service: Running) -> (Option<tempfile::TempDir>, Config) {
    let config = service.config.clone();
    let folder = service.stop().await;
    let file = dockwright::wiring::database(&config);
    watch("the store is free", || !dockwright::store::sqlite::in_use(&file)).await;
    (folder, config)
}

/// Makes a webhook that must be accepted.
pub async fn make(service: &Running, token: &str, form: Value) -> Value {
    let (status, made) = send(service.request_as(token, Method::POST, "/api/v1/webhooks").json(&form)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made
}

pub fn path(webhook: &Value) -> String {
    format!("/api/v1/webhooks/{}", webhook["id"].as_str().expect("an id"))
}

/// A webhook's deliveries as soon as they satisfy `wanted`, newest first.
pub async fn deliveries(service: &Running, webhook: &Value, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    let mut last = Vec::new();
    for _ in 0..1500 {
        look.tick().await;
        last = service.get(&format!("{}/deliveries", path(webhook))).await["items"].as_array().expect("a list").clone();
        if wanted(&last) {
            return last;
        }
    }
    panic!("never so: {}", json!(last))
}
