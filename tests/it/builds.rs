//! The main job, as a client sees it.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::service::{self, Backend, context, docker, dockerfile, has_local_tag, id, tag_digest, tar};
use crate::support::{private_registry, registry, unique};

/// Runs a test on both stores.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Backend::Sqlite).await })* }
        mod redis { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Backend::Redis).await })* }
    };
}

on_both_stores!(
    a_dockerfile_becomes_a_published_image,
    several_destinations_each_have_a_digest,
    a_failing_step_tells_its_code_and_leaves_nothing,
    alone_a_running_build_is_cancelled_within_a_second,
    delete_leaves_nothing_and_repeats_as_404,
    owners_do_not_see_each_other,
    the_older_path_serves_the_same_builds,
);

async fn a_dockerfile_becomes_a_published_image(backend: Backend) {
    let service = service::start(backend).await;
    let image = format!("{}/{}:1", registry(), unique("hello"));
    let build = service
        .submit(dockerfile("FROM busybox\nRUN echo built-by-us\nCMD [\"echo\", \"hi\"]\n").text("image", image.clone()))
        .await;
    assert_eq!(build["state"], "queued");
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(&build).await);
    assert_eq!(ended["message"], format!("Docker Image is successfully pushed to {}", registry()));
    assert_eq!(ended["builder"], "buildkit");
    assert_eq!(ended["destinations"][0]["digest"].as_str(), tag_digest(&image, None).await.as_deref());
    assert_eq!(ended["stages"][0]["state"], "done");
    assert_eq!(ended["stages"][1]["state"], "done");
    assert!(ended["size_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000));
    assert!(service.log(&build).await.contains("built-by-us"));
    assert_eq!(docker(&["images", "-q", &image]), "", "the destination's name is not left in the engine");
}

async fn several_destinations_each_have_a_digest(backend: Backend) {
    let service = service::start(backend).await;
    let name = format!("{}/{}", registry(), unique("many"));
    let form = dockerfile(&format!("FROM busybox\nRUN echo {name} > /x\n"))
        .text("image", format!("{name}:1"))
        .text("image", format!("{name}:latest"));
    let ended = service.ended(&service.submit(form).await).await;
    assert_eq!(ended["state"], "published", "{ended}");
    for (index, tag) in ["1", "latest"].iter().enumerate() {
        let digest = tag_digest(&format!("{name}:{tag}"), None).await;
        assert!(digest.is_some() && ended["destinations"][index]["digest"].as_str() == digest.as_deref(), "{ended}");
    }
}

async fn a_failing_step_tells_its_code_and_leaves_nothing(backend: Backend) {
    let service = service::start(backend).await;
    let build = service.submit(dockerfile("FROM busybox\nRUN echo before && exit 7\n").text("push", "false")).await;
    let ended = service.ended(&build).await;
    assert_eq!(
        (&ended["state"], &ended["error"]["code"], &ended["error"]["kind"]),
        (&"failed".into(), &"step_failed".into(), &"user".into()),
        "{ended}"
    );
    assert!(ended["error"]["message"].as_str().is_some_and(|m| m.contains("exit code: 7")), "{ended}");
    assert!(service.log(&build).await.contains("before"));
    assert!(!has_local_tag(&build));
}

async fn alone_a_running_build_is_cancelled_within_a_second(backend: Backend) {
    let service = service::start(backend).await;
    let mark = unique("mark");
    let build = service.submit(dockerfile(&format!("FROM busybox\nRUN echo {mark} && sleep 300\n")).text("push", "false")).await;
    let path = format!("/api/v1/builds/{}", id(&build));
    let mut follow = service.request(Method::GET, &format!("{path}/logs?follow=true")).send().await.expect("a log");
    let mut seen = String::new();
    while seen.matches(&mark).count() < 2 {
        seen.push_str(&String::from_utf8_lossy(&follow.chunk().await.expect("the log").expect("goes on")));
    }
    let started = std::time::Instant::now();
    let answer = service.request(Method::POST, &format!("{path}/cancel")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let cancelled: Value = answer.json().await.expect("JSON");
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert!(started.elapsed().as_millis() < 1000, "took {:?}", started.elapsed());
    assert!(!has_local_tag(&build));
    let again = service.request(Method::POST, &format!("{path}/cancel")).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::ACCEPTED, "a cancel can be repeated");
    while let Some(rest) = follow.chunk().await.expect("the log") {
        seen.push_str(&String::from_utf8_lossy(&rest));
    }
    assert!(seen.trim_end().ends_with("Cancelled"), "a follower sees the end: {seen}");
}

async fn delete_leaves_nothing_and_repeats_as_404(backend: Backend) {
    let service = service::start(backend).await;
    let files = tar(&[("Dockerfile", "FROM busybox\nCOPY data /data\n"), ("data", &unique("data"))]);
    let build = service.submit(context(files).text("push", "false")).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}");
    assert!(has_local_tag(&build));
    let stored = service.config.data_dir.join("contexts").join(id(&build));
    assert!(stored.exists());
    let answer: Value = service.delete(&build).await.json().await.expect("JSON");
    assert_eq!(answer, serde_json::json!({"id": id(&build), "context": "removed", "record": "removed", "image": "removed"}));
    assert!(!stored.exists() && !has_local_tag(&build));
    assert_eq!(docker(&["images", "-q", "--no-trunc", ended["image_id"].as_str().expect("an id")]), "");
    assert_eq!(service.delete(&build).await.status(), StatusCode::NOT_FOUND);
    for path in ["", "/logs", "/dockerfile"] {
        let gone = service.request(Method::GET, &format!("/api/v1/builds/{}{path}", id(&build))).send().await.expect("an answer");
        assert_eq!(gone.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]));
}

