//! The disk below: it is not filled beyond its floor, and what is damaged on it comes again.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::collecting::{storage, there};
use super::pieces::{blobs, declare, declared, entry, given, manifest, submit, sum};
use crate::accounts::people::{quiet, send};
use crate::faults::soak::disk::SmallDisk;
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, start, start_with};
use crate::support::watch;

on_both_stores!(
    blobs_stop_before_the_floor_of_the_disk,
    what_came_before_a_connection_broke_is_kept,
    a_damaged_blob_comes_again,
    a_blob_with_other_bytes_is_never_built
);

const MIB: u64 = 1 << 20;

fn free(disk: &SmallDisk) -> u64 {
    let stat = rustix::fs::statvfs(disk.path()).expect("a file system");
    stat.f_bavail * stat.f_frsize
}

async fn blobs_stop_before_the_floor_of_the_disk(backend: Backend) {
    let disk = SmallDisk::mount("64m");
    let service = start_with(backend, |settings| {
        settings.data_dir = Some(disk.path().join("data"));
        settings.engine = Some("unix:///nonexistent/engine".into());
        settings.min_free_disk = Some("16m".parse().expect("an amount"));
    })
    .await;
    let (token, large) = (&service.token, vec![7; 12 << 20]);
    let named = manifest(&[("large", &large)]);

    // Told before anything is sent.
    let filler = disk.fill(24 * MIB);
    let (status, told) = declare(&service, token, named.clone()).await;
    assert_eq!((status, &told["code"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full")), "{told}");
    drop(filler);

    // There was room when it began, which others take meanwhile.
    let wanted = declared(&service, token, named).await;
    let tar = entry(&sum(&large), &large);
    let (more, body) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let path = format!("/api/v1/contexts/{}/blobs", wanted["id"].as_str().expect("an id"));
    let body = Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(body));
    let sending = tokio::spawn(send(service.request_as(token, Method::POST, &path).body(body)));
    more.send(Ok(Bytes::copy_from_slice(&tar[..4 << 20]))).await.expect("it is read");
    let incoming = service.config.data_dir.join("incoming");
    watch("the blob is being written", || {
        let files = std::fs::read_dir(&incoming).expect("a folder").flatten();
        files.filter_map(|file| file.metadata().ok()).any(|meta| meta.len() > MIB)
    })
    .await;
    let _filler = disk.fill(20 * MIB);
    for chunk in tar[4 << 20..].chunks(1 << 16) {
        if more.send(Ok(Bytes::copy_from_slice(chunk))).await.is_err() {
            break;
        }
        assert!(free(&disk) >= 16 * MIB, "{} bytes are free", free(&disk));
    }
    drop(more);
    let (status, told) = sending.await.expect("an answer");
    assert_eq!((status, &told["code"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full")), "{told}");
}

/// A connection that breaks: what came whole before is kept at once.
async fn what_came_before_a_connection_broke_is_kept(backend: Backend) {
    let service = quiet(backend).await;
    let (small, large): (&[u8], Vec<u8>) = (b"small", vec![9; 1 << 20]);
    let wanted = declared(&service, &service.token, manifest(&[("a", small), ("b", &large)])).await;
    let path = format!("/api/v1/contexts/{}/blobs", wanted["id"].as_str().expect("an id"));
    let half = [entry(&sum(small), small), entry(&sum(&large), &large)[..1000].to_vec()].concat();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 2000000\r\n\r\n", service.token);
    let mut line = tokio::net::TcpStream::connect(service.address).await.expect("connected");
    line.write_all(head.as_bytes()).await.expect("sent");
    line.write_all(&half).await.expect("sent");
    drop(line);
    let kept = service.config.data_dir.join("blobs/admin").join(sum(small));
    watch("the whole blob is kept", || kept.exists()).await;
}

async fn a_damaged_blob_comes_again(backend: Backend) {
    let service = quiet(backend).await;
    let dockerfile: &[u8] = b"FROM busybox\n# whole\n";
    let text = manifest(&[("Dockerfile", dockerfile)]);
    let first = declared(&service, &service.token, text.clone()).await;
    given(&service, &service.token, &first, blobs(&[dockerfile])).await;
    let blob = service.config.data_dir.join("blobs/admin").join(sum(dockerfile));
    std::fs::OpenOptions::new().write(true).open(&blob).and_then(|file| file.set_len(3)).expect("cut");
    let again = declared(&service, &service.token, text).await;
    assert_eq!(again["missing"], json!([sum(dockerfile)]));
    given(&service, &service.token, &again, blobs(&[dockerfile])).await;
    assert_eq!(std::fs::read(&blob).expect("there"), dockerfile);
    assert_eq!(submit(&service, &service.token, &again).await.0, StatusCode::ACCEPTED);
}

/// With the engine. Of the same length, only who reads it can tell.
async fn a_blob_with_other_bytes_is_never_built(backend: Backend) {
    let service = start(backend).await;
    let (dockerfile, good): (&[u8], &[u8]) = (b"FROM busybox\nCOPY a /a\n", b"the bytes that were sent");
    let text = manifest(&[("Dockerfile", dockerfile), ("a", good)]);
    let first = declared(&service, &service.token, text.clone()).await;
    given(&service, &service.token, &first, blobs(&[dockerfile, good])).await;
    let blob = service.config.data_dir.join("blobs/admin").join(sum(good));
    for damage in ["other bytes of that length", "none"] {
        let what = match damage {
            "none" => std::fs::remove_file(&blob).map(|()| "is not there any more"),
            _ => std::fs::write(&blob, [b'x'; 24]).map(|()| "was damaged"),
        };
        let (status, build) = submit(&service, &service.token, &first).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{build}");
        let ended = service.ended(&build).await;
        assert_eq!((&ended["state"], &ended["error"]["code"]), (&"failed".into(), &"context_unreadable".into()), "{ended}");
        let told = ended["error"]["message"].as_str().expect("a text");
        assert!(
            told.contains(&sum(good)) && told.contains(what.expect("done")) && told.contains("send the context again"),
            "{told}"
        );
        let again = declared(&service, &service.token, text.clone()).await;
        assert_eq!(again["missing"], json!([sum(good)]), "it comes again");
        given(&service, &service.token, &again, blobs(&[good])).await;
        service.delete(&build).await;
    }
    let (_, build) = submit(&service, &service.token, &first).await;
    assert_eq!(service.ended(&build).await["state"], "built");
    // A manifest that lies of a whole one is refused as before.
    let lie = json!({"path": "b", "type": "file", "size": 4, "sha256": sum(dockerfile)});
    let (status, told) = declare(&service, &service.token, format!("{lie}\n")).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!("blob_size")), "{told}");
}

/// What cannot be read stands for nothing, and in nobody's way.
#[tokio::test]
async fn one_unreadable_file_stops_no_collection() {
    let (root, storage) = storage();
    let owners = ["ada", "bob", "cyd"].map(|name| name.parse().expect("a name"));
    let (gone, used): (&[u8], &[u8]) = (b"of no use", b"in use");
    for owner in &owners {
        let first = super::collecting::declare(&storage, owner, &manifest(&[("a", gone), ("b", used)])).await;
        super::collecting::give(&storage, owner, &first, blobs(&[gone, used])).await;
        let second = super::collecting::declare(&storage, owner, &manifest(&[("b", used)])).await;
        storage.blobs().keep(owner, second.id, dockwright::domain::BuildId::new()).await.expect("kept");
        storage.blobs().forget(owner, second.id).await.expect("forgotten");
        storage.blobs().forget(owner, first.id).await.expect("forgotten");
    }
    // A folder cannot be read as a file, a cut manifest not to its end.
    std::fs::create_dir(root.path().join("contexts").join(dockwright::domain::BuildId::new().to_string())).expect("made");
    std::fs::create_dir(root.path().join("manifests/bob/0")).expect("made");
    let cut = [b"dockwright manifest 1\n".as_slice(), &[b'.'; 490], b"no JSON\n"].concat();
    std::fs::write(root.path().join("contexts").join(dockwright::domain::BuildId::new().to_string()), cut).expect("written");
    storage.blobs().collect(Duration::ZERO).await.expect("a pass");
    for owner in &owners {
        assert_eq!(there(root.path(), owner), [sum(used)], "{owner}");
    }
}
