//! What is told, when, and again.

use std::time::Duration;

use dockwright::domain::{NodeId, WorkerId};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::receiver::{Receiver, answer};
use super::{deliveries, idle, make, open, path};
use crate::accounts::people::{queued, send};
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, dockerfile, id, start_with};
use crate::support::{registry, unique};

on_both_stores!(
    what_was_told_is_told_again_and_says_so,
    a_webhook_that_fails_for_too_long_is_disabled_and_says_why,
    a_live_build_that_is_deleted_is_told_though_its_worker_does_not_stop,
);

async fn fails_three_times(backend: Backend) {
    let service = start_with(backend, open).await;
    let ada = service.user("ada").await;
    let refused = format!("503 Service Unavailable\r\nx-answer: {}", "y".repeat(10));
    let receiver = Receiver::start(move |number, _| {
        Some(if number < 4 { answer(&refused, &"no ".repeat(2000)) } else { answer("204 No Content", "") })
    })
    .await;
    let webhook = make(&service, &ada, json!({"url": receiver.url()})).await;
    let secret = webhook["secret"].as_str().expect("shown once").to_owned();
    // Sealed with another key meanwhile, it signs as before.
    let (_, rotated) = send(service.request(Method::POST, "/api/v1/keys/rotate")).await;
    assert_eq!(rotated["webhooks"], 1, "{rotated}");

    let image = format!("{}/{}:1", registry(), unique("told"));
    let build = service.submit_as(&ada, dockerfile("FROM busybox\nRUN true\n").text("image", image.clone())).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}");
    let heard = receiver.hears(4).await;
    for request in &heard {
        assert!(request.is_signed_with(&secret) && !request.is_signed_with("another"), "{}", request.head);
        assert_eq!(
            (request.event(), request.delivery(), &request.body),
            ("build.published", heard[0].delivery(), &heard[0].body)
        );
        assert!(!request.head.contains(&secret) && !request.body.contains(&secret));
    }
    let told = heard[0].json();
    assert_eq!((&told["event"], &told["build"]), (&"build.published".into(), &ended), "the build as the API shows it");

    let done = deliveries(&service, &webhook, |all| all.iter().all(|one| one["state"] == "delivered")).await;
    assert_eq!(done.len(), 1);
    assert_eq!((&done[0]["id"], &done[0]["build"]), (&heard[0].delivery().into(), &ended["id"]));
    let attempts = done[0]["attempts"].as_array().expect("tries");
    assert_eq!(attempts.iter().map(|one| one["status"].as_u64()).collect::<Vec<_>>(), [503, 503, 503, 204].map(Some));
    assert_eq!(attempts[0]["answer"].as_str().map(str::len), Some(1024), "its beginning alone is kept");
    assert!(attempts[0]["error"].as_str().is_some_and(|why| why.contains("503")), "{}", attempts[0]);
    let shown = service.get(&path(&webhook)).await;
    assert!(shown["secret"].is_null() && shown["failing_since"].is_null(), "{shown}");
    let list = service.get("/api/v1/webhooks").await.to_string();
    assert!(!list.contains(&secret) && !json!(done).to_string().contains(&secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_three_times_gets_it_the_fourth_with_the_embedded_store() {
    fails_three_times(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_three_times_gets_it_the_fourth_with_redis() {
    fails_three_times(Backend::Redis).await;
}

/// One owner's webhooks for one event, one project and one image each, and another owner's for all.
async fn each_gets_its_own(backend: Backend) {
    let service = idle(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let receivers = [Receiver::willing().await, Receiver::willing().await, Receiver::willing().await, Receiver::willing().await];
    let [published, shop, image, foreign] = &receivers;
    let webhooks = [
        make(&service, &ada, json!({"url": published.url(), "events": ["build.published", "build.built"]})).await,
        make(&service, &ada, json!({"url": shop.url(), "project": "shop"})).await,
        make(&service, &ada, json!({"url": image.url(), "image": "127.0.0.1:1/team/app:2"})).await,
        make(&service, &bob, json!({"url": foreign.url(), "events": ["build.published"]})).await,
    ];
    let submit = async |project: &str, image: &str| {
        let form = dockerfile("FROM busybox\n").text("image", image.to_owned()).text("project", project.to_owned());
        service.submit_as(&ada, form).await
    };
    let builds = [submit("shop", "127.0.0.1:1/team/app:1").await, submit("other", "127.0.0.1:1/team/app:2").await];
    for build in &builds {
        assert_eq!(service.cancel(build).await["state"], "cancelled");
    }
    // Deleted at once: it is told as it was.
    assert_eq!(service.delete(&builds[0]).await.status(), StatusCode::OK);
    let of_shop = shop.hears(1).await;
    assert_eq!((of_shop[0].event(), &of_shop[0].json()["build"]["id"]), ("build.cancelled", &builds[0]["id"]));
    assert_eq!(image.hears(1).await[0].json()["build"]["id"], builds[1]["id"]);
    // What would have been told before is told by now.
    for (receiver, (webhook, token)) in receivers.iter().zip(webhooks.iter().zip([&ada, &ada, &ada, &bob])) {
        let before = receiver.heard().len();
        let test = send(service.request_as(token, Method::POST, &format!("{}/test", path(webhook)))).await;
        assert_eq!(test.0, StatusCode::ACCEPTED, "{}", test.1);
        let heard = receiver.hears(before + 1).await;
        assert_eq!((heard[before].event(), heard[before].delivery()), ("webhook.test", test.1["id"].as_str().expect("an id")));
    }
    let events = |receiver: &Receiver| receiver.heard().iter().map(|heard| heard.event().to_owned()).collect::<Vec<_>>();
    assert_eq!(events(published), ["webhook.test"], "a cancelled build never looks like a published one");
    assert_eq!(events(foreign), ["webhook.test"]);
    assert_eq!((events(shop).len(), events(image).len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_webhook_gets_its_own_with_the_embedded_store() {
    each_gets_its_own(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_webhook_gets_its_own_with_redis() {
    each_gets_its_own(Backend::Redis).await;
}

async fn what_was_told_is_told_again_and_says_so(backend: Backend) {
    let service = idle(backend).await;
    let receiver = Receiver::willing().await;
    let webhook = make(&service, &service.token, json!({"url": receiver.url(), "secret": "0123456789abcdef"})).await;
    assert!(webhook["secret"].is_null(), "{webhook}");
    let build = queued(&service, &service.token).await;
    service.cancel(&json!({"id": build})).await;
    let first = receiver.hears(1).await.remove(0);
    let again = async |delivery: &str| {
        let path = format!("{}/deliveries/{delivery}/redeliver", path(&webhook));
        send(service.request(Method::POST, &path)).await
    };
    let (status, second) = again(first.delivery()).await;
    assert_eq!((status, &second["redelivery_of"]), (StatusCode::ACCEPTED, &first.delivery().into()), "{second}");
    let heard = receiver.hears(2).await.remove(1);
    assert_eq!((heard.delivery(), heard.header("dockwright-redelivery-of")), (id(&second), Some(first.delivery())));
    assert!(heard.body == first.body && heard.delivery() != first.delivery() && heard.is_signed_with("0123456789abcdef"));
    // Of the one that told it first, also when it is told a third time.
    assert_eq!(again(id(&second)).await.1["redelivery_of"], first.delivery());
    let all = deliveries(&service, &webhook, |all| all.iter().all(|one| one["state"] == "delivered")).await;
    assert_eq!(all.iter().map(|one| one["attempts"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>(), [1, 1, 1]);
    let (disabled, _) = send(service.request(Method::PATCH, &path(&webhook)).json(&json!({"enabled": false}))).await;
    assert_eq!((disabled, again(first.delivery()).await.0), (StatusCode::OK, StatusCode::CONFLICT));
    assert_eq!(again(&uuid::Uuid::now_v7().to_string()).await.0, StatusCode::NOT_FOUND);
    let (gone, _) = send(service.request(Method::DELETE, &path(&webhook))).await;
    assert_eq!((gone, again(first.delivery()).await.0), (StatusCode::NO_CONTENT, StatusCode::NOT_FOUND));
}

async fn a_webhook_that_fails_for_too_long_is_disabled_and_says_why(backend: Backend) {
    let service = start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        open(settings);
        settings.webhook_disable_after = Some("150ms".parse().expect("a span"));
    })
    .await;
    let receiver = Receiver::start(|_, _| Some(answer("500 Internal Server Error", "broken"))).await;
    let webhook = make(&service, &service.token, json!({"url": receiver.url()})).await;
    let build = queued(&service, &service.token).await;
    service.cancel(&json!({"id": build})).await;
    let all = deliveries(&service, &webhook, |all| all.len() == 1 && all[0]["state"] == "failed").await;
    let last = |delivery: &serde_json::Value| delivery["attempts"].as_array().and_then(|all| all.last()).cloned().expect("a try");
    assert!(all.iter().any(|one| last(one)["error"] == "the webhook is disabled"), "{all:?}");
    let shown = service.get(&path(&webhook)).await;
    assert_eq!(shown["enabled"], false, "{shown}");
    let why = shown["disabled_reason"].as_str().expect("a reason");
    assert!(why.contains("every delivery since") && why.contains("500"), "{why}");
    let heard = receiver.heard().len();
    let build = queued(&service, &service.token).await;
    service.cancel(&json!({"id": build})).await;
    // Also a disabled one can be tried.
    send(service.request(Method::POST, &format!("{}/test", path(&webhook)))).await;
    assert_eq!(receiver.hears(heard + 1).await[heard].event(), "webhook.test");
    let (_, enabled) = send(service.request(Method::PATCH, &path(&webhook)).json(&json!({"enabled": true}))).await;
    assert!(
        enabled["enabled"] == true && enabled["disabled_reason"].is_null() && enabled["failing_since"].is_null(),
        "{enabled}"
    );
}

async fn a_live_build_that_is_deleted_is_told_though_its_worker_does_not_stop(backend: Backend) {
    let service = idle(backend).await;
    let receiver = Receiver::willing().await;
    make(&service, &service.token, json!({"url": receiver.url()})).await;
    let build = queued(&service, &service.token).await;
    let (worker, node) = (WorkerId::unique(), NodeId::new("nowhere"));
    let claim = service.store.claim(&worker, &node, Duration::from_secs(60)).await.expect("answers").expect("one waits");
    assert_eq!(claim.stored.record.id.to_string(), build);
    assert_eq!(service.delete(&json!({"id": build})).await.status(), StatusCode::OK);
    let heard = receiver.hears(1).await.remove(0);
    assert_eq!((heard.event(), &heard.json()["build"]["id"]), ("build.cancelled", &build.into()));
}
