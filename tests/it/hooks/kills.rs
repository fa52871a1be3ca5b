//! What has ended is told, also when nobody lived to tell it.

use dockwright::domain::{BuildId, BuildRecord, Scope};
use dockwright::store::{Guard, StoreError};
use reqwest::Method;
use serde_json::{Value, json};

use super::receiver::{Receiver, answer};
use super::{idle, make, stopped};
use crate::accounts::people::queued;
use crate::pipeline::on_both_stores;
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::service::{Backend, dockerfile, start_on};
use crate::support::{redis_url, unique};

on_both_stores!(a_killed_process_tells_again_under_the_same_id,);

/// The process is gone between the end of a build and its first delivery.
async fn told_at_the_next_start(backend: Backend) {
    let service = idle(backend).await;
    let receiver = Receiver::willing().await;
    make(&service, &service.token, json!({"url": receiver.url()})).await;
    let ids = [queued(&service, &service.token).await, queued(&service, &service.token).await];
    let (_folder, config) = stopped(service).await;
    let store = dockwright::wiring::open_store(&config).await.expect("opens");
    for id in &ids {
        let id: BuildId = id.parse().expect("an id");
        let rule = |record: &mut BuildRecord, now, _| record.cancelled(&[], now).map_err(|e| StoreError::Refused(e.to_string()));
        store.update(id, &Guard::Scope(Scope::All), rule).await.expect("ends");
        if id.to_string() == ids[1] {
            store.delete(&Scope::All, id).await.expect("deleted").expect("was there");
        }
    }
    drop(store);
    assert_eq!(receiver.heard().len(), 0);
    let service = start_on(config).await;
    let mut told: Vec<String> =
        receiver.hears(2).await.iter().map(|heard| heard.json()["build"]["id"].as_str().expect("an id").to_owned()).collect();
    told.sort();
    assert_eq!(told, ids, "also the one that is deleted");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_nobody_could_tell_is_told_at_the_next_start_with_the_embedded_store() {
    told_at_the_next_start(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_nobody_could_tell_is_told_at_the_next_start_with_redis() {
    told_at_the_next_start(Backend::Redis).await;
}

/// SIGKILL while a receiver has the request and has not answered: it is told again, under the same id.
async fn a_killed_process_tells_again_under_the_same_id(backend: Backend) {
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|number, _| (number > 1).then(|| answer("200 OK", ""))).await;
    let store = match backend {
        Backend::Sqlite => Vec::new(),
        Backend::Redis => vec![("DOCKWRIGHT_STORE", redis_url()), ("DOCKWRIGHT_STORE_PREFIX", unique("kills"))],
    };
    let store: Vec<(&str, &str)> = store.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let serve = || {
        let args = ["serve", "--listen", "127.0.0.1:0", "--engine", "unix:///nonexistent/engine", "--allow-egress", "127.0.0.1"];
        Process::start_with(&args, data.path(), &store)
    };
    let mut process = serve();
    let address = process.address();
    let client = Client::new(&address, data.path());
    let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token");
    let made = crate::support::http()
        .request(Method::POST, format!("http://{address}/api/v1/webhooks"))
        .bearer_auth(token.trim())
        .json(&json!({"url": receiver.url()}));
    let webhook: Value = made.send().await.expect("an answer").json().await.expect("JSON");
    let secret = webhook["secret"].as_str().unwrap_or_else(|| panic!("made: {webhook}"));
    let build = client.submit(dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app")).await;
    client.request(Method::POST, &format!("/{build}/cancel")).send().await.expect("an answer");
    let first = receiver.hears(1).await.remove(0);
    process.kill();
    let mut process = serve();
    process.address();
    let second = receiver.hears(2).await.remove(1);
    assert_eq!((second.delivery(), second.event(), &second.body), (first.delivery(), "build.cancelled", &first.body));
    assert!(second.is_signed_with(secret));
}
