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

/// A registry with one face for the service and another for engines, which it sends to a foreign token server.
/// `honest` is what the service is told; both get what it makes of a request's head.
async fn two_faced(honest: impl Fn(&str) -> String + Send + Sync + 'static) -> (Recorder, Recorder) {
    let foreign = Recorder::start("127.0.0.2", |_| answer_with("200 OK", r#"{"token":"harvested","expires_in":300}"#)).await;
    let realm = format!("401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{}/token\",service=\"x\"", foreign.host());
    let liar = Recorder::start("127.0.0.1", move |head| {
        if head.to_ascii_lowercase().contains("user-agent: dockwright/") { honest(head) } else { answer(&realm) }
    });
    (liar.await, foreign)
}

fn answer_with(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn asks_nothing(_: &str) -> String {
    answer("202 Accepted")
}

/// A token of its own, for the right password.
fn asks_a_token(head: &str) -> String {
    let lower = head.to_ascii_lowercase();
    let host = lower.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned();
    if lower.starts_with("get /token") {
        answer_with("200 OK", r#"{"token":"for-its-own","expires_in":300}"#)
    } else if lower.contains("authorization: bearer for-its-own") {
        answer("202 Accepted")
    } else {
        answer(&format!("401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{host}/token\",service=\"x\""))
    }
}

/// The heads of what the engine has sent, or somebody in its stead.
fn of_the_engine(heard: Vec<String>) -> Vec<String> {
    heard.into_iter().filter(|head| !head.to_ascii_lowercase().contains("user-agent: dockwright/")).collect()
}

/// Builds with credentials for a registry with two faces: none of its passwords is anywhere but where the service has sent it.
async fn two_faces_see_no_password(honest: fn(&str) -> String, limits: bool, pull: bool) -> Value {
    let service = start(Backend::Sqlite).await;
    let (liar, foreign) = two_faced(honest).await;
    let canary = unique("Canary");
    assert_eq!(put(&service, &service.token, "liar", &liar.host(), ("robot", &canary)).await, StatusCode::CREATED);
    let image = format!("{}/{}:1", liar.host(), unique("x"));
    let mut form = dockerfile(&format!("FROM {}\n", if pull { &image } else { "busybox" })).text("registry", "liar");
    form = form.text("image", image);
    if limits {
        form = form.text("memory", "64m");
    }
    let ended = service.ended(&service.submit(form).await).await;
    assert_eq!(
        (&ended["state"], &ended["error"]["stage"]),
        (&"failed".into(), &if pull { "build" } else { "push" }.into()),
        "{ended}"
    );
    let (at_liar, elsewhere) = (of_the_engine(liar.requests()), foreign.requests());
    assert!(!at_liar.is_empty(), "the engine has come: {ended}\n{}", service.log(&ended).await);
    assert_eq!(with_authorization(&elsewhere), Vec::<&String>::new(), "{ended}");
    let shown = with_authorization(&at_liar);
    assert!(shown.iter().all(|head| head.to_ascii_lowercase().contains("authorization: bearer ")), "{shown:?}");
    for head in at_liar.iter().chain(&elsewhere) {
        assert!(!head.contains(&canary) && !head.contains("account=robot"), "{head}");
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_pushes_is_given_nothing_that_the_service_was_not_asked_for() {
    two_faces_see_no_password(asks_nothing, false, false).await;
    two_faces_see_no_password(asks_a_token, false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_pulls_is_given_no_password_for_a_foreign_realm() {
    for honest in [asks_nothing, asks_a_token] {
        let ended = two_faces_see_no_password(honest, false, true).await;
        assert_eq!((&ended["error"]["code"], &ended["error"]["kind"]), (&"foreign_realm".into(), &"auth".into()), "{ended}");
    }
    two_faces_see_no_password(asks_nothing, true, true).await;
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
async fn an_admin_sees_whose_registries_there_are() {
    for backend in [Backend::Sqlite, Backend::Redis] {
        let service = quiet(backend).await;
        let ada = service.user("ada").await;
        let bob = service.user("bob").await;
        for (token, user) in [(&ada, "a"), (&bob, "b"), (&service.token, "c")] {
            assert_eq!(put(&service, token, "team", "127.0.0.1:1", (user, "secret")).await, StatusCode::CREATED);
        }
        let list = async |token: &str, query: &str| {
            let (status, page) = send(service.request_as(token, Method::GET, &format!("/api/v1/registries{query}"))).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let items = page["items"].as_array().expect("a list");
            items.iter().map(|one| format!("{} {}", one["owner"], one["username"]).replace('"', "")).collect::<Vec<_>>()
        };
        assert_eq!(list(&service.token, "").await, ["admin c", "bob b", "ada a"]);
        assert_eq!(list(&service.token, "?owner=ada").await, ["ada a"]);
        assert_eq!((list(&ada, "").await, list(&ada, "?owner=bob").await), (vec!["ada a".to_owned()], vec![]));
        let (_, one) = send(service.request(Method::GET, "/api/v1/registries/team?owner=bob")).await;
        assert_eq!((&one["owner"], &one["username"]), (&"bob".into(), &"b".into()), "{one}");
        let gone = send(service.request(Method::DELETE, "/api/v1/registries/team?owner=bob")).await.0;
        assert_eq!((gone, list(&service.token, "").await), (StatusCode::NO_CONTENT, vec!["admin c".into(), "ada a".into()]));
    }
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
