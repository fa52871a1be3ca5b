//! Many builds, and large ones. Each test has the machine for itself (`.config/nextest.toml`).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client as Http};
use serde_json::Value;

use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::service::{self, Backend, docker, dockerfile, tag_digest};
use crate::support::{registry, unique};

#[tokio::test(flavor = "multi_thread")]
async fn alone_twenty_builds_at_once_are_all_published() {
    let service = service::start(Backend::Sqlite).await;
    let image = format!("{}/{}", registry(), unique("twenty"));
    let builds = join_all((0..20).map(|index| {
        let text = format!("FROM busybox\nRUN echo {image} {index} > /x\n");
        service.submit(dockerfile(&text).text("image", format!("{image}:{index}")))
    }));
    let mut digests = std::collections::HashSet::new();
    for (index, ended) in join_all(builds.await.iter().map(|build| service.ended(build))).await.iter().enumerate() {
        assert_eq!(ended["state"], "published", "{ended}");
        let digest = tag_digest(&format!("{image}:{index}"), None).await.expect("published");
        assert_eq!(ended["destinations"][0]["digest"], digest.as_str());
        digests.insert(digest);
        assert_eq!(service.delete(ended).await.json::<Value>().await.expect("JSON")["image"], "removed");
    }
    assert_eq!(digests.len(), 20, "each has what it asked for");
}

/// Submits `count` builds of an owner; their ids.
async fn submit_many(http: &Http, url: &str, token: &str, count: usize) -> Vec<String> {
    let upload = |_| async {
        let form = dockerfile("FROM busybox\n").text("push", "false");
        let answer = http.post(url).bearer_auth(token).multipart(form).send().await.expect("an answer");
        let build: Value = answer.json().await.expect("JSON");
        build["id"].as_str().unwrap_or_else(|| panic!("not accepted: {build}")).to_owned()
    };
    futures::stream::iter(0..count).map(upload).buffered(16).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_five_hundred_queued_builds_of_two_owners_all_end_in_fair_order() {
    // All are queued before the first is claimed: the engine comes only then.
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some("unix:///nowhere.sock".into())).await;
    let (alice, bob, http) = (service.user("alice").await, service.user("bob").await, Http::new());
    let url = service.url("/api/v1/builds");
    let mut owners: HashMap<String, &str> = HashMap::new();
    for (owner, token) in [("alice", &alice), ("bob", &bob)] {
        owners.extend(submit_many(&http, &url, token, 250).await.into_iter().map(|id| (id, owner)));
    }
    assert_eq!(service.get("/api/v1/system").await["queue"]["queued"], 500);
    let mut config = service.config.clone();
    config.engine = None;
    let _data = service.stop().await;

    let service = service::start_on(config).await;
    let mut started = Vec::new();
    for (build, owner) in &owners {
        let ended = service.ended(&serde_json::json!({"id": build})).await;
        assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "{ended}");
        started.push((ended["started_at"].as_str().expect("a time").to_owned(), *owner));
    }
    started.sort();
    let mut ahead = 0_i32;
    for (_, owner) in &started {
        ahead += if *owner == "alice" { 1 } else { -1 };
        // Four slots may fill within one millisecond, in which the order does not show.
        assert!(ahead.abs() <= 4, "the owners take turns: {started:?}");
    }
    let tags: Vec<String> = owners.keys().map(|id| format!("dockwright.local/build:{id}")).collect();
    for some in tags.chunks(100) {
        docker(&[&["rmi"], some.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    }
}

const GIB: u64 = 1 << 30;

/// A tar of a Dockerfile and one file of 1 GiB, made while it is sent.
fn gigantic() -> (Body, u64) {
    let head = |name: &str, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("short");
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        Bytes::copy_from_slice(header.as_bytes())
    };
    let mut text = b"FROM busybox\nCOPY Dockerfile /x\n".to_vec();
    let mut start = vec![head("Dockerfile", text.len() as u64)];
    text.resize(512, 0);
    start.extend([Bytes::from(text), head("big", GIB)]);
    // Not zeros: those could be left out on the way without being missed.
    let block = Bytes::from((0..1_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>());
    let blocks = std::iter::repeat_n(block, usize::try_from(GIB >> 20).expect("1024"));
    let whole = start.into_iter().chain(blocks).chain([Bytes::from(vec![0; 1024])]).map(Ok::<_, std::io::Error>);
    (Body::wrap_stream(futures::stream::iter(whole)), 512 * 3 + GIB + 1024)
}

/// A line of `/proc/PID/status`, in bytes.
fn memory(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_context_of_a_gibibyte_is_built_in_flat_memory() {
    let data = tempfile::tempdir().expect("a folder");
    let args = ["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--max-upload", "2g", "--max-context", "2g"];
    let mut process = Process::start(&args, data.path());
    let client = Client::new(&process.address(), data.path());
    // Whatever a first build needs is not what this one costs.
    let small = client.submit(dockerfile("FROM busybox\n").text("push", "false")).await;
    assert_eq!(client.ended(&small).await["state"], "built");
    let before = memory(&process, "VmRSS");
    let (body, length) = gigantic();
    let form = Form::new().part("context", Part::stream_with_length(body, length).file_name("context.tar")).text("push", "false");
    let build = client.submit(form).await;
    let mut ended = client.ended(&build).await;
    while ended["finished_at"].is_null() {
        ended = client.ended(&build).await;
    }
    assert_eq!((&ended["state"], &ended["context"]["bytes"]), (&"built".into(), &length.into()), "{ended}");
    let grown = memory(&process, "VmHWM").saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
    for build in [&small, &build] {
        let path = format!("/{build}");
        let answer = client.request(reqwest::Method::DELETE, &path).timeout(Duration::from_secs(30)).send().await;
        assert_eq!(answer.expect("an answer").status(), 200);
    }
}
