//! Another key while the service works.

use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::people::{one_worker_behind_a_gate, send};
use crate::support::service::{Backend, dockerfile, tag_digest};
use crate::support::{private_registry, unique, watch};

fn keys(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).expect("a key file").lines().map(str::to_owned).collect()
}

async fn another_key_while_builds_wait(backend: Backend) {
    let (gate, service) = one_worker_behind_a_gate(backend).await;
    let (host, user, password) = private_registry();
    let form = json!({"server": host, "username": user, "password": password});
    assert_eq!(send(service.request(Method::PUT, "/api/v1/registries/private").json(&form)).await.0, StatusCode::CREATED);
    let submit = async |name: &str| {
        let image = format!("{host}/{}:1", unique("rotated"));
        let form = dockerfile("FROM busybox\n").text("image", image.clone());
        let form = if name == "own" {
            form.text("username", user.clone()).text("password", password.clone())
        } else {
            form.text("registry", "private")
        };
        (service.submit(form).await, image)
    };
    // The first is under way, the others wait.
    let mut builds = vec![submit("own").await];
    gate.reached().await;
    builds.extend([submit("own").await, submit("stored").await]);
    let file = service.config.key_file.clone();
    let before = keys(&file);
    let (status, told) = send(service.request(Method::POST, "/api/v1/keys/rotate")).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!((&told["registries"], &told["builds"]), (&1.into(), &3.into()), "{told}");
    let after = keys(&file);
    assert_eq!((before.len(), after.len(), &after[1]), (1, 2, &before[0]), "the old one is still there to read with");
    builds.push(submit("stored").await);
    gate.open();
    for (build, image) in &builds {
        let ended = service.ended(build).await;
        assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(build).await);
        assert!(tag_digest(image, Some((&user, &password))).await.is_some());
    }
    // Every process has had its minute to learn of the new key: the janitor's next pass takes the old one away.
    let minutes_ago = SystemTime::now() - Duration::from_secs(600);
    std::fs::File::open(&file).and_then(|file| file.set_modified(minutes_ago)).expect("set back");
    watch("the old key is gone", || keys(&file).len() == 1).await;
    assert_eq!(keys(&file), after[..1]);
    let check = send(service.request(Method::POST, "/api/v1/registries/private/check")).await;
    assert_eq!(check.1["ok"], true, "{}", check.1);
    assert_eq!(service.ended(&submit("stored").await.0).await["state"], "published");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_while_builds_wait_with_the_embedded_store() {
    another_key_while_builds_wait(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_while_builds_wait_with_redis() {
    another_key_while_builds_wait(Backend::Redis).await;
}
