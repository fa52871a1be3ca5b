//! What becomes of a build beside its steps: destinations, repetition, the order of tags, and the queue.

mod destinations;
mod echoes;
mod fetched;
mod lost_turns;
mod moving;
mod retry;
mod same;
mod supersede;
mod waiting;

/// Runs tests on both stores.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Backend::Sqlite).await })* }
        mod redis { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Backend::Redis).await })* }
    };
}
pub(crate) use on_both_stores;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::Running;

/// Keeps credentials under a name.
async fn keep_registry(service: &Running, name: &str, (server, user, password): (&str, &str, &str)) {
    let form = json!({"server": server, "username": user, "password": password});
    let put = service.request(Method::PUT, &format!("/api/v1/registries/{name}")).json(&form).send().await;
    assert!(put.expect("an answer").status().is_success());
}

/// A build as it is now.
async fn now(service: &Running, id: &str) -> Value {
    service.get(&format!("/api/v1/builds/{id}")).await
}
