//! `POST /api/v1/builds/{id}/retry`.

use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{keep_registry, now, on_both_stores};
use crate::accounts::people::{queued, quiet, send};
use crate::support::service::{self, Backend, Running, context, docker, dockerfile, has_local_tag, id, tag_digest, tar};
use crate::support::{private_registry, registry, unique};

on_both_stores!(
    only_what_is_missing_is_pushed_again,
    what_is_gone_is_built_again_also_when_the_first_build_is_deleted,
    a_retry_is_refused_while_the_build_goes_on_and_repeats_by_its_key,
    quotas_hold_for_retries,
);

fn retry(service: &Running, build: &str) -> RequestBuilder {
    service.request(Method::POST, &format!("/api/v1/builds/{build}/retry"))
}

async fn retried(request: RequestBuilder) -> Value {
    let (status, build) = send(request).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{build}");
    build
}

async fn only_what_is_missing_is_pushed_again(backend: Backend) {
    let service = service::start(backend).await;
    let (private, user, password) = private_registry();
    keep_registry(&service, "private", (&private, &user, "wrong-at-first")).await;
    let path = unique("retry");
    let (open, closed) = (format!("{}/{path}:1", registry()), format!("{private}/{path}:1"));
    let text = format!("FROM busybox\nRUN echo {path} > /x\n");
    let form = dockerfile(&text).text("image", open.clone()).text("image", closed.clone()).text("registry", "private");
    let first = service.ended(&service.submit(form).await).await;
    assert_eq!((&first["state"], &first["destinations"][0]["state"]), (&"failed".into(), &"pushed".into()), "{first}");

    keep_registry(&service, "private", (&private, &user, &password)).await;
    let again = service.ended(&retried(retry(&service, id(&first))).await).await;
    let log = service.log(&again).await;
    assert_eq!((&again["state"], &again["retry_of"]), (&"published".into(), &first["id"]), "{again}\n{log}");
    assert_eq!(again["image_id"], first["image_id"]);
    assert!(log.contains("only what is missing is pushed") && !log.contains("RUN echo"), "it is not built again: {log}");
    assert!(!log.contains(&format!("Pushing to {open}")) && log.contains(&format!("Pushing to {closed}")), "{log}");
    let login = Some((user.as_str(), password.as_str()));
    let there = [tag_digest(&open, None).await, tag_digest(&closed, login).await];
    for (index, digest) in there.iter().enumerate() {
        assert!(digest.is_some() && again["destinations"][index]["digest"].as_str() == digest.as_deref(), "{again}");
    }
    assert_eq!(again["destinations"][0]["carried_from"], first["id"]);
    assert_eq!(again["stages"][0]["state"], "done");

    // Somebody has moved the tag since: it is brought back. The image is this build's own: the first may go.
    docker(&["tag", "busybox", &open]);
    docker(&["push", &open]);
    docker(&["rmi", &open]);
    assert_eq!(service.delete(&first).await.status(), StatusCode::OK);
    assert!(has_local_tag(&again));
    let third = service.ended(&retried(retry(&service, id(&again))).await).await;
    assert_eq!(third["state"], "published", "{third}");
    assert_eq!(tag_digest(&open, None).await, there[0], "{third}");
}

async fn what_is_gone_is_built_again_also_when_the_first_build_is_deleted(backend: Backend) {
    let service = service::start(backend).await;
    let (private, user, password) = private_registry();
    let path = unique("gone");
    let image = format!("{private}/{path}:1");
    let files = tar(&[("Dockerfile", "FROM busybox\nCOPY mark /mark\n"), ("mark", &path)]);
    let form = context(files).text("image", image.clone()).text("username", user.clone()).text("password", password.clone());
    let first = service.ended(&service.submit(form).await).await;
    assert_eq!(first["state"], "published", "{first}");

    let (status, problem) = send(retry(&service, id(&first))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &"credentials_needed".into()), "{problem}");
    assert_eq!(
        std::fs::read_dir(service.config.data_dir.join("contexts")).expect("a folder").count(),
        1,
        "nothing is left of it"
    );

    docker(&["rmi", &format!("dockwright.local/build:{}", id(&first))]);
    let form = Form::new().text("username", user.clone()).text("password", password.clone());
    let again = retried(retry(&service, id(&first)).multipart(form)).await;
    assert_eq!(service.delete(&first).await.status(), StatusCode::OK);
    assert!(service.config.data_dir.join("contexts").join(id(&again)).exists(), "its context is its own");
    let again = service.ended(&again).await;
    let log = service.log(&again).await;
    assert_eq!(again["state"], "published", "{again}\n{log}");
    assert!(log.contains("COPY mark"), "{log}");
    assert_eq!((&again["destinations"][0]["carried_from"], &again["options"]["username"]), (&Value::Null, &user.clone().into()));
    let digest = tag_digest(&image, Some((user.as_str(), password.as_str()))).await;
    assert_eq!(again["destinations"][0]["digest"].as_str(), digest.as_deref());
    service.delete(&again).await;
}

async fn a_retry_is_refused_while_the_build_goes_on_and_repeats_by_its_key(backend: Backend) {
    let service = quiet(backend).await;
    let build = queued(&service, &service.token).await;
    let (status, problem) = send(retry(&service, &build)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &"not_finished".into()), "{problem}");
    service.cancel(&json!({"id": build})).await;

    let keyed = || retry(&service, &build).header("idempotency-key", "once").json(&json!({"registry": []}));
    let first = retried(keyed()).await;
    let answer = keyed().send().await.expect("an answer");
    assert_eq!(answer.headers()["idempotent-replayed"], "true");
    assert_eq!(answer.headers()["location"].to_str().expect("text"), format!("/api/v1/builds/{}", id(&first)));
    assert_eq!(service.get("/api/v1/builds").await["items"].as_array().map(Vec::len), Some(2), "a key makes one");
    assert_eq!((&first["retry_of"], &first["state"]), (&build.as_str().into(), &"queued".into()), "{first}");

    for (form, code) in [
        (json!({"registry": "none"}), "registry_unknown"),
        (json!({"username": "u"}), "credentials_incomplete"),
        (json!({"image": "x"}), "invalid_json"),
    ] {
        let (status, problem) = send(retry(&service, &build).json(&form)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &code.into()), "{problem}");
    }
    let (status, problem) = send(retry(&service, &build).multipart(Form::new().text("image", "x"))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &"unknown_part".into()), "{problem}");
    assert_eq!(now(&service, &build).await["state"], "cancelled", "the first one is as it was");
}

async fn quotas_hold_for_retries(backend: Backend) {
    let service = quiet(backend).await;
    let form = json!({"name": "ada", "quota": {"builds_queued": 1}});
    assert_eq!(send(service.request(Method::POST, "/api/v1/users").json(&form)).await.0, StatusCode::CREATED);
    let ada = service.token_of("ada").await;
    let build = queued(&service, &ada).await;
    service.cancel(&json!({"id": build})).await;
    // Also when an admin repeats it for her.
    assert_eq!(retried(retry(&service, &build)).await["owner"], "ada");
    let (status, problem) = send(retry(&service, &build)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::TOO_MANY_REQUESTS, &"quota_exceeded".into()), "{problem}");
}
