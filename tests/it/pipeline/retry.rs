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
    a_retry_is_as_old_as_its_build_unless_it_is_forced,
    what_is_gone_is_built_again_also_when_the_first_build_is_deleted,
    a_retry_is_refused_while_the_build_goes_on_and_repeats_by_its_key,
    quotas_hold_for_retries,
    with_its_secrets_sent_again_a_build_is_made_again_and_without_only_pushed,
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

async fn a_retry_is_as_old_as_its_build_unless_it_is_forced(backend: Backend) {
    let service = service::start(backend).await;
    let (private, user, password) = private_registry();
    keep_registry(&service, "private", (&private, &user, "wrong-at-first")).await;
    let path = unique("age");
    let (open, closed) = (format!("{}/{path}:latest", registry()), format!("{private}/{path}:latest"));
    let submit = async |name: &str| {
        let form = dockerfile(&format!("FROM busybox\nLABEL a={path}-{name}\n")).text("image", open.clone());
        service.ended(&service.submit(form.text("image", closed.clone()).text("registry", "private")).await).await
    };
    let login = Some((user.as_str(), password.as_str()));
    let named = async |build: &Value| {
        let digests = [tag_digest(&open, None).await, tag_digest(&closed, login).await];
        digests.iter().all(|digest| digest.is_some() && digest.as_deref() == build["destinations"][0]["digest"].as_str())
    };
    let older = submit("older").await;
    assert_eq!((&older["state"], &older["destinations"][0]["state"]), (&"failed".into(), &"pushed".into()), "{older}");
    keep_registry(&service, "private", (&private, &user, &password)).await;
    let younger = submit("younger").await;
    assert_eq!(younger["state"], "published", "{younger}");

    // Neither what was pushed nor what is missing goes back, also when it has to be built again.
    for image in ["kept", "gone"] {
        if image == "gone" {
            docker(&["rmi", &format!("dockwright.local/build:{}", id(&older))]);
        }
        let again = service.ended(&retried(retry(&service, id(&older))).await).await;
        assert_eq!((&again["state"], &again["superseded_by"]), (&"cancelled".into(), &younger["id"]), "{image}: {again}");
        assert_eq!(again["message"], format!("Superseded by build {}", id(&younger)));
        assert!(named(&younger).await, "{image}: {again}");
        assert!(service.log(&again).await.contains("force=true"), "it says how to go back");
    }
    let forced = Form::new().text("force", "true");
    let forced = service.ended(&retried(retry(&service, id(&older)).multipart(forced)).await).await;
    assert_eq!(forced["state"], "published", "{forced}");
    assert!(named(&forced).await && !named(&younger).await, "{forced}");
    // It is a young build from now on.
    let again = service.ended(&retried(retry(&service, id(&younger))).await).await;
    assert_eq!((&again["state"], &again["superseded_by"]), (&"cancelled".into(), &forced["id"]), "{again}");
    let back = service.ended(&retried(retry(&service, id(&younger)).json(&json!({"force": true}))).await).await;
    assert_eq!(back["state"], "published", "{back}");
    assert!(named(&back).await && named(&younger).await, "{back}");
}

async fn what_is_gone_is_built_again_also_when_the_first_build_is_deleted(backend: Backend) {
    let service = service::start(backend).await;
    let (private, user, password) = private_registry();
    let path = unique("gone");
    let image = format!("{private}/{path}:1");
    let files = tar(&[("Dockerfile", "FROM busybox\nCOPY mark /mark\n"), ("mark", &path)]);
    let form = context(files).text("image", image.clone()).text("username", user.clone()).text("password", "wrong");
    let first = service.ended(&service.submit(form).await).await;
    assert_eq!(first["state"], "failed", "no registry has it: {first}");

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
        (json!({"force": "x"}), "invalid_json"),
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

/// A build with two secrets that a registry has refused, and whose image is gone from the engine, if `gone`.
async fn refused_with_secrets(service: &Running, private: &str, gone: bool) -> Value {
    let path = unique("secrets");
    let text = format!("FROM busybox\nRUN --mount=type=secret,id=a,required=true test -s /run/secrets/a && echo {path} >/x\n");
    let form = dockerfile(&text).text("image", format!("{private}/{path}:1")).text("registry", "private");
    let build = service.submit(form.text("secret.a", "one-secret").text("secret.b", "other-secret")).await;
    let ended = service.ended(&build).await;
    assert_eq!((&ended["state"], &ended["error"]["kind"]), (&"failed".into(), &"auth".into()), "{ended}");
    if gone {
        docker(&["rmi", &format!("dockwright.local/build:{}", id(&ended))]);
    }
    ended
}

async fn with_its_secrets_sent_again_a_build_is_made_again_and_without_only_pushed(backend: Backend) {
    let service = service::start(backend).await;
    let (private, user, password) = private_registry();
    keep_registry(&service, "private", (&private, &user, "wrong-at-first")).await;
    let (kept, gone) =
        (refused_with_secrets(&service, &private, false).await, refused_with_secrets(&service, &private, true).await);
    keep_registry(&service, "private", (&private, &user, &password)).await;

    let pushed = service.ended(&retried(retry(&service, id(&kept))).await).await;
    let log = service.log(&pushed).await;
    assert_eq!((&pushed["state"], &pushed["image_id"]), (&"published".into(), &kept["image_id"]), "{pushed}\n{log}");
    assert!(log.contains("only what is missing is pushed") && !log.contains("RUN --mount"), "{log}");

    let without = service.ended(&retried(retry(&service, id(&gone))).await).await;
    assert_eq!((&without["state"], &without["error"]["code"]), (&"failed".into(), &"cannot_build_again".into()), "{without}");
    for (form, code, field) in [
        (Form::new().text("secret.a", "one-secret"), "secret_missing", "secret.b"),
        (Form::new().text("secret.a", "1").text("secret.b", "2").text("secret.c", "3"), "secret_unknown", "secret.c"),
        (Form::new().text("secret.a", "1").text("secret.b", "2").text("ssh.default", "no key"), "invalid_secret", "ssh.default"),
    ] {
        let (status, problem) = send(retry(&service, id(&gone)).multipart(form)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &code.into()), "{problem}");
        let fields: Vec<&Value> = problem["errors"].as_array().expect("errors").iter().map(|one| &one["field"]).collect();
        assert_eq!(fields, [field], "{problem}");
    }
    let all = Form::new().text("secret.b", "other-secret").text("secret.a", "one-secret");
    let again = service.ended(&retried(retry(&service, id(&gone)).multipart(all)).await).await;
    let log = service.log(&again).await;
    assert_eq!((&again["state"], &again["options"]["secrets"]), (&"published".into(), &json!(["a", "b"])), "{again}\n{log}");
    assert!(log.contains("RUN --mount"), "it was built again: {log}");
    for build in [&kept, &gone, &pushed, &without, &again] {
        service.delete(build).await;
    }
}
