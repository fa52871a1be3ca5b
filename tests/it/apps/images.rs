//! Images: an owner's own, and what is told when they cannot be had.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{harbor, word};
use crate::support::service::{Backend, docker, dockerfile, id, tag_digest};
use crate::support::{private_registry, published_image, registry, unique};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_told_in_the_registrys_words() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let image = format!("{}/{}:1", registry(), unique("missing"));
    let run = harbor.run(&ada, json!({"image": image})).await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["state"], &over["error"]["code"]), (&"failed".into(), &"image_not_found".into()), "{over}");
    assert!(word(&over["error"]["message"]).contains("manifest"), "{over}");
    assert!(harbor.run_log(&ada, &run).await.contains(word(&over["error"]["message"])));
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"image_not_found".into()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_shown_and_removed() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = published_image("shown");
    // Told as it goes.
    let asked = harbor.request_as(&ada, Method::POST, "/api/v1/images/pull").header("accept", "text/event-stream");
    let told = asked.json(&json!({"image": image})).send().await.expect("an answer").text().await.expect("text");
    assert!(told.contains("event: progress") && told.contains("Pull complete") && told.contains("event: done"), "{told}");
    let shown = harbor.read(&ada, &format!("/api/v1/images/{image}")).await;
    assert_eq!(
        (&shown["reference"], &shown["private"], &shown["used_by"]["containers"]),
        (&image.clone().into(), &false.into(), &json!([]))
    );
    assert!(shown["size_bytes"].as_u64() > Some(1000), "{shown}");
    assert_eq!(harbor.call(&bob, Method::GET, &format!("/api/v1/images/{image}"), Value::Null).await.0, StatusCode::NOT_FOUND);
    let run = harbor.run(&ada, json!({"image": image, "command": ["cat", "/made-of"], "network": "none"})).await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!(harbor.output(&ada, &run).await, format!("{image}\n"));
    let (status, told) = harbor.call(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"image_in_use".into()));
    assert!(word(&told["detail"]).contains(word(&over["container_name"])), "{told}");
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await;
    // Under another name, and to the registry under that.
    let other = format!("{}/{}:2", registry(), unique("other"));
    harbor.done(&ada, Method::POST, "/api/v1/images/tag", json!({"image": image, "tag": other})).await;
    let pushed = harbor.done(&ada, Method::POST, "/api/v1/images/push", json!({"image": other})).await;
    assert_eq!(tag_digest(&other, None).await.as_deref(), Some(word(&pushed["digest"])));
    assert_eq!(tag_digest(&image, None).await, tag_digest(&other, None).await);
    let theirs = harbor.call(&bob, Method::POST, "/api/v1/images/push", json!({"image": other})).await;
    assert_eq!(theirs.0, StatusCode::NOT_FOUND, "{theirs:?}");
    for name in [&image, &other] {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{name}"), Value::Null).await;
        assert_eq!(docker(&["images", "-q", name]), "");
    }
    assert_eq!(harbor.read(&ada, "/api/v1/images").await["items"], json!([]));
}

/// What somebody's credentials brought here is for nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_of_one_is_not_there_for_another() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let (host, user, password) = private_registry();
    let image = format!("{host}/{}:1", unique("private"));
    let file = format!("FROM busybox\nRUN echo {image} > /secret\n");
    let form = dockerfile(&file).text("image", image.clone()).text("username", user.clone()).text("password", password.clone());
    let build = harbor.submit(form).await;
    assert_eq!(harbor.ended(&build).await["state"], "published");
    harbor.delete(&build).await;
    let kept = json!({"server": host, "username": user, "password": password});
    harbor.done(&ada, Method::PUT, "/api/v1/registries/private", kept).await;
    let fields = json!({"image": image, "command": ["cat", "/secret"], "network": "none"});
    assert_eq!(harbor.prints(&ada, fields.clone()).await, format!("{image}\n"));
    assert_eq!(harbor.read(&ada, &format!("/api/v1/images/{image}")).await["private"], true);
    let run = harbor.run(&bob, fields.clone()).await;
    let over = harbor.over(&bob, &run).await;
    assert_eq!(
        (&over["state"], &over["error"]["kind"], &over["error"]["code"]),
        (&"failed".into(), &"auth".into(), &"registry_auth".into()),
        "{over}"
    );
    // Nor by its id, nor by another name for it.
    let by_id = word(&harbor.read(&ada, &format!("/api/v1/images/{image}")).await["image_id"]).to_owned();
    let tag = harbor.call(&bob, Method::POST, "/api/v1/images/tag", json!({"image": image, "tag": "mine:1"})).await;
    assert_eq!(tag.0, StatusCode::NOT_FOUND, "{tag:?}");
    let by_id = harbor.call(&bob, Method::POST, "/api/v1/containers", json!({"image": by_id})).await;
    assert_eq!(by_id.0, StatusCode::BAD_REQUEST, "{by_id:?}");
    for run in harbor.read(&ada, "/api/v1/runs").await["items"].as_array().expect("a list") {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_for_many_runs_is_one() {
    let gate = crate::support::gate::Gate::engine("/images/create?", 0).await;
    let harbor = crate::support::harbor::harbor_with(Backend::Sqlite, |settings| {
        settings.engine = Some(format!("tcp://{}", gate.address));
    })
    .await;
    let ada = harbor.user("ada").await;
    let image = published_image("once");
    let fields = json!({"image": image, "command": ["true"], "network": "none"});
    let mut runs = Vec::new();
    for _ in 0..4 {
        let run = harbor.run(&ada, fields.clone()).await;
        runs.push(harbor.run_until(&ada, &run, |run| run["state"] == "pulling").await);
    }
    gate.reached().await;
    gate.open();
    for run in &runs {
        let over = harbor.over(&ada, run).await;
        assert_eq!(over["state"], "exited", "{over}");
        assert!(word(&over["image"]).contains("@sha256:"), "{over}");
        let log = harbor.run_log(&ada, run).await;
        assert!(log.contains("Pulling from") && log.contains("has pulled"), "{log}");
    }
    assert_eq!(
        gate.requests("POST ").iter().filter(|line| line.contains("/images/create?")).count(),
        1,
        "{:?}",
        gate.requests("POST")
    );
    for run in &runs {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
}
