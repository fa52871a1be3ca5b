//! What is surprising about a context is told: in the record, at the head of the log, and to those who follow it.

use std::time::Duration;

use dockwright::domain::{NodeId, WorkerId};
use reqwest::Method;
use serde_json::{Value, json};

use super::{DOCKERFILE, from, service};
use crate::hooks::{idle, stopped};
use crate::pipeline::on_both_stores;
use crate::support::git::GitHost;
use crate::support::service::{self as plain, Backend, Running, context, id};

on_both_stores!(
    unwanted_paths_are_told_in_the_record_and_at_the_head_of_the_log,
    large_paths_of_an_upload_are_told,
    large_paths_and_pointers_of_a_repository_are_told,
    a_worker_that_was_lost_before_it_said_anything_leaves_it_to_the_next,
);

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// The lines of a build's stream of this kind, and how many events there were before the first.
async fn streamed(service: &Running, build: &Value, stream: &str) -> Vec<String> {
    let path = format!("/api/v1/builds/{}/logs", id(build));
    let events = service.request(Method::GET, &path).header("accept", "text/event-stream").send().await.expect("an answer");
    let events = events.text().await.expect("text");
    let told = events.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let of_stream = told.filter(|told| told["stream"] == stream);
    of_stream.map(|told| told["text"].as_str().expect("text").to_owned()).collect()
}

async fn unwanted_paths_are_told_in_the_record_and_at_the_head_of_the_log(backend: Backend) {
    let service = plain::start(backend).await;
    let library = "x".repeat(3 << 19);
    let files =
        [("Dockerfile", DOCKERFILE), ("web/node_modules/a/x.js", &*library), (".git/config", "x"), (".dockerignore", "**\n")];
    let build = service.submit(context(plain::tar(&files)).text("push", "false")).await;
    let warning = &build["warnings"][0];
    let paths = json!([{"path": "web/node_modules", "bytes": 3 << 19}, {"path": ".git", "bytes": 1}]);
    assert_eq!((&warning["code"], &warning["paths"]), (&"unwanted_paths".into(), &paths), "{build}");
    let ended = service.ended(&build).await;
    assert_eq!((&ended["state"], &ended["warnings"]), (&"built".into(), &build["warnings"]), "{ended}");
    let log = service.log(&build).await;
    let head: Vec<&str> = log.lines().take(3).collect();
    assert!(head[0].contains("unwanted_paths") && head[0].contains(warning["message"].as_str().expect("text")), "{log}");
    assert!(head[1].ends_with("1.5 MB  web/node_modules") && head[2].ends_with("1 B  .git"), "{log}");
    assert_eq!(streamed(&service, &build, "warning").await, head, "told from all other lines");
    service.delete(&ended).await;
}

async fn large_paths_of_an_upload_are_told(backend: Backend) {
    let service = idle(backend).await;
    let large = "x".repeat(51 << 20);
    let files = [("Dockerfile", DOCKERFILE), ("data/large.bin", &*large)];
    let build = service.submit(context(plain::tar(&files)).text("push", "false")).await;
    let warning = &build["warnings"][0];
    let paths = json!([{"path": "data/large.bin", "bytes": 51 << 20}]);
    assert_eq!((&warning["code"], &warning["paths"]), (&"large_paths".into(), &paths), "{build}");
}

async fn large_paths_and_pointers_of_a_repository_are_told(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let repository = host.repository("app");
    let large = "x".repeat(51 << 20);
    repository.commit(&[
        ("Dockerfile", DOCKERFILE),
        ("large.bin", &large),
        ("model.bin", POINTER),
        (".dockerignore", "large.bin\n"),
    ]);
    let build = service.submit(from(&repository.url)).await;
    let warnings = build["warnings"].as_array().expect("a list");
    let codes: Vec<&Value> = warnings.iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["large_paths", "git_lfs_pointers"], "{build}");
    assert_eq!(warnings[0]["paths"], json!([{"path": "large.bin", "bytes": 51 << 20}]));
    assert_eq!(warnings[1]["paths"], json!([{"path": "model.bin", "bytes": POINTER.len()}]));
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}");
    let told = streamed(&service, &build, "warning").await.concat();
    assert!(
        ["large_paths", "53.4 MB  large.bin", "git_lfs_pointers", "model.bin"].iter().all(|word| told.contains(word)),
        "{told}"
    );
    service.delete(&ended).await;
}

async fn a_worker_that_was_lost_before_it_said_anything_leaves_it_to_the_next(backend: Backend) {
    let service = idle(backend).await;
    let files = [("Dockerfile", DOCKERFILE), (".git/config", "x"), (".dockerignore", "**\n")];
    let build = service.submit(context(plain::tar(&files)).text("push", "false")).await;
    let lost = service.store.claim(&WorkerId::unique(), &NodeId::new("elsewhere"), Duration::from_millis(50)).await;
    assert_eq!(lost.expect("answers").expect("one waits").stored.record.id.to_string(), id(&build));
    let (_folder, mut config) = stopped(service).await;
    config.engine = None;
    let service = plain::start_on(config).await;
    let ended = service.ended(&build).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &2.into()), "{ended}");
    let told = streamed(&service, &build, "warning").await;
    assert!(told.len() == 2 && told[0].contains("unwanted_paths"), "{told:?}");
    service.delete(&ended).await;
}