async fn owners_do_not_see_each_other(backend: Backend) {
    let service = service::start(backend).await;
    let (bob, bobby) = (service.user("bob").await, service.user("bobby").await);
    let build = service.submit_as(&bob, dockerfile("FROM busybox\n").text("push", "false")).await;
    assert_eq!(build["owner"], "bob");
    for (method, path) in
        [(Method::GET, ""), (Method::GET, "/logs"), (Method::GET, "/dockerfile"), (Method::POST, "/cancel"), (Method::DELETE, "")]
    {
        let answer =
            service.request_as(&bobby, method, &format!("/api/v1/builds/{}{path}", id(&build))).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let list: Value = service
        .request_as(&bobby, Method::GET, "/api/v1/builds?owner=bob")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(list["items"], serde_json::json!([]));
    assert_eq!(service.get("/api/v1/builds").await["items"][0]["id"], build["id"], "an admin sees all");
}

async fn the_older_path_serves_the_same_builds(backend: Backend) {
    let service = service::start(backend).await;
    let (host, user, password) = private_registry();
    let repo = format!("{host}/{}", unique("older"));
    let form = dockerfile("FROM busybox\n")
        .text("docker_username", user.clone())
        .text("docker_password", password.clone())
        .text("docker_repo", repo.clone());
    let answer = service.request(Method::POST, "/api/dockerfile-build/").multipart(form).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let build = answer.json::<Value>().await.expect("JSON")["data"].clone();
    assert_eq!(
        (build["docker_repo"].as_str(), build["docker_username"].as_str(), build["file"].as_str()),
        (Some(&*repo), Some(&*user), Some("Dockerfile"))
    );
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}");
    let tag = ended["destinations"][0]["image"].as_str().expect("an image").rsplit(':').next().expect("a tag").to_owned();
    assert!(tag.len() == 14 && tag.bytes().all(|b| b.is_ascii_digit()), "{tag}");
    assert!(tag_digest(&format!("{repo}:{tag}"), Some((&user, &password))).await.is_some());
    let path = format!("/api/dockerfile-build?dockerfile_build_id={}", id(&build));
    assert_eq!(service.get(&path).await["data"]["status"], format!("Docker Image is successfully pushed to {host}"));
    assert_eq!(service.get("/api/dockerfile-build").await["data"].as_array().map(Vec::len), Some(1));
    let removed = service.request(Method::DELETE, &path).send().await.expect("an answer");
    assert!(removed.status() == StatusCode::OK && removed.json::<Value>().await.expect("JSON")["message"].is_string());
    let gone = service.request(Method::GET, &path).send().await.expect("an answer");
    assert!(gone.status() == StatusCode::NOT_FOUND && gone.json::<Value>().await.expect("JSON")["message"].is_string());
}
