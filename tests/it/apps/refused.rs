//! What would lead out of a container is refused at every door, and nothing of it is made.

use std::path::Path;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, docker, dockerfile};

/// Body and expected field of every specification that is to be refused.
fn corpus() -> Vec<(String, Vec<u8>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/container-specs/refused");
    let entries = std::fs::read_dir(folder).expect("the fixtures are there").map(|entry| entry.expect("an entry").path());
    let bodies = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let cases: Vec<_> = bodies
        .map(|path| {
            let field = std::fs::read_to_string(path.with_extension("field")).expect("a field");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a body"), field.trim_end().to_owned())
        })
        .collect();
    assert!(cases.len() >= 300, "only {} bodies", cases.len());
    cases
}

/// Status and answer of a body, byte for byte.
async fn send(harbor: &Harbor, token: &str, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let request = harbor.request_as(token, method, path).header("content-type", "application/json").body(body);
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// The same with a name, as a new app has one.
fn with_name(body: &[u8]) -> Vec<u8> {
    let open = body.iter().position(|b| !b.is_ascii_whitespace()).filter(|at| body[*at] == b'{');
    let Some(open) = open else { return body.to_vec() };
    let rest = &body[open + 1..];
    let comma: &[u8] = if rest.trim_ascii_start().starts_with(b"}") { b"" } else { b"," };
    [b"{\"name\": \"fresh\"", comma, rest].concat()
}

fn names_image(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("\"image\"")
}

const DOORS: [(&str, &str); 4] =
    [("POST", "/api/v1/containers"), ("POST", "/api/v1/apps"), ("PUT", "/api/v1/apps/kept"), ("PATCH", "/api/v1/apps/kept")];

fn names(answer: &Value, field: &str) -> bool {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let at = |named: &str| named.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    !errors.is_empty() && errors.iter().all(|error| at(word(&error["field"])) && !word(&error["message"]).is_empty())
}

/// What is wrong with how a door has taken one of the corpus.
async fn passed(harbor: &Harbor, token: &str, case: (String, Vec<u8>, String), door: &(&str, &str)) -> Option<String> {
    let ((name, body, field), (method, path)) = (case, *door);
    // An app has a name, and a change may leave out what is needed or take away what is there.
    let as_app = path.starts_with("/api/v1/apps") && field == "name";
    let taken_away = ["env-null", "labels-null"].contains(&name.as_str());
    let as_change = method == "PATCH" && (taken_away || !names_image(&body) && field == "image");
    if as_app || as_change {
        return None;
    }
    let sent = if path.ends_with("apps") { with_name(&body) } else { body };
    let (status, told) = send(harbor, token, method.parse().expect("a method"), path, sent).await;
    let right = status == StatusCode::BAD_REQUEST && names(&told, &field);
    (!right).then(|| format!("{method} {path} {name}, to be refused for {field}: {status} {told}"))
}

/// An admin may do more, but nothing of this.
async fn the_corpus_is_refused_at(door: usize, admin: bool) {
    let harbor = harbor(Backend::Sqlite).await;
    let token = if admin { harbor.token.clone() } else { harbor.user("ada").await };
    let app = harbor.app(&token, "kept", json!({})).await;
    let told = futures::stream::iter(corpus()).map(|case| passed(&harbor, &token, case, &DOORS[door])).buffer_unordered(16);
    let mut wrong: Vec<String> = told.filter_map(std::future::ready).collect().await;
    let (_, after) = harbor.call(&token, Method::GET, "/api/v1/apps/kept", Value::Null).await;
    if after != app {
        wrong.push(format!("the app has changed: {after}"));
    }
    assert!(wrong.is_empty(), "{} are wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    nothing_was_made(&harbor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_refused_by_field_to_run_once() {
    the_corpus_is_refused_at(0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_refused_by_field_to_run_once_by_an_admin() {
    the_corpus_is_refused_at(0, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_refused_by_field_as_an_app() {
    the_corpus_is_refused_at(1, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_refused_by_field_in_place_of_an_app() {
    the_corpus_is_refused_at(2, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_refused_by_field_as_a_change_of_an_app() {
    the_corpus_is_refused_at(3, false).await;
}

async fn nothing_was_made(harbor: &Harbor) {
    assert_eq!(harbor.read(&harbor.token, "/api/v1/runs").await["items"], json!([]));
    let ours = format!("label=dockwright.installation={}", harbor.installation);
    assert_eq!(docker(&["ps", "-aq", "--filter", &ours]), "");
}

/// A file of the host, asked for in every way in which anybody has ever got one.
#[tokio::test(flavor = "multi_thread")]
async fn no_door_leads_to_a_file_of_the_host() {
    let harbor = harbor(Backend::Sqlite).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("canary"), "alive").expect("a canary");
    let dir = folder.path().to_str().expect("text");
    let device = json!({"type": "none", "o": "bind", "device": dir});
    let asks = [
        json!({"volumes": [{"volume": dir, "path": "/x"}]}),
        json!({"volumes": [format!("{dir}:/x")]}),
        json!({"volumes": {dir: "/x"}}),
        json!({"volumes": [{"volume": format!("../../../../../..{dir}"), "path": "/x"}]}),
        json!({"volumes": [{"volume": "v", "path": "/x", "source": dir}]}),
        json!({"volumes": [{"volume": "v", "path": "/x", "driver_opts": device}]}),
        json!({"volumes": [{"volume": "v", "path": "/x", "type": "bind"}]}),
        json!({"mounts": [{"type": "bind", "source": dir, "target": "/x"}]}),
        json!({"binds": [{"source": dir, "path": "/x"}]}),
        json!({"Binds": [format!("{dir}:/x")]}),
        json!({"HostConfig": {"Binds": [format!("{dir}:/x")]}}),
        json!({"host_config": {"mounts": [{"Type": "bind", "Source": dir, "Target": "/x"}]}}),
        json!({"volume_driver": "local", "driver_opts": device}),
        json!({"volumes_from": ["any"]}),
        json!({"tmpfs": {"/x": dir}}),
        json!({"env_file": format!("{dir}/canary")}),
        json!({"extends": {"file": format!("{dir}/canary")}}),
        json!({"devices": [format!("{dir}:/x")]}),
        json!({"privileged": true}),
        json!({"pid": "host"}),
        json!({"labels": {"dockwright.owner": "admin"}}),
    ];
    let ada = harbor.user("ada").await;
    for token in [&ada, &harbor.token] {
        let app = harbor.app(token, "kept", json!({})).await;
        for ask in &asks {
            let mut whole = ask.clone();
            whole["image"] = "busybox".into();
            whole["command"] = json!(["sh", "-c", "cat /x/canary; rm -rf /x/*"]);
            let mut named = whole.clone();
            named["name"] = "fresh".into();
            for (method, path, body) in [
                (Method::POST, "/api/v1/containers", &whole),
                (Method::POST, "/api/v1/apps", &named),
                (Method::PUT, "/api/v1/apps/kept", &whole),
                (Method::PATCH, "/api/v1/apps/kept", ask),
            ] {
                let (status, told) = harbor.call(token, method.clone(), path, body.clone()).await;
                assert_eq!(
                    (status, &told["code"]),
                    (StatusCode::BAD_REQUEST, &"invalid_spec".into()),
                    "{method} {path} {body}: {told}"
                );
            }
            let form = dockerfile("FROM busybox\n").text("spec", ask.to_string());
            let sent = harbor.request_as(token, Method::POST, "/api/v1/containers").multipart(form);
            assert_eq!(sent.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST, "built: {ask}");
        }
        for (part, text) in [("volumes", format!("{dir}:/x")), ("privileged", "true".into()), ("mounts", "[]".into())] {
            let form = dockerfile("FROM busybox\n").text(part, text);
            let sent = harbor.request_as(token, Method::POST, "/api/v1/containers").multipart(form);
            assert_eq!(sent.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST, "{part}");
        }
        assert_eq!(harbor.read(token, "/api/v1/apps/kept").await, app, "nothing has changed");
        assert_eq!(harbor.read(token, "/api/v1/builds").await["items"], json!([]), "nothing is built for it");
    }
    nothing_was_made(&harbor).await;
    assert_eq!(std::fs::read_to_string(folder.path().join("canary")).expect("the canary"), "alive");
}
