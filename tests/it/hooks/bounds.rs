//! Where webhooks do not go, and how many there are.

use std::sync::Arc;

use dockwright::domain::{BuildId, BuildRecord, Scope};
use dockwright::egress::Egress;
use dockwright::hooks::{Dispatcher, HookSettings};
use dockwright::store::{Guard, StoreError};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::receiver::{Receiver, answer};
use super::{deliveries, idle, make, path, stopped};
use crate::accounts::people::{queued, quiet, send};
use crate::support::service::{Backend, start_on, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_this_machines_surroundings_are_refused_unless_they_are_allowed() {
    let service = start_with(Backend::Sqlite, |settings| settings.engine = Some("unix:///nonexistent/engine".into())).await;
    let refused = async |url: &str| {
        let make = service.request(Method::POST, "/api/v1/webhooks").json(&json!({"url": url}));
        let (status, told) = send(make).await;
        assert_eq!((status, &told["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &"url".into()), "{url}: {told}");
    };
    let receiver = Receiver::willing().await;
    refused(&receiver.url()).await;
    for url in ["http://localhost:1/", "http://[::1]/", "https://169.254.169.254/latest", "http://0x7f.1/", "http://2130706433/"]
    {
        refused(url).await;
    }
    for url in
        ["", "x", "ftp://1.1.1.1/", "file:///etc/passwd", "http://u:p@1.1.1.1/", "https://1.1.1.1/#x", "http://nowhere.invalid/"]
    {
        refused(url).await;
    }
    let open = idle(Backend::Sqlite).await;
    make(&open, &open.token, json!({"url": receiver.url()})).await;
    let form = json!({"url": "x", "events": ["build.begun"], "image": "A B", "secret": "short"});
    let (status, told) = send(open.request(Method::POST, "/api/v1/webhooks").json(&form)).await;
    let fields: Vec<_> = told["errors"].as_array().expect("faults").iter().map(|fault| fault["field"].clone()).collect();
    assert_eq!((status, fields), (StatusCode::BAD_REQUEST, ["url", "events", "image", "secret"].map(Into::into).to_vec()));
}

/// What was allowed when it was saved is looked at again when something is to be delivered.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_looked_at_again_at_each_delivery() {
    let service = idle(Backend::Sqlite).await;
    let receiver = Receiver::willing().await;
    let webhook = make(&service, &service.token, json!({"url": receiver.url()})).await;
    let (_folder, mut config) = stopped(service).await;
    config.allow_egress.clear();
    let service = start_on(config).await;
    let build = queued(&service, &service.token).await;
    service.cancel(&json!({"id": build})).await;
    let tried = deliveries(&service, &webhook, |all| !all.is_empty() && all[0]["attempts"][0].is_object()).await;
    let why = tried[0]["attempts"][0]["error"].as_str().expect("an error");
    assert!(why.contains("requests of users do not go"), "{why}");
    assert_eq!(receiver.heard().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let service = idle(Backend::Sqlite).await;
    let inside = Receiver::willing().await;
    let location = inside.url();
    let receiver =
        Receiver::start(move |_, _| Some(answer(&format!("307 Temporary Redirect\r\nlocation: {location}"), ""))).await;
    let webhook = make(&service, &service.token, json!({"url": receiver.url()})).await;
    send(service.request(Method::POST, &format!("{}/test", path(&webhook)))).await;
    let tried = deliveries(&service, &webhook, |all| all.iter().any(|one| one["state"] == "failed")).await;
    let attempt = &tried[0]["attempts"][0];
    assert!(attempt["status"] == 307 && attempt["error"].as_str().is_some_and(|why| why.contains("redirect")), "{attempt}");
    assert_eq!((receiver.heard().len(), inside.heard().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_has_so_many_webhooks_and_no_more() {
    for backend in [Backend::Sqlite, Backend::Redis] {
        let service = idle(backend).await;
        let (ada, bob) = (service.user("ada").await, service.user("bob").await);
        let form = json!({"url": "http://127.0.0.1:1/", "enabled": false});
        let all = (0..25).map(|_| send(service.request_as(&ada, Method::POST, "/api/v1/webhooks").json(&form)));
        let made = futures::future::join_all(all).await.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
        assert_eq!(made, 20, "also of many at once");
        let (status, told) = send(service.request_as(&ada, Method::POST, "/api/v1/webhooks").json(&form)).await;
        assert_eq!((status, &told["code"]), (StatusCode::TOO_MANY_REQUESTS, &"quota_exceeded".into()), "{told}");
        make(&service, &bob, form).await;
    }
}

/// By the record's own word, as it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_build_is_told_as_such() {
    let service = quiet(Backend::Sqlite).await;
    let receiver = Receiver::willing().await;
    let data = service.config.data_dir.clone();
    let build: BuildId = queued(&service, &service.token).await.parse().expect("an id");
    let (_folder, mut config) = stopped(service).await;
    config.allow_egress = vec!["127.0.0.1".parse().expect("an address")];
    let service = start_on(config.clone()).await;
    make(&service, &service.token, json!({"url": receiver.url(), "events": ["build.superseded"]})).await;
    let other = queued(&service, &service.token).await;
    stopped(service).await;

    let store = dockwright::wiring::open_store(&config).await.expect("opens");
    let rule = |record: &mut BuildRecord, now, _| record.cancelled(&[], now).map_err(|e| StoreError::Refused(e.to_string()));
    store.update(build, &Guard::Scope(Scope::All), rule).await.expect("ends");
    let vault = Arc::new(dockwright::vault::Vault::from_file(&data.join("key")).expect("a key"));
    let settings =
        HookSettings { first_retry: std::time::Duration::from_secs(5), disable_after: std::time::Duration::from_secs(60) };
    let render = Arc::new(move |record: &BuildRecord| {
        let mut shown = dockwright::http::build_json(record);
        shown["superseded_by"] = other.clone().into();
        shown
    });
    let dispatcher = Dispatcher::new(store, vault, Egress::new(config.allow_egress.clone()), render, settings);
    dispatcher.deliver_once(&tokio_util::sync::CancellationToken::new()).await.expect("delivers");
    let heard = receiver.hears(1).await;
    assert_eq!((heard[0].event(), heard[0].json()["build"]["id"].as_str()), ("build.superseded", Some(&*build.to_string())));
}
