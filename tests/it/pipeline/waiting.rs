//! "Why is it waiting?"

use std::time::Duration;

use dockwright::domain::{BuildRecord, Scope};
use dockwright::store::{Guard, PushTurn};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{now, on_both_stores};
use crate::accounts::people::{one_worker_behind_a_gate, queued, quiet, send};
use crate::hooks::stopped;
use crate::support::gate::Gate;
use crate::support::service::{Backend, dockerfile, id, start, start_on};
use crate::support::{registry, unique};

on_both_stores!(
    a_build_says_what_it_waits_for_and_for_how_long,
    a_build_without_an_engine_says_so,
    a_full_disk_and_past_builds_are_told,
    a_build_that_is_done_alone_says_so_and_so_do_those_behind_it,
    a_build_that_waits_for_another_push_says_so,
);

fn local(text: &str) -> reqwest::multipart::Form {
    dockerfile(text).text("push", "false").text("project", "shop")
}

async fn a_build_says_what_it_waits_for_and_for_how_long(backend: Backend) {
    let (gate, service) = one_worker_behind_a_gate(backend).await;
    let me = service.get("/api/v1/me").await["name"].as_str().expect("a name").parse().expect("an owner");
    for seconds in [50, 60, 70] {
        service.store.add_duration(&me, "shop", Duration::from_secs(seconds)).await.expect("remembered");
    }
    let running = service.submit(local("FROM busybox\nLABEL n=0\n")).await;
    gate.reached().await;
    let waiting =
        [service.submit(local("FROM busybox\nLABEL n=1\n")).await, service.submit(local("FROM busybox\nLABEL n=2\n")).await];
    // The worker's next sign of life says that its slot is taken.
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let next = loop {
        look.tick().await;
        let next = now(&service, id(&waiting[0])).await;
        if next["queue"]["estimate_seconds"] != 0 {
            break next;
        }
    };
    let queue = &next["queue"];
    assert_eq!((&queue["position"], &queue["waits_for"]), (&0.into(), &"worker".into()), "{queue}");
    assert_eq!((&queue["estimate_seconds"], &queue["build_seconds"]), (&30.into(), &60.into()), "half of one: {queue}");
    let last = now(&service, id(&waiting[1])).await;
    let told = json!({"position": 1, "waits_for": "turn", "detail": "1 build goes before it", "estimate_seconds": 90, "build_seconds": 60});
    assert_eq!(last["queue"], told);
    let nothing = json!({"position": null, "waits_for": null, "detail": null, "estimate_seconds": null, "build_seconds": null});
    assert_eq!(now(&service, id(&running)).await["queue"], nothing, "it does not wait");

    let list = service.get("/api/v1/builds").await;
    let told: Vec<&Value> = list["items"].as_array().expect("builds").iter().map(|build| &build["queue"]["waits_for"]).collect();
    assert_eq!(told, [&json!("turn"), &json!("worker"), &Value::Null]);

    // An estimate is another at each look; the build is not.
    let path = format!("/api/v1/builds/{}", id(&waiting[1]));
    let tag = service.request(Method::GET, &path).send().await.expect("an answer").headers()["etag"].clone();
    service.store.add_duration(&me, "shop", Duration::from_secs(5000)).await.expect("remembered");
    let again = service.request(Method::GET, &path).header("if-none-match", tag).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    // Who has as many under way as the account may waits for no worker.
    let form = json!({"name": "ada", "quota": {"builds_running": 0}});
    assert_eq!(send(service.request(Method::POST, "/api/v1/users").json(&form)).await.0, StatusCode::CREATED);
    let ada = queued(&service, &service.token_of("ada").await).await;
    let queue = now(&service, &ada).await["queue"].clone();
    assert_eq!(queue["waits_for"], "quota", "{queue}");
    assert_eq!(queue["detail"], "quota builds_running: the limit is 0, and 0 are used");

    gate.open();
    let ended = service.ended(&waiting[1]).await;
    assert_eq!(ended["state"], "built", "{ended}");
    service.ended(&running).await;
}

async fn a_build_without_an_engine_says_so(backend: Backend) {
    let service = quiet(backend).await;
    let build = queued(&service, &service.token).await;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    loop {
        look.tick().await;
        let queue = now(&service, &build).await["queue"].clone();
        assert_eq!(queue["estimate_seconds"], Value::Null, "nobody knows: {queue}");
        // Before its first sign of life there is no worker.
        if queue["waits_for"] == "engine" {
            return assert_eq!(queue["detail"], "the engine of none of 1 workers answers");
        }
        assert_eq!(queue["waits_for"], "worker", "{queue}");
    }
}

