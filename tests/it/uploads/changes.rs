//! Manifests that are told as what has changed since another one, and the end of a manifest's life.

use std::io::{BufRead, Read, Write};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::pieces::{blobs, change, declared, file, given, lines, manifest, submit, sum};
use crate::accounts::people::{quiet, send};
use crate::support::service::{Backend, Running};
use crate::support::unique;

fn gone(path: &str) -> Value {
    json!({"path": path, "type": "gone"})
}

async fn changes_come_to_the_same_as_the_whole(backend: Backend) {
    let service = quiet(backend).await;
    let token = &service.token;
    let dockerfile: &[u8] = b"FROM busybox\n";
    let link = json!({"path": "l", "type": "symlink", "target": "a"});
    let first = lines(&[file("Dockerfile", dockerfile), file("a", b"a"), file("d/b", b"b"), link, file("f", b"f")]);
    let base = declared(&service, token, first).await;
    given(&service, token, &base, blobs(&[dockerfile, b"a", b"b", b"f"])).await;

    // Another file, one that is gone, a new one, and a folder in a link's and in a file's place.
    let folder = json!({"path": "l", "type": "dir", "mode": "700"});
    let changes = [
        file("./a", b"other"),
        gone("d/b"),
        gone("never/there"),
        folder.clone(),
        file("l/new", b"new"),
        gone("f"),
        file("f/x", b"f"),
    ];
    let (status, changed) = change(&service, token, &base, &lines(&changes)).await;
    assert_eq!((status, &changed["missing"]), (StatusCode::CREATED, &json!([sum(b"other"), sum(b"new")])), "{changed}");
    let whole = [file("Dockerfile", dockerfile), file("a", b"other"), folder, file("l/new", b"new"), file("f/x", b"f")];
    let whole = declared(&service, token, lines(&whole)).await;
    assert_eq!(changed["digest"], whole["digest"]);
    given(&service, token, &changed, blobs(&[b"other", b"new"])).await;
    assert_eq!(submit(&service, token, &changed).await.0, StatusCode::ACCEPTED);
    // And on from there, with nothing new at all.
    let (_, same) = change(&service, token, &changed, "").await;
    assert_eq!((&same["digest"], &same["missing"]), (&changed["digest"], &json!([])));

    for (changes, code) in [
        (lines(&[file("../x", b"x")]), "path_escapes"),
        (lines(&[file("x", b"x"), gone("./x")]), "duplicate_path"),
        (lines(&[file("a/x", b"x")]), "path_through_file"),
        (lines(&[json!({"path": "x", "type": "fifo"})]), "invalid_manifest"),
        ("{}\n".into(), "invalid_manifest"),
    ] {
        let (status, told) = change(&service, token, &base, &changes).await;
        assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{told}");
    }
    // Only with a base is anything gone.
    let (status, told) = super::pieces::declare(&service, token, lines(&[gone("a")])).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_manifest")));
    let bob = service.user(&unique("bob")).await;
    for (token, base) in [(&bob, base), (token, json!({"id": "01a1fcc6-00db-778f-aa50-18c1c74c2480"}))] {
        let (status, told) = change(&service, token, &base, "").await;
        assert_eq!((status, &told["code"]), (StatusCode::NOT_FOUND, &json!("base_unknown")), "{told}");
    }
}

/// Blobs as if they had come, which is not what is tested here.
fn put(service: &Running, all: &[Vec<u8>]) {
    let folder = service.config.data_dir.join("blobs/admin");
    std::fs::create_dir_all(&folder).expect("a folder");
    for bytes in all {
        std::fs::write(folder.join(sum(bytes)), bytes).expect("written");
    }
}

/// As many files as a large `node_modules` has.
async fn one_change_among_60_000_files_is_small(backend: Backend) {
    let service = quiet(backend).await;
    let token = &service.token;
    let mut all: Vec<Vec<u8>> = (0..60_000).map(|n| format!("file {n}").into_bytes()).collect();
    put(&service, &all);
    let names: Vec<String> = (0..all.len()).map(|n| format!("node_modules/{}/{n}.js", n % 500)).collect();
    let text =
        |all: &[Vec<u8>]| manifest(&names.iter().map(String::as_str).zip(all.iter().map(Vec::as_slice)).collect::<Vec<_>>());
    let base = declared(&service, token, text(&all)).await;
    assert_eq!(base["missing"], json!([]));
    all[7] = b"changed".to_vec();
    let changes = lines(&[file(&names[7], &all[7])]);
    let (status, changed) = change(&service, token, &base, &changes).await;
    assert_eq!((status, &changed["missing"]), (StatusCode::CREATED, &json!([sum(b"changed")])));
    let moved = changes.len() + changed.to_string().len();
    assert!(moved < 1_000_000, "{moved} bytes");
    assert_eq!(changed["digest"], declared(&service, token, text(&all)).await["digest"], "as of the whole");
}

/// Turns a manifest's end back into the past, in the line after its first block.
fn expire(service: &Running, id: &str) {
    let path = service.config.data_dir.join("manifests/admin").join(id);
    let bytes = std::fs::read(&path).expect("a manifest");
    let (block, mut rest) = bytes.split_at(512);
    let mut head = Vec::new();
    rest.read_until(b'\n', &mut head).expect("a line");
    let mut head: Value = serde_json::from_slice(&head).expect("JSON");
    head["expires_at"] = serde_json::to_value(dockwright::domain::Timestamp::from_millis(1000)).expect("a time");
    let mut file = std::fs::File::create(&path).expect("a file");
    writeln!(file, "{}{head}", String::from_utf8_lossy(block)).expect("written");
    let mut lines = Vec::new();
    rest.read_to_end(&mut lines).expect("bytes");
    file.write_all(&lines).expect("written");
}

async fn a_manifest_ends_with_its_time(backend: Backend) {
    let service = quiet(backend).await;
    let token = &service.token;
    let dockerfile: &[u8] = b"FROM busybox\n# for a while\n";
    let kept = declared(&service, token, manifest(&[("Dockerfile", dockerfile)])).await;
    given(&service, token, &kept, blobs(&[dockerfile])).await;
    let id = kept["id"].as_str().expect("an id");
    expire(&service, id);
    let path = format!("/api/v1/contexts/{id}");
    assert_eq!(send(service.request(Method::GET, &path)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(submit(&service, token, &kept).await.0, StatusCode::NOT_FOUND);
    let (_, told) = change(&service, token, &kept, "").await;
    assert_eq!(told["code"], "base_unknown");
    // The collector takes it away, and its blob after a grace.
    let storage = dockwright::context::storage::ContextStorage::open(&service.config.data_dir, 0).expect("opens");
    let root = &service.config.data_dir;
    storage.blobs().collect(std::time::Duration::from_secs(3600)).await.expect("a pass");
    let blob = root.join("blobs/admin").join(sum(dockerfile));
    assert!(!root.join("manifests/admin").join(id).exists() && blob.exists());
    storage.blobs().collect(std::time::Duration::ZERO).await.expect("a pass");
    assert!(!blob.exists());
}

crate::pipeline::on_both_stores!(
    changes_come_to_the_same_as_the_whole,
    one_change_among_60_000_files_is_small,
    a_manifest_ends_with_its_time,
);
