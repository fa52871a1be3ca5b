//! "Why is it waiting?"

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{now, on_both_stores};
use crate::accounts::people::{one_worker_behind_a_gate, queued, quiet, send};
use crate::support::service::{Backend, dockerfile, id};

on_both_stores!(a_build_says_what_it_waits_for_and_for_how_long, a_build_without_an_engine_says_so,);

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
