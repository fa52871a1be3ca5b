//! Cancel and DELETE at every stage: a cancel has stopped it in less than a second, nothing is left, nothing moves afterwards.

use std::time::Instant;

use reqwest::StatusCode;
use serde_json::Value;

use crate::options::runs;
use crate::support::gate::{Behind, Gate};
use crate::support::service::{self, Backend, Running, context, docker, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{registry, unique, watch};

/// How a build is ended from outside.
#[derive(Clone, Copy)]
enum How {
    Cancel,
    Delete,
}

/// Ends the build (a cancel within a second) and asserts that the service and the engine have nothing of it any more.
async fn stop(service: &Running, build: &Value, how: How) {
    let began = Instant::now();
    match how {
        How::Cancel => {
            let cancelled = service.cancel(build).await;
            assert_eq!(cancelled["state"], "cancelled", "after {:?}: {cancelled}", began.elapsed());
            let stages = cancelled["stages"].as_array().expect("stages");
            assert!(stages.iter().all(|stage| stage["state"] != "running"), "{cancelled}");
            assert!(began.elapsed().as_millis() < 1000, "took {:?}", began.elapsed());
        }
        How::Delete => {
            let answer = service.delete(build).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let answer: Value = answer.json().await.expect("JSON");
            assert_eq!((&answer["record"], &answer["context"]), (&"removed".into(), &"removed".into()));
            assert!(answer["image"] != "pending" && answer["image"] != "in_use", "{answer}");
        }
    }
    assert!(!has_local_tag(build));
    if matches!(how, How::Delete) {
        assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]));
        assert!(!service.config.data_dir.join("contexts").join(id(build)).exists());
    }
    assert_eq!(service.get("/api/v1/system").await["queue"], serde_json::json!({"queued": 0, "running": 0}));
}

async fn at_queue(how: How) {
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some("unix:///nowhere.sock".into())).await;
    let build = service.submit(dockerfile("FROM busybox\n").text("push", "false")).await;
    stop(&service, &build, how).await;
}

/// While the context is on its way to the engine.
async fn at_upload(how: How) {
    let gate = Gate::engine("/build?", 1 << 20).await;
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some(format!("tcp://{}", gate.address))).await;
    let big = "x".repeat(8 << 20);
    let files = service::tar(&[("Dockerfile", "FROM busybox\nCOPY . /x\n"), ("big", &big)]);
    let build = service.submit(context(files).text("push", "false")).await;
    gate.reached().await;
    assert_eq!(service.get(&format!("/api/v1/builds/{}", id(&build))).await["state"], "building");
    stop(&service, &build, how).await;
    gate.open();
}

async fn at_step(how: How) {
    let service = service::start(Backend::Sqlite).await;
    let mark = unique("mark");
    let build =
        service.submit(dockerfile(&format!("FROM busybox\nRUN echo {mark} && sleep 300 && true\n")).text("push", "false")).await;
    service.logged(&build, &format!("{mark}\n")).await;
    assert!(runs(&mark));
    stop(&service, &build, how).await;
    let began = Instant::now();
    watch("the step's process ends", || !runs(&mark)).await;
    assert!(began.elapsed().as_millis() < 1000, "took {:?}", began.elapsed());
}

async fn at_push(how: How) {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/uploads/", 0).await;
    let service = service::start(Backend::Sqlite).await;
    let path = unique("held");
    let image = format!("{}/{path}:1", gate.address);
    let build = service.submit(dockerfile(&format!("FROM busybox\nRUN echo {path} > /x\n")).text("image", image.clone())).await;
    gate.reached().await;
    let pushing = service.get(&format!("/api/v1/builds/{}", id(&build))).await;
    assert_eq!((&pushing["state"], &pushing["destinations"][0]["state"]), (&"pushing".into(), &"pushing".into()));
    stop(&service, &build, how).await;
    gate.open();
    // The engine has nothing of this push left: a second one, through the open gate, is the first that names the tag.
    assert_eq!(docker(&["images", "-q", &image]), "");
    assert_eq!(tag_digest(&format!("{}/{path}:1", registry()), None).await, None);
    assert_eq!(gate.requests("PUT "), Vec::<String>::new());
}

macro_rules! at_every_stage {
    ($how:ident: $($name:ident = $stage:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread")] async fn $name() { $stage(How::$how).await })*
    };
}

at_every_stage!(Cancel: alone_cancel_while_queued = at_queue, alone_cancel_while_uploading = at_upload, alone_cancel_while_building = at_step, alone_cancel_while_pushing = at_push);
at_every_stage!(Delete: delete_while_queued = at_queue, delete_while_uploading = at_upload, delete_while_building = at_step, delete_while_pushing = at_push);