/// What a build took is what the next one of its project is told; and one that waits for room on the disk is told so.
async fn a_full_disk_and_past_builds_are_told(backend: Backend) {
    let service = start(backend).await;
    let first = service.submit(local("FROM busybox\nRUN sleep 1\n").text("no_cache", "true")).await;
    assert_eq!(service.ended(&first).await["state"], "built");
    service.delete(&first).await;
    let (_folder, mut config) = stopped(service).await;
    let engine = config.engine.replace("unix:///nonexistent/engine".to_owned());
    let service = start_on(config.clone()).await;
    let build = service.submit(local("FROM busybox\n")).await;
    let took = now(&service, id(&build)).await["queue"]["build_seconds"].as_u64().expect("known");
    assert!((1..60).contains(&took), "{took} s");
    let other = service.submit(dockerfile("FROM busybox\n").text("push", "false").text("project", "other")).await;
    assert_eq!(now(&service, id(&other)).await["queue"]["build_seconds"], Value::Null, "of its own project");
    service.delete(&other).await;

    stopped(service).await;
    (config.engine, config.min_free_disk) = (engine, "1000000g".parse().expect("an amount"));
    let service = start_on(config).await;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let queue = loop {
        look.tick().await;
        let queue = now(&service, id(&build)).await["queue"].clone();
        // Before its first sign of life there is no worker.
        if queue["waits_for"] != "worker" {
            break queue;
        }
    };
    assert_eq!((&queue["waits_for"], &queue["estimate_seconds"]), (&"disk".into(), &Value::Null), "{queue}");
    assert_eq!(queue["detail"], "the disk of every worker with an engine is full");
    service.delete(&build).await;
}

/// A build that has lost two workers takes all slots of one, and those behind it wait for it.
async fn a_build_that_is_done_alone_says_so_and_so_do_those_behind_it(backend: Backend) {
    let service = quiet(backend).await;
    let me = service.get("/api/v1/me").await["name"].as_str().expect("a name").parse().expect("an owner");
    service.store.add_duration(&me, "shop", Duration::from_secs(60)).await.expect("remembered");
    let mut builds = Vec::new();
    for n in 0..3 {
        builds.push(service.submit(local(&format!("FROM busybox\nLABEL n={n}\n"))).await);
    }
    let lost_two = |record: &mut BuildRecord, _, _| {
        record.crashes = 2;
        Ok(())
    };
    let alone = id(&builds[1]).parse().expect("an id");
    service.store.update(alone, &Guard::Scope(Scope::All), lost_two).await.expect("changed").expect("there");
    let (_folder, mut config) = stopped(service).await;
    let gate = Gate::engine("/build?", 0).await;
    (config.engine, config.workers) = (Some(format!("tcp://{}", gate.address)), 2);
    let service = start_on(config).await;
    gate.reached().await;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let mut queues = [Value::Null, Value::Null];
    // The worker's signs of life say that one is at work, and that it takes no others.
    for _ in 0..400 {
        look.tick().await;
        let behind = now(&service, id(&builds[2])).await["queue"].clone();
        queues = [now(&service, id(&builds[1])).await["queue"].clone(), behind];
        if queues[1]["estimate_seconds"] == 45 {
            break;
        }
    }
    assert_eq!((&queues[0]["position"], &queues[0]["waits_for"]), (&0.into(), &"worker".into()), "{queues:?}");
    assert!(queues[0]["detail"].as_str().is_some_and(|told| told.contains("it is done alone")), "{queues:?}");
    assert_eq!((&queues[1]["position"], &queues[1]["waits_for"]), (&1.into(), &"turn".into()), "{queues:?}");
    assert_eq!((&queues[0]["estimate_seconds"], &queues[1]["estimate_seconds"]), (&30.into(), &45.into()), "{queues:?}");
    gate.open();
    for build in &builds {
        assert_eq!(service.ended(build).await["state"], "built");
        service.delete(build).await;
    }
}

async fn a_build_that_waits_for_another_push_says_so(backend: Backend) {
    let service = start(backend).await;
    let image = format!("{}/{}:1", registry(), unique("turn"));
    let turn = PushTurn::take(&service.store, &image.parse().expect("an image"), "somebody").await;
    let build = service.submit(dockerfile("FROM busybox\n").text("image", image.clone())).await;
    service.logged(&build, &format!("Waiting for another push of {image} to end")).await;
    let waits = now(&service, id(&build)).await;
    assert_eq!((&waits["state"], &waits["destinations"][0]["state"]), (&"pushing".into(), &"waiting".into()), "{waits}");
    drop(turn);
    let ended = service.ended(&build).await;
    assert_eq!((&ended["state"], &ended["destinations"][0]["state"]), (&"published".into(), &"pushed".into()), "{ended}");
    service.delete(&build).await;
}
