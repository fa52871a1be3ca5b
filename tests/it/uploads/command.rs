//! `dockwright build` of a folder: it goes in pieces, or whole where it must.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::people::send;
use crate::support::service::{Backend, Running, start};
use crate::support::{unique, watch};

/// `dockwright build FOLDER --no-push` with a home of its own.
async fn build(url: String, token: &str, home: &Path, folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockwright"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DOCKWRIGHT_")) {
        command.env_remove(name);
    }
    command.env("DOCKWRIGHT_URL", url).env("DOCKWRIGHT_TOKEN", token).env("HOME", home).env("XDG_CACHE_HOME", home);
    command.arg("build").arg(folder).arg("--no-push").args(more);
    tokio::task::spawn_blocking(move || command.output().expect("the command runs")).await.expect("ends")
}

async fn built(service: &Running, token: &str, home: &Path, folder: &Path, more: &[&str]) -> Value {
    let output = build(service.url(""), token, home, folder, more).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = send(service.request_as(token, Method::GET, "/api/v1/builds?limit=1")).await.1;
    list["items"][0].clone()
}

/// Files that were changed in the last two seconds may change again without their times telling: their hashes are not remembered.
async fn until_old(folder: &Path) {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").metadata().expect("is there"));
    let youngest = files.map(|meta| meta.ctime()).max().expect("a file");
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    watch("the youngest file's change is older than two seconds", || now() > youngest.unsigned_abs() + 3).await;
}

async fn a_second_build_of_a_folder_sends_what_has_changed(backend: Backend) {
    let service = start(backend).await;
    let name = unique("ada");
    let token = service.user(&name).await;
    let (home, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let root = folder.path();
    std::fs::create_dir(root.join("sub")).expect("a folder");
    std::fs::write(root.join("Dockerfile"), format!("FROM busybox\nCOPY . /{name}\nRUN test -L /{name}/link\n"))
        .expect("written");
    for n in 0..30 {
        std::fs::write(root.join(format!("sub/{n}")), format!("{name} {n}")).expect("written");
    }
    std::os::unix::fs::symlink("sub/1", root.join("link")).expect("a link");
    let blobs = || std::fs::read_dir(service.config.data_dir.join("blobs").join(&name)).expect("a folder").count();
    let cached = || std::fs::read_dir(home.path().join("dockwright/hashes")).map_or(0, Iterator::count);

    let first = built(&service, &token, home.path(), root, &[]).await;
    assert_eq!((&first["context"]["kind"], blobs()), (&json!("manifest"), 31));
    until_old(&root.join("sub")).await;
    std::fs::write(root.join("sub/1"), "another").expect("written");
    let second = built(&service, &token, home.path(), root, &[]).await;
    assert_eq!(blobs(), 32, "one more");
    assert_ne!(first["context"]["digest"], second["context"]["digest"]);
    let whole = built(&service, &token, home.path(), root, &["--full-upload"]).await;
    assert_eq!((&whole["context"]["kind"], blobs()), (&json!("tar"), 32));
    assert_eq!(whole["context"]["digest"], second["context"]["digest"], "the same files, however they were sent");
    assert_eq!(cached(), 1, "one list of hashes for one folder");
    // What has changed since the last manifest: another, a new and a lost file, and a folder in a link's place.
    std::fs::write(root.join("sub/2"), "another, too").expect("written");
    std::fs::write(root.join("sub/new"), "new").expect("written");
    std::fs::remove_file(root.join("sub/3")).expect("removed");
    std::fs::remove_file(root.join("link")).expect("removed");
    std::fs::create_dir(root.join("link")).expect("a folder");
    std::fs::write(root.join("Dockerfile"), format!("FROM busybox\nCOPY . /{name}\nRUN test -d /{name}/link\n"))
        .expect("written");
    let third = built(&service, &token, home.path(), root, &[]).await;
    let whole = built(&service, &token, home.path(), root, &["--full-upload"]).await;
    assert_eq!((&third["context"]["kind"], &third["context"]["digest"]), (&json!("manifest"), &whole["context"]["digest"]));
    // The service has forgotten the manifest that the command remembers.
    std::fs::remove_dir_all(service.config.data_dir.join("manifests").join(&name)).expect("as if they had expired");
    let fourth = built(&service, &token, home.path(), root, &[]).await;
    assert_eq!(fourth["context"]["digest"], whole["context"]["digest"]);
}

crate::pipeline::on_both_stores!(a_second_build_of_a_folder_sends_what_has_changed);

/// What one request was, whose body is chunked or has a length; answered with a problem.
fn answer(mut stream: TcpStream, status: u16, code: &str) -> String {
    let (mut seen, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        let length =
            text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        let whole = match (text.find("\r\n\r\n"), length) {
            (Some(head), Some(length)) => seen.len() >= head + 4 + length,
            (Some(_), None) => seen.ends_with(b"0\r\n\r\n"),
            (None, _) => false,
        };
        if whole {
            break;
        }
        let read = stream.read(&mut buffer).expect("a request");
        assert!(read > 0, "the request ended too early: {text}");
        seen.extend_from_slice(&buffer[..read]);
    }
    let body = json!({"code": code, "detail": code}).to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("answered");
    String::from_utf8_lossy(&seen).into_owned()
}

/// A service that knows no pieces gets the whole folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_pieces_gets_the_whole_folder() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let older = std::thread::spawn(move || {
        let asked = answer(listener.accept().expect("a request").0, 404, "not_found");
        (asked, answer(listener.accept().expect("a request").0, 400, "seen_it"))
    });
    let (home, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::fs::write(folder.path().join("Dockerfile"), "FROM busybox\n# the mark of this test\n").expect("written");
    let output = build(url, "dw_x", home.path(), folder.path(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seen_it"));
    let (asked, got) = older.join().expect("served");
    assert!(asked.starts_with("POST /api/v1/contexts "), "{asked}");
    assert!(
        got.starts_with("POST /api/v1/builds ") && got.contains("context.tar") && got.contains("the mark of this test"),
        "{got}"
    );
}
