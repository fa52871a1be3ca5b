//! Nobody gets at another's blobs, and everybody's are counted.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pieces::{blobs, declare, declared, entry, give, given, manifest, of, submit, sum};
use crate::accounts::people::{quiet, send};
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, Running};
use crate::support::unique;

on_both_stores!(a_removed_account_leaves_its_builds_whole_and_nothing_else);

async fn with_quota(service: &Running, name: &str, bytes: usize) -> String {
    let account = json!({"name": name, "quota": {"stored_bytes": bytes}});
    assert_eq!(send(service.request(Method::POST, "/api/v1/users").json(&account)).await.0, StatusCode::CREATED);
    service.token_of(name).await
}

async fn stored(service: &Running, token: &str) -> u64 {
    let me = send(service.request_as(token, Method::GET, "/api/v1/me")).await.1;
    me["usage"]["stored_bytes"].as_u64().unwrap_or_else(|| panic!("no usage: {me}"))
}

async fn blobs_of_others_neither_help_nor_show(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob) = (service.user(&unique("ada")).await, service.user(&unique("bob")).await);
    let secret: &[u8] = b"FROM busybox\n# ada's own\n";
    let text = manifest(&[("Dockerfile", secret)]);
    let hers = declared(&service, &ada, text.clone()).await;
    given(&service, &ada, &hers, blobs(&[secret])).await;
    assert_eq!(declared(&service, &ada, text.clone()).await["missing"], json!([]));

    // To know the hash is not to have the bytes.
    let his = declared(&service, &bob, text).await;
    assert_eq!((&his["missing"], &his["digest"]), (&json!([sum(secret)]), &hers["digest"]));
    assert_eq!(submit(&service, &bob, &his).await.0, StatusCode::CONFLICT);
    for token in [&bob, &service.token] {
        let path = format!("/api/v1/contexts/{}", hers["id"].as_str().expect("an id"));
        assert_eq!(send(service.request_as(token, Method::GET, &path)).await.0, StatusCode::NOT_FOUND);
        assert_eq!(give(&service, token, &hers, blobs(&[secret])).await.0, StatusCode::NOT_FOUND);
        assert_eq!(submit(&service, token, &hers).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(submit(&service, &ada, &hers).await.0, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_others_neither_help_nor_show_on_sqlite() {
    blobs_of_others_neither_help_nor_show(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_others_neither_help_nor_show_on_redis() {
    blobs_of_others_neither_help_nor_show(Backend::Redis).await;
}

async fn blobs_are_counted_once_and_make_way(backend: Backend) {
    let service = quiet(backend).await;
    let token = with_quota(&service, &unique("ada"), 100_000).await;
    let dockerfile: &[u8] = b"FROM busybox\n";
    let (first, second, third) = (vec![1; 40_000], vec![2; 45_000], vec![3; 80_000]);
    let one = declared(&service, &token, manifest(&[("Dockerfile", dockerfile), ("a", &first), ("b", &first)])).await;
    given(&service, &token, &one, blobs(&[dockerfile, &first])).await;
    let used = stored(&service, &token).await;
    assert!((40_000..45_000).contains(&used), "one blob counts once: {used}");
    let (status, build) = submit(&service, &token, &one).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{build}");
    let two = declared(&service, &token, manifest(&[("Dockerfile", dockerfile), ("a", &second)])).await;
    given(&service, &token, &two, blobs(&[&second])).await;

    // Both are in use: by a build, and by a manifest.
    let (status, refused) = declare(&service, &token, manifest(&[("Dockerfile", &third)])).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("quota_exceeded")), "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|told| told.starts_with("quota stored_bytes: the limit is 100000")));
    let file = vec![b'#'; 20_000];
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(file)).text("push", "false");
    let plain = send(service.request_as(&token, Method::POST, "/api/v1/builds").multipart(form)).await;
    assert_eq!(plain.0, StatusCode::BAD_REQUEST, "a Dockerfile of comments is none: {}", plain.1);
    let mut file = dockerfile.to_vec();
    file.extend(vec![b'#'; 20_000]);
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(file)).text("push", "false");
    let (status, over) = send(service.request_as(&token, Method::POST, "/api/v1/builds").multipart(form)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "blobs count against other uploads: {over}");

    // The build goes, and with the manifest that it came of nothing names its blob any more.
    let path = format!("/api/v1/builds/{}", build["id"].as_str().expect("an id"));
    assert!(send(service.request_as(&token, Method::DELETE, &path)).await.0.is_success());
    let owner = send(service.request_as(&token, Method::GET, "/api/v1/me")).await.1["name"].as_str().expect("a name").to_owned();
    let manifest_of_one = service.config.data_dir.join("manifests").join(&owner).join(one["id"].as_str().expect("an id"));
    std::fs::remove_file(manifest_of_one).expect("as if it had expired");
    let file = vec![4; 35_000];
    let room = declared(&service, &token, manifest(&[("Dockerfile", dockerfile), ("x", &file)])).await;
    assert_eq!(room["missing"], json!([sum(&file)]), "the Dockerfile is named by others still");
    let again = declared(&service, &token, manifest(&[("a", &second)])).await;
    assert_eq!(again["missing"], json!([]), "what is in use has not made way");
    let gone = declared(&service, &token, manifest(&[("a", &[5_u8; 100][..])])).await;
    assert_eq!(gone["missing"].as_array().map(Vec::len), Some(1));
    assert!(!service.config.data_dir.join("blobs").join(&owner).join(sum(&first)).exists(), "what nothing uses has");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_counted_once_and_make_way_on_sqlite() {
    blobs_are_counted_once_and_make_way(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_counted_once_and_make_way_on_redis() {
    blobs_are_counted_once_and_make_way(Backend::Redis).await;
}

fn build_of(bytes: usize) -> reqwest::multipart::Form {
    let mut file = b"FROM busybox\n".to_vec();
    file.extend(vec![b'#'; bytes]);
    reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(file)).text("push", "false")
}

async fn what_is_on_its_way_is_counted_once(backend: Backend) {
    let service = quiet(backend).await;
    let name = unique("ada");
    let token = with_quota(&service, &name, 100_000).await;
    let (dockerfile, half, other): (&[u8], _, _) = (b"FROM busybox\n", vec![1; 30_000], vec![2; 30_000]);
    let one = declared(&service, &token, manifest(&[("Dockerfile", dockerfile), ("a", &half), ("b", &other)])).await;
    let path = format!("/api/v1/contexts/{}/blobs", one["id"].as_str().expect("an id"));

    // A request that does not go on, as over a connection that is dead already.
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 62000\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut stalled = TcpStream::connect(service.address).await.expect("connected");
    stalled.write_all(head.as_bytes()).await.expect("sent");
    let mut wanted = [0; 25];
    stalled.read_exact(&mut wanted).await.expect("an answer");
    assert_eq!(wanted.as_slice(), b"HTTP/1.1 100 Continue\r\n\r\n", "taken, and so its bytes are reserved");
    stalled.write_all(&entry(&sum(&half), &half)[..20_000]).await.expect("sent");
    // What is left of the quota is too little for another 60 kB.
    let refused = send(service.request_as(&token, Method::POST, "/api/v1/builds").multipart(build_of(60_000))).await;
    assert_eq!(refused.0, StatusCode::PAYLOAD_TOO_LARGE, "{}", refused.1);
    let small = send(service.request_as(&token, Method::POST, "/api/v1/builds").multipart(build_of(10_000))).await;
    assert_eq!(small.0, StatusCode::ACCEPTED, "there is room beside the upload: {}", small.1);

    // Again, in two halves at once.
    let halves =
        tokio::join!(give(&service, &token, &one, blobs(&[dockerfile, &half])), give(&service, &token, &one, blobs(&[&other])));
    assert_eq!((halves.0.0, halves.1.0), (StatusCode::OK, StatusCode::OK), "{} {}", halves.0.1, halves.1.1);
    let (status, build) = submit(&service, &token, &one).await;
    assert_eq!(status, StatusCode::ACCEPTED, "all of it is here, and nothing more is coming: {build}");
    let used = stored(&service, &token).await;
    assert!((70_000..75_000).contains(&used), "{used}");
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_counted_once_on_sqlite() {
    what_is_on_its_way_is_counted_once(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_counted_once_on_redis() {
    what_is_on_its_way_is_counted_once(Backend::Redis).await;
}

/// With the engine: what an heir gets can be built.
async fn a_removed_account_leaves_its_builds_whole_and_nothing_else(backend: Backend) {
    let service = quiet(backend).await;
    let (name, heir) = (unique("ada"), unique("heir"));
    let (ada, heirs) = (service.user(&name).await, service.user(&heir).await);
    let (dockerfile, extra): (&[u8], &[u8]) = (b"FROM busybox\n", b"of no build");
    let hers = declared(&service, &ada, manifest(&[("Dockerfile", dockerfile)])).await;
    given(&service, &ada, &hers, blobs(&[dockerfile])).await;
    let (_, build) = submit(&service, &ada, &hers).await;
    let left = declared(&service, &ada, manifest(&[("Dockerfile", extra)])).await;
    given(&service, &ada, &left, blobs(&[extra])).await;

    let path = format!("/api/v1/users/{name}?objects=transfer:{heir}");
    let (status, told) = send(service.request(Method::DELETE, &path)).await;
    assert!(status.is_success(), "{told}");
    let root = &service.config.data_dir;
    assert!(!root.join("blobs").join(&name).exists() && !root.join("manifests").join(&name).exists());
    let source = dockwright::context::stream::Source::Manifest {
        path: root.join("contexts").join(build["id"].as_str().expect("an id")),
        root: root.clone(),
        replacement: None,
    };
    assert_eq!(super::collecting::files_of(source).await, ["Dockerfile"]);
    let same = declared(&service, &heirs, manifest(&[("Dockerfile", dockerfile), ("x", extra)])).await;
    assert_eq!(same["missing"], json!([sum(extra)]), "the heir has what its builds are made of");
    // Another account of the old name has nothing of the first.
    let anew = service.user(&name).await;
    let nothing = declared(&service, &anew, manifest(&[("Dockerfile", dockerfile)])).await;
    assert_eq!(nothing["missing"], json!([sum(dockerfile)]));
    let gone: Value = send(service.request_as(&anew, Method::POST, "/api/v1/builds").multipart(of(&hers))).await.1;
    assert_eq!(gone["code"], "not_found");
}
