//! Builds of the very same thing make one image. What one of them loses by its delete, the others keep, also while they are being built.

use dockwright::domain::local_tag;
use dockwright::engine::Images;
use dockwright::engine::docker::Docker;
use futures::StreamExt;
use reqwest::multipart::Form;
use serde_json::Value;

use super::soak::times;
use crate::support::service::{self, Backend, Running, docker, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{registry, unique};

/// Builds that are under way at once.
const AT_ONCE: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Builder {
    Buildkit,
    /// Chosen by asking for a limit of memory.
    Classic,
}

fn form(text: &str, builder: Builder) -> Form {
    let form = dockerfile(text);
    if matches!(builder, Builder::Classic) { form.text("memory", "256m") } else { form }
}

/// The image under the build's own tag, asked of the engine itself.
async fn own_image(engine: &Docker, build: &Value) -> Option<String> {
    let tag = local_tag(id(build).parse().expect("an id"));
    engine.image_id(&tag).await.expect("the engine answers").map(|image| image.to_string())
}

/// One of many builds of the same: one in four is pushed; it is deleted as soon as it has ended.
///
/// Those that are not pushed do the very same, and join each other; in a `project` of its own each makes the image.
async fn come_and_go(
    service: &Running,
    engine: &Docker,
    text: &str,
    builder: Builder,
    image: Option<String>,
    project: Option<String>,
) {
    let mut form = match &image {
        Some(image) => form(text, builder).text("image", image.clone()),
        None => form(text, builder).text("push", "false"),
    };
    if let Some(project) = project {
        form = form.text("project", project);
    }
    let build = service.submit(form).await;
    let ended = service.ended(&build).await;
    let log = service.log(&build).await;
    assert_eq!(ended["state"], if image.is_some() { "published" } else { "built" }, "{ended}\n{log}");
    assert_eq!(own_image(engine, &build).await.as_deref(), ended["image_id"].as_str(), "it is there: {ended}\n{log}");
    if let Some(image) = image {
        assert_eq!(ended["destinations"][0]["digest"].as_str(), tag_digest(&image, None).await.as_deref(), "{ended}");
    }
    assert_eq!(service.delete(&build).await.json::<Value>().await.expect("JSON")["record"], "removed");
    assert_eq!(own_image(engine, &build).await, None);
}

async fn same_again_and_again(builder: Builder) {
    let service = service::start_with(Backend::Sqlite, |s| s.workers = Some(AT_ONCE as u32)).await;
    let text = format!("FROM busybox\nRUN echo {} > /x\nRUN true\n", unique("same"));
    let image = format!("{}/{}", registry(), unique("same"));
    let engine = Docker::connect(None).expect("the usual socket");
    let builds = (0..times(40, 2000)).map(|n| {
        let image = (n % 4 == 0).then(|| format!("{image}:{n}"));
        let project = (n % 3 != 0).then(|| format!("project-{n}"));
        come_and_go(&service, &engine, &text, builder, image, project)
    });
    futures::stream::iter(builds).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]));
    let busybox = docker(&["run", "--rm", "--network", "none", "busybox", "echo", "whole"]);
    assert_eq!(busybox, "whole", "the base image is unharmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_of_the_same_are_safe_from_each_others_deletes() {
    same_again_and_again(Builder::Buildkit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_builds_of_the_same_are_safe_from_each_others_deletes() {
    same_again_and_again(Builder::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_went_before_its_push_is_built_again() {
    let gate = crate::support::gate::Gate::before(crate::support::gate::Behind::Tcp(registry()), "/v2/", 0).await;
    let service = service::start(Backend::Sqlite).await;
    let path = unique("went");
    let text = format!("FROM busybox\nRUN echo {path} > /x\n");
    let build = service.submit(dockerfile(&text).text("image", format!("{}/{path}:1", gate.address))).await;
    gate.reached().await;
    // Somebody tidies the engine up between the build and the push.
    docker(&["rmi", &format!("dockwright.local/build:{}", id(&build))]);
    assert!(!has_local_tag(&build));
    gate.open();
    let ended = service.ended(&build).await;
    let log = service.log(&build).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"published".into(), &1.into()), "{ended}\n{log}");
    assert!(log.contains("building it again"), "{log}");
    let published = tag_digest(&format!("{}/{path}:1", registry()), None).await;
    assert_eq!(ended["destinations"][0]["digest"].as_str(), published.as_deref());
    service.delete(&build).await;
}
