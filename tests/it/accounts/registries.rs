//! Credentials that an owner keeps: sent to their host and nobody else, and used by the builds that name them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::people::{one_worker_behind_a_gate, queued, quiet, send};
use super::recorder::Recorder;
use crate::support::service::{Backend, Running, dockerfile, id, start, tag_digest};
use crate::support::{private_registry, registry, unique};

/// Keeps credentials for the caller; the status.
async fn put(service: &Running, token: &str, name: &str, server: &str, login: (&str, &str)) -> StatusCode {
    let form = json!({"server": server, "username": login.0, "password": login.1});
    send(service.request_as(token, Method::PUT, &format!("/api/v1/registries/{name}")).json(&form)).await.0
}

async fn check(service: &Running, name: &str) -> Value {
    let (status, told) = send(service.request(Method::POST, &format!("/api/v1/registries/{name}/check"))).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    told
}

fn answer(head: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n")
}

/// Whether any request shows who sends it.
fn with_authorization(heard: &[String]) -> Vec<&String> {
    heard.iter().filter(|request| request.to_ascii_lowercase().contains("authorization:")).collect()
}

async fn a_liar_gets_nothing(lie: impl Fn(&str) -> String) {
    let service = start(Backend::Sqlite).await;
    let foreign = Recorder::start("127.0.0.2", |_| answer("200 OK")).await;
    let told = lie(&foreign.host());
    let liar = Recorder::start("127.0.0.1", move |_| told.clone()).await;
    let canary = unique("Canary");
    assert_eq!(put(&service, &service.token, "liar", &liar.host(), ("robot", &canary)).await, StatusCode::CREATED);
    let checked = check(&service, "liar").await;
    assert_eq!(checked["ok"], false, "{checked}");
    assert!(!checked.to_string().contains(&canary));
    let form = dockerfile("FROM busybox\n").text("image", format!("{}/{}", liar.host(), unique("x"))).text("registry", "liar");
    let ended = service.ended(&service.submit(form).await).await;
    assert_eq!((&ended["state"], &ended["error"]["stage"]), (&"failed".into(), &"push".into()), "{ended}");
    let (at_liar, elsewhere) = (liar.requests(), foreign.requests());
    assert!(at_liar.len() >= 2, "it was asked by both: {at_liar:?}");
    assert_eq!(with_authorization(&at_liar), Vec::<&String>::new());
    assert_eq!(with_authorization(&elsewhere), Vec::<&String>::new());
    for request in at_liar.iter().chain(&elsewhere) {
        assert!(!request.contains(&canary), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_redirects_gets_no_credentials() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        a_liar_gets_nothing(|foreign| answer(&format!("{status}\r\nlocation: http://{foreign}/v2/"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_names_a_foreign_realm_gets_no_credentials() {
    a_liar_gets_nothing(|foreign| {
        answer(&format!("401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{foreign}/token\",service=\"x\""))
    })
    .await;
    a_liar_gets_nothing(|foreign| {
        let challenge = format!("Bearer realm=\"http://127.0.0.1@{foreign}/token\"");
        answer(&format!("401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\nwww-authenticate: {challenge}"))
    })
    .await;
}

async fn a_stored_registry_is_used_by_its_owners_builds(backend: Backend) {
    let service = start(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let (host, user, password) = private_registry();
    assert_eq!(put(&service, &ada, "private", &host, (&user, &password)).await, StatusCode::CREATED);
    let open = registry();
    assert_eq!(put(&service, &ada, "open", &open, ("anybody", "anything")).await, StatusCode::CREATED);
    let images = [format!("{host}/{}:1", unique("two")), format!("{open}/{}:1", unique("two"))];
    let form = || {
        let form = dockerfile("FROM busybox\n").text("image", images[0].clone()).text("image", images[1].clone());
        form.text("registry", "private").text("registry", "open")
    };
    let build = service.submit_as(&ada, form()).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(&build).await);
    assert!(!ended.to_string().contains(&password));
    for (at, login) in [(0, Some((&*user, &*password))), (1, None)] {
        let digest = tag_digest(&images[at], login).await;
        assert!(digest.is_some() && ended["destinations"][at]["digest"].as_str() == digest.as_deref(), "{ended}");
    }
    // The names are hers: for another they are not there. Of several for one host it is not clear which.
    let (status, told) = send(service.request_as(&bob, Method::POST, "/api/v1/builds").multipart(form())).await;
    assert_eq!((status.as_u16(), told["errors"].as_array().map(Vec::len)), (400, Some(2)), "{told}");
    assert_eq!(put(&service, &ada, "again", &host, (&user, &password)).await, StatusCode::CREATED);
    let sent = service.request_as(&ada, Method::POST, "/api/v1/builds").multipart(form().text("registry", "again"));
    let (status, told) = send(sent).await;
    assert_eq!((status.as_u16(), &told["errors"][0]["field"]), (400, &"registry".into()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_registry_is_used_by_its_owners_builds_with_the_embedded_store() {
    a_stored_registry_is_used_by_its_owners_builds(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_registry_is_used_by_its_owners_builds_with_redis() {
    a_stored_registry_is_used_by_its_owners_builds(Backend::Redis).await;
}

/// Waits behind a build that a gate holds; then its own turn comes.
async fn a_build_keeps_what_it_was_given(backend: Backend) {
    let (gate, service) = one_worker_behind_a_gate(backend).await;
    let (host, user, password) = private_registry();
    assert_eq!(put(&service, &service.token, "private", &host, (&user, &password)).await, StatusCode::CREATED);
    let first = service.submit(dockerfile("FROM busybox\n").text("push", "false")).await;
    gate.reached().await;
    let submit = async || {
        let image = format!("{host}/{}:1", unique("given"));
        (service.submit(dockerfile("FROM busybox\n").text("image", image.clone()).text("registry", "private")).await, image)
    };
    let (given, gone) = (submit().await, submit().await);
    assert_eq!(put(&service, &service.token, "private", &host, (&user, "changed meanwhile")).await, StatusCode::OK);
    let wrong = submit().await;
    let delete = service.request(Method::DELETE, "/api/v1/registries/private");
    assert_eq!(send(delete).await.0, StatusCode::NO_CONTENT);
    for build in [&given.0, &gone.0, &wrong.0] {
        assert_eq!(service.get(&format!("/api/v1/builds/{}", id(build))).await["state"], "queued");
    }
    gate.open();
    assert_eq!(service.ended(&first).await["state"], "built");
    for ((build, image), state) in [(given, "published"), (gone, "published"), (wrong, "failed")] {
        let ended = service.ended(&build).await;
        assert_eq!(ended["state"], state, "{ended}\n{}", service.log(&build).await);
        assert_eq!(tag_digest(&image, Some((&user, &password))).await.is_some(), state == "published");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_keeps_what_it_was_given_with_the_embedded_store() {
    a_build_keeps_what_it_was_given(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_keeps_what_it_was_given_with_redis() {
    a_build_keeps_what_it_was_given(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_is_refused_and_a_check_says_what_the_registry_says() {
    let service = quiet(Backend::Sqlite).await;
    let (host, user, password) = private_registry();
    for (server, login) in [
        ("http://127.0.0.1:5001", ("u", "p")),
        ("team", ("u", "p")),
        (&*host, ("", "p")),
        (&*host, ("u", "")),
        ("h:1/x", ("u", "p")),
    ] {
        assert_eq!(put(&service, &service.token, "bad", server, login).await, StatusCode::BAD_REQUEST, "{server} {login:?}");
    }
    let path = "/api/v1/registries/a%2Fb";
    let form = json!({"server": host, "username": user, "password": password});
    assert_eq!(send(service.request(Method::PUT, path).json(&form)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(send(service.request(Method::GET, "/api/v1/registries/bad")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(put(&service, &service.token, "it", &host, (&user, "wrong")).await, StatusCode::CREATED);
    let told = check(&service, "it").await;
    assert_eq!((&told["ok"], &told["code"]), (&false.into(), &"registry_auth".into()), "{told}");
    assert_eq!(put(&service, &service.token, "it", &host, (&user, &password)).await, StatusCode::OK);
    assert_eq!(check(&service, "it").await, json!({"ok": true, "code": null, "message": null}));
    assert!(!queued(&service, &service.token).await.is_empty());
}
