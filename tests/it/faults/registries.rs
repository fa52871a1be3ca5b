//! Registries that are down, hang or refuse, and a worker that is lost in the middle of a push.

use std::time::Instant;

use serde_json::Value;

use crate::pipeline::on_both_stores;
use crate::support::client::Client;
use crate::support::gate::{Behind, Gate};
use crate::support::process::Process;
use crate::support::service::{self, Backend, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{redis_url, registry, unique};

on_both_stores!(
    a_registry_that_is_down_ends_the_push_and_the_image_is_kept,
    one_destination_that_fails_does_not_keep_the_others_from_being_published,
    a_registry_that_hangs_is_given_up,
);

/// A port of this machine where nothing listens.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
}

async fn a_registry_that_is_down_ends_the_push_and_the_image_is_kept(backend: Backend) {
    let service = service::start(backend).await;
    let image = format!("127.0.0.1:{}/{}:1", free_port(), unique("down"));
    let build = service.submit(dockerfile("FROM busybox\nLABEL x=y\n").text("image", image)).await;
    let ended = service.ended(&build).await;
    let error = &ended["error"];
    assert_eq!(
        (&ended["state"], &error["kind"], &error["stage"]),
        (&"failed".into(), &"registry".into(), &"push".into()),
        "{ended}"
    );
    assert_eq!(error["code"], "registry_unreachable");
    assert!(error["message"].as_str().is_some_and(|message| message.to_lowercase().contains("connection refused")), "{error}");
    assert!(has_local_tag(&build), "the image is kept for another try of the push");
    assert_eq!(service.delete(&build).await.json::<Value>().await.expect("JSON")["record"], "removed");
    assert!(!has_local_tag(&build));
}

async fn one_destination_that_fails_does_not_keep_the_others_from_being_published(backend: Backend) {
    let service = service::start(backend).await;
    let there = format!("{}/{}:1", registry(), unique("there"));
    let form = dockerfile("FROM busybox\n").text("image", format!("127.0.0.1:{}/x:1", free_port())).text("image", there.clone());
    let ended = service.ended(&service.submit(form).await).await;
    assert_eq!((&ended["state"], &ended["error"]["code"]), (&"failed".into(), &"registry_unreachable".into()), "{ended}");
    let states: Vec<_> = ended["destinations"].as_array().expect("two").iter().map(|d| d["state"].clone()).collect();
    assert_eq!(states, ["failed", "pushed"]);
    assert_eq!(ended["destinations"][1]["digest"].as_str(), tag_digest(&there, None).await.as_deref());
}

async fn a_registry_that_hangs_is_given_up(backend: Backend) {
    // The kernel accepts for it, and nobody ever answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = service::start_with(backend, |s| s.push_stall = Some("1s".parse().expect("a span"))).await;
    let image = format!("{}/{}:1", hangs.local_addr().expect("an address"), unique("hangs"));
    let build = service.submit(dockerfile("FROM busybox\n").text("image", image)).await;
    let ended = service.ended(&build).await;
    assert_eq!(
        (&ended["state"], &ended["error"]["kind"], &ended["error"]["stage"]),
        (&"failed".into(), &"registry".into(), &"push".into()),
        "{ended}"
    );
    assert!(has_local_tag(&build));
    service.delete(&build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_push_to_a_registry_that_hangs_is_cancelled_at_once() {
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = service::start(Backend::Sqlite).await;
    let image = format!("{}/{}:1", hangs.local_addr().expect("an address"), unique("hangs"));
    let build = service.submit(dockerfile("FROM busybox\n").text("image", image)).await;
    service.until(&build, |now| now["destinations"][0]["state"] == "pushing").await;
    let began = Instant::now();
    assert_eq!(service.cancel(&build).await["state"], "cancelled");
    assert!(began.elapsed().as_millis() < 1000, "took {:?}", began.elapsed());
    assert!(!has_local_tag(&build));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_worker_is_killed_in_the_push_is_published_once() {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/uploads/", 0).await;
    let (data, prefix, redis) = (tempfile::tempdir().expect("a folder"), unique("push"), redis_url());
    let start = |role: &str| {
        let shared = ["--store", &redis, "--store-prefix", &prefix, "--listen", "127.0.0.1:0", "--lease", "2s"];
        Process::start(&[&["serve", "--role", role], &shared[..]].concat(), data.path())
    };
    let mut api = start("api");
    let client = Client::new(&api.address(), data.path());
    let doomed = start("worker");
    let path = unique("twice");
    let form = dockerfile(&format!("FROM busybox\nRUN echo {path} > /x\n")).text("image", format!("{}/{path}:1", gate.address));
    let build = client.submit(form).await;
    gate.reached().await;
    let pushing = client.get(&build).await;
    assert_eq!(pushing["state"], "pushing");
    doomed.kill();
    gate.open();
    let _saviour = start("worker");
    let ended = client.ended(&build).await;
    let log = client.text(&format!("{build}/logs")).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"published".into(), &2.into()), "{ended}\n{log}");
    assert_eq!(ended["image_id"], pushing["image_id"], "what was built is not built again");
    assert_eq!(
        ended["destinations"][0]["digest"].as_str(),
        tag_digest(&format!("{}/{path}:1", registry()), None).await.as_deref()
    );
    let named = gate.requests(&format!("PUT /v2/{path}/manifests/"));
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(client.request(reqwest::Method::DELETE, &format!("/{build}")).send().await.expect("an answer").status(), 200);
    assert!(!has_local_tag(&serde_json::json!({"id": id(&ended)})));
}
