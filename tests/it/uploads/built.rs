use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::pieces::{blobs, declared, file, give, given, lines, manifest, of, submit, sum};
use crate::context::make::zstd;
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, context, start, tar};
use crate::support::unique;

on_both_stores!(what_is_wrong_with_a_build_of_a_manifest_is_told_as_of_an_archive);

const RUN: &str = "RUN cd /x && test -x run && test ! -e left-out && test \"$(readlink link)\" = run && test -d empty \
                   && test \"$(cat name)\" = NAME && test ! -s nothing\n";

/// What another engine step looks at, file by file.
fn entries(dockerfile: &str, name: &str) -> (Vec<Value>, [Vec<u8>; 4]) {
    let bytes = [dockerfile.as_bytes().to_vec(), name.as_bytes().to_vec(), b"#!/bin/sh\n".to_vec(), b"left-out\n".to_vec()];
    let mut run = file("run", &bytes[2]);
    run["mode"] = json!("755");
    let entries = vec![
        file("Dockerfile", &bytes[0]),
        file("name", &bytes[1]),
        run,
        file(".dockerignore", &bytes[3]),
        file("left-out", b"left-out\n"),
        file("nothing", b""),
        json!({"path": "link", "type": "symlink", "target": "run"}),
        json!({"path": "empty", "type": "dir", "mode": "755"}),
    ];
    (entries, bytes)
}

async fn a_context_in_pieces_is_built(backend: Backend) {
    let service = start(backend).await;
    let (name, token) = (unique("name"), &service.token);
    let dockerfile = format!("FROM busybox\nCOPY . /x\n{}", RUN.replace("NAME", &name));
    let (first, bytes) = entries(&dockerfile, &name);
    let declared_first = declared(&service, token, lines(&first)).await;
    let missing: Vec<&str> = declared_first["missing"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(missing.len(), 4, "each blob once, and none for an empty file: {declared_first}");
    let (status, refused) = submit(&service, token, &declared_first).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::CONFLICT, Some("blobs_missing")), "{refused}");
    assert_eq!(refused["missing"], declared_first["missing"]);

    let (status, half) = give(&service, token, &declared_first, blobs(&[&bytes[0], &bytes[1]])).await;
    assert_eq!((status, half["missing"].as_array().map(Vec::len)), (StatusCode::OK, Some(2)), "{half}");
    let path = format!("/api/v1/contexts/{}/blobs", declared_first["id"].as_str().expect("an id"));
    let packed = service.request(Method::POST, &path).header("content-encoding", "zstd");
    let rest = packed.body(zstd(&blobs(&[&bytes[2], &bytes[3]]))).send().await.expect("an answer");
    assert_eq!(rest.json::<Value>().await.expect("JSON")["missing"], json!([]));

    let build = service.submit(of(&declared_first)).await;
    assert_eq!((&build["context"]["kind"], &build["context"]["files"]), (&json!("manifest"), &json!(7)));
    assert_eq!(build["context"]["digest"], declared_first["digest"]);
    assert_eq!(service.ended(&build).await["state"], "built", "{}", service.log(&build).await);

    // One file has changed: it alone is missing, and the build before it may go.
    let other = unique("other");
    let (mut second, _) = entries(&dockerfile, &name);
    second.push(file("more", other.as_bytes()));
    let declared_second = declared(&service, token, lines(&second)).await;
    assert_eq!(declared_second["missing"], json!([sum(other.as_bytes())]));
    assert_ne!(declared_second["digest"], declared_first["digest"]);
    assert!(service.delete(&build).await.status().is_success());
    given(&service, token, &declared_second, blobs(&[other.as_bytes()])).await;
    let again = service.submit(of(&declared_second)).await;
    assert_eq!(service.ended(&again).await["state"], "built", "{}", service.log(&again).await);
    assert!(service.delete(&again).await.status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_in_pieces_is_built_on_sqlite() {
    a_context_in_pieces_is_built(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_in_pieces_is_built_on_redis() {
    a_context_in_pieces_is_built(Backend::Redis).await;
}

async fn what_is_wrong_with_a_build_of_a_manifest_is_told_as_of_an_archive(backend: Backend) {
    let service = crate::accounts::people::quiet(backend).await;
    let token = &service.token;
    let code = |told: &(StatusCode, Value)| (told.0.as_u16(), told.1["code"].as_str().unwrap_or_default().to_owned());
    let (good, bad): (&[u8], &[u8]) = (b"FROM busybox\n", b"FRUM busybox\n");
    let whole = declared(&service, token, manifest(&[("Dockerfile", good)])).await;
    given(&service, token, &whole, blobs(&[good])).await;

    let none = declared(&service, token, manifest(&[("Containerfile", good)])).await;
    assert_eq!(code(&submit(&service, token, &none).await), (400, "dockerfile_missing".into()));
    let unreadable = declared(&service, token, manifest(&[("Dockerfile", bad)])).await;
    given(&service, token, &unreadable, blobs(&[bad])).await;
    assert_eq!(submit(&service, token, &unreadable).await.0, StatusCode::BAD_REQUEST);

    let both = of(&whole).part("context", reqwest::multipart::Part::bytes(tar(&[("Dockerfile", "FROM busybox\n")])));
    let both = service.post(both).await;
    assert_eq!(both.json::<Value>().await.expect("JSON")["code"], "source_ambiguous");
    let beside = of(&none).part("file", reqwest::multipart::Part::bytes(good.to_vec()));
    assert_eq!(service.post(beside).await.status(), StatusCode::ACCEPTED, "a Dockerfile beside it stands in");
    let accepted = service.submit(of(&whole)).await;
    let same = service.submit(context(tar(&[("Dockerfile", "FROM busybox\n")])).text("push", "false")).await;
    assert_eq!(accepted["context"]["digest"], same["context"]["digest"], "the same files, however they came");
}
