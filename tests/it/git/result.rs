//! What a build tells of its origin, of its context, and of what it made.

use serde_json::{Value, json};

use super::service;
use crate::support::git::GitHost;
use crate::support::service::{Backend, docker, id, tag_digest};
use crate::support::{registry, unique};

async fn tells_its_origin(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let repository = host.repository("app");
    let commit = repository.commit(&[("Dockerfile", "FROM scratch\nLABEL own=1\nCOPY . /\n"), ("x", &unique("x"))]);
    let image = format!("{}/{}:1", registry(), unique("origin"));
    let form = || reqwest::multipart::Form::new().text("git", format!("{}#main", repository.url)).text("image", image.clone());
    let build = service.submit(form()).await;
    assert_eq!((&build["result"], &build["warnings"]), (&Value::Null, &json!([])), "{build}");
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(&build).await);
    let labels = json!({
        "org.opencontainers.image.source": repository.url,
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.created": "2024-05-06T07:08:09.000Z",
        "own": "1",
    });
    let digest = tag_digest(&image, None).await.expect("a digest");
    let result = json!({"digests": [digest], "size_bytes": ended["size_bytes"], "labels": labels, "attestations": []});
    assert_eq!(ended["result"], result);
    assert_eq!((&ended["context"]["git"]["commit"], &ended["context"]["git"]["ref"]), (&commit.as_str().into(), &"main".into()));
    let real: Value = serde_json::from_str(&docker(&[
        "image",
        "inspect",
        "-f",
        "{{json .Config.Labels}}",
        &format!("dockwright.local/build:{}", id(&build)),
    ]))
    .expect("JSON");
    assert_eq!(real, labels, "as the engine has it");
    // The repository's name is the project only where no image names one.
    assert_eq!(ended["options"]["project"], image.rsplit_once(':').expect("a tag").0);
    let again = service.ended(&service.submit(form()).await).await;
    assert_eq!((&again["image_id"], &again["result"]["digests"]), (&ended["image_id"], &ended["result"]["digests"]));
    let dockerfile = format!("FROM scratch\nLABEL \"org.opencontainers.image.created\"=mine\nCOPY x /\n# {}\n", unique("x"));
    let own = form()
        .text("label", "org.opencontainers.image.source=elsewhere")
        .part("file", reqwest::multipart::Part::text(dockerfile));
    let own = service.ended(&service.submit(own).await).await;
    let label = |name: &str| own["result"]["labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!((label("source"), label("created"), label("revision")), ("elsewhere".into(), "mine".into(), commit.into()));
    for build in [&ended, &again, &own] {
        service.delete(build).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_tells_its_origin_with_the_embedded_store() {
    tells_its_origin(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_tells_its_origin_with_redis() {
    tells_its_origin(Backend::Redis).await;
}
