//! Whose is what: the same upload of two owners, names that are used twice at once, and what a build gets to see.

use futures::future::join_all;
use reqwest::multipart::Form;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::service::{self, Backend, Running, docker, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{registry, unique};

/// Two owners publish the same Dockerfile, each to a place of their own.
async fn two_owners(service: &Running, upload: impl Fn() -> Form) -> [(String, Value, String); 2] {
    let mut both = Vec::new();
    for name in ["alice", "bob"] {
        let (token, image) = (service.user(name).await, format!("{}/{}:1", registry(), unique(name)));
        let build = service.submit_as(&token, upload().text("image", image.clone())).await;
        assert_eq!(build["owner"], name);
        both.push((token, build, image));
    }
    for (_, build, image) in &mut both {
        *build = service.ended(build).await;
        assert_eq!(build["state"], "published", "{build}");
        assert_eq!(build["destinations"][0]["digest"].as_str(), tag_digest(image, None).await.as_deref());
    }
    both.try_into().expect("two")
}

async fn delete_as(service: &Running, token: &str, build: &Value) -> (StatusCode, Value) {
    let answer =
        service.request_as(token, Method::DELETE, &format!("/api/v1/builds/{}", id(build))).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_dockerfile_of_two_owners_is_two_builds() {
    let service = service::start(Backend::Sqlite).await;
    let text = format!("FROM busybox\nLABEL shared={}\n", unique("shared"));
    let [(alice, hers, her_image), (bob, his, his_image)] = two_owners(&service, || dockerfile(&text)).await;
    assert_eq!(hers["image_id"], his["image_id"], "the builder's cache makes one image of both");
    let image = hers["image_id"].as_str().expect("an id");

    assert_eq!(delete_as(&service, &bob, &hers).await.0, StatusCode::NOT_FOUND);
    assert!(has_local_tag(&hers), "what is not his stays");
    let (status, answer) = delete_as(&service, &alice, &hers).await;
    assert_eq!((status, &answer["image"]), (StatusCode::OK, &"in_use".into()), "{answer}");
    assert!(!has_local_tag(&hers) && has_local_tag(&his));
    assert_eq!(service.get(&format!("/api/v1/builds/{}", id(&his))).await["state"], "published");
    for published in [&her_image, &his_image] {
        assert!(tag_digest(published, None).await.is_some(), "what is published stays published");
    }
    let (_, answer) = delete_as(&service, &bob, &his).await;
    assert_eq!(answer["image"], "removed");
    assert_eq!(docker(&["images", "-q", "--no-trunc", image]), "", "nobody needs it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_from_leaves_the_base_image_and_its_tags_alone() {
    let service = service::start(Backend::Sqlite).await;
    let base = docker(&["image", "inspect", "--format", "{{.Id}}", "busybox:latest"]);
    // The classic builder leaves a base image as it is; BuildKit writes some configurations anew.
    let upload = || dockerfile("FROM busybox\n").text("memory", "64m");
    let other_tag = format!("{}:kept", unique("base"));
    docker(&["tag", "busybox:latest", &other_tag]);
    let [(alice, hers, _), (bob, his, his_image)] = two_owners(&service, upload).await;
    for (token, build) in [(&alice, &hers), (&bob, &his)] {
        assert_eq!(build["image_id"].as_str(), Some(&*base), "the image is the base itself");
        let (_, answer) = delete_as(&service, token, build).await;
        assert_eq!(answer["image"], "in_use", "{answer}");
        assert!(!has_local_tag(build));
    }
    for tag in ["busybox:latest", &other_tag] {
        assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", tag]), base, "{tag}");
    }
    assert!(tag_digest(&his_image, None).await.is_some());
    docker(&["rmi", &other_tag]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_of_a_single_dockerfile_is_that_file_alone() {
    let service = service::start(Backend::Sqlite).await;
    let text =
        |index: usize| format!("FROM busybox\nWORKDIR /x\nCOPY . .\nRUN echo {} \"[$(find /x -type f)]\" {index}\n", unique("x"));
    let builds = join_all((0..5).map(|index| service.submit(dockerfile(&text(index)).text("push", "false")))).await;
    for build in &builds {
        let ended = service.ended(build).await;
        assert_eq!(ended["state"], "built", "{ended}");
        let log = service.log(build).await;
        assert!(log.lines().any(|line| line.contains(" [/x/Dockerfile] ")), "{log}");
        assert_eq!(service.delete(build).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_builds_for_one_repository_in_one_second_each_publishes_or_is_superseded() {
    let service = service::start(Backend::Sqlite).await;
    let repository = format!("{}/{}", registry(), unique("forty"));
    // The older path names the tag by the second, so that many have the same one.
    let upload = |index: usize| {
        let form =
            dockerfile(&format!("FROM busybox\nLABEL of={repository} n={index}\n")).text("docker_repo", repository.clone());
        async {
            let answer = service.request(Method::POST, "/api/dockerfile-build/").multipart(form).send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
            answer.json::<Value>().await.expect("JSON")["data"].clone()
        }
    };
    let builds = join_all((0..40).map(upload)).await;
    let mut last = std::collections::HashMap::new();
    let mut superseded = std::collections::HashSet::new();
    for ended in join_all(builds.iter().map(|build| service.ended(build))).await {
        let destination = &ended["destinations"][0];
        if destination["state"] == "superseded" {
            assert_eq!(ended["state"], "cancelled", "{ended}");
            assert!(builds.iter().any(|build| build["id"] == destination["superseded_by"]), "{ended}");
            superseded.insert(destination["image"].as_str().expect("an image").to_owned());
            continue;
        }
        assert_eq!(ended["state"], "published", "{ended}");
        let pushed_at = ended["finished_at"].as_str().expect("a time").to_owned();
        let newest =
            last.entry(destination["image"].as_str().expect("an image").to_owned()).or_insert((pushed_at.clone(), Vec::new()));
        match pushed_at.cmp(&newest.0) {
            std::cmp::Ordering::Greater => *newest = (pushed_at, vec![destination["digest"].clone()]),
            std::cmp::Ordering::Equal => newest.1.push(destination["digest"].clone()),
            std::cmp::Ordering::Less => {}
        }
    }
    assert!(last.len() < 40, "some share a tag");
    assert!(superseded.iter().all(|image| last.contains_key(image)), "whoever is superseded is so by one that published");
    for (image, (_, digests)) in last {
        let now = tag_digest(&image, None).await;
        assert!(
            digests.iter().any(|digest| digest.as_str() == now.as_deref()),
            "{image} is what was pushed last: {now:?} {digests:?}"
        );
    }
}
