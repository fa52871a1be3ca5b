//! Where webhooks do not go, and how many there are.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::receiver::{Receiver, answer};
use super::{deliveries, idle, make, path, stopped};
use crate::accounts::people::{queued, send};
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, start_on, start_with};

on_both_stores!(
    addresses_of_this_machines_surroundings_are_refused_unless_they_are_allowed,
    an_address_is_looked_at_again_at_each_delivery,
    a_redirect_is_not_followed,
    an_owner_has_so_many_webhooks_and_no_more,
    owners_whose_receivers_hang_hold_up_no_others,
);

async fn addresses_of_this_machines_surroundings_are_refused_unless_they_are_allowed(backend: Backend) {
    let service = start_with(backend, |settings| settings.engine = Some("unix:///nonexistent/engine".into())).await;
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
    let open = idle(backend).await;
    make(&open, &open.token, json!({"url": receiver.url()})).await;
    let form = json!({"url": "x", "events": ["build.begun"], "project": "x".repeat(201), "image": "A B", "secret": "short"});
    let (status, told) = send(open.request(Method::POST, "/api/v1/webhooks").json(&form)).await;
    let fields: Vec<_> = told["errors"].as_array().expect("faults").iter().map(|fault| fault["field"].clone()).collect();
    assert_eq!(
        (status, fields),
        (StatusCode::BAD_REQUEST, ["url", "events", "project", "image", "secret"].map(Into::into).to_vec())
    );
}

/// What was allowed when it was saved is looked at again when something is to be delivered.
async fn an_address_is_looked_at_again_at_each_delivery(backend: Backend) {
    let service = idle(backend).await;
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

async fn a_redirect_is_not_followed(backend: Backend) {
    let service = idle(backend).await;
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

async fn an_owner_has_so_many_webhooks_and_no_more(backend: Backend) {
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

/// Twelve owners with four deliveries each that nobody answers would take every place that there is.
async fn owners_whose_receivers_hang_hold_up_no_others(backend: Backend) {
    let service = idle(backend).await;
    let silent = Receiver::start(|_, _| None).await;
    for n in 0..12 {
        let owner = service.user(&format!("silent-{n}")).await;
        let webhook = make(&service, &owner, json!({"url": silent.url()})).await;
        for _ in 0..4 {
            send(service.request_as(&owner, Method::POST, &format!("{}/test", path(&webhook)))).await;
        }
    }
    silent.hears(32).await;
    let receiver = Receiver::willing().await;
    let ada = service.user("ada").await;
    let webhook = make(&service, &ada, json!({"url": receiver.url()})).await;
    let asked = std::time::Instant::now();
    send(service.request_as(&ada, Method::POST, &format!("{}/test", path(&webhook)))).await;
    receiver.hears(1).await;
    // A try takes ten seconds before it is given up.
    assert!(asked.elapsed() < std::time::Duration::from_secs(6), "{:?}", asked.elapsed());
}
