//! An api process that is killed while it receives: what it answered is there, and of the rest nothing is left.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dockwright::context::storage::ContextStorage;
use dockwright::domain::{BuildId, Scope};
use dockwright::janitor::{Janitor, OrphanAges};
use dockwright::store::Store;
use futures::StreamExt;
use futures::future::join_all;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::Value;

use super::{any, some_moment, times};
use crate::store_contract::fixture::{clean_redis, redis_at};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::{redis_url, service, unique};

/// Uploads under way at once.
const AT_ONCE: usize = 6;

/// A context of some hundred KiB that comes in pieces, with pauses.
fn trickled() -> Form {
    let filler = "x".repeat(200_000 + usize::try_from(any(400_000)).expect("small"));
    let tar = service::tar(&[("Dockerfile", "FROM busybox\nCOPY . /x\n"), ("filler", &filler)]);
    let length = tar.len() as u64;
    let pieces: Vec<Bytes> = tar.chunks(32 * 1024).map(Bytes::copy_from_slice).collect();
    let paced = futures::stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(any(12))).await;
        Ok::<_, std::io::Error>(piece)
    });
    let part = Part::stream_with_length(Body::wrap_stream(paced), length).file_name("context.tar");
    Form::new().part("context", part).text("push", "false")
}

/// Uploads until the service is gone; the ids that it answered 202 with.
async fn upload_until_it_dies(client: &Client) -> Vec<BuildId> {
    let mut accepted = Vec::new();
    while let Ok(answer) = client.request(Method::POST, "").multipart(trickled()).send().await {
        let status = answer.status();
        // A head without its body says 202 all the same, and its Location names the build.
        let location = answer.headers().get("location").map(|v| v.to_str().expect("text").to_owned());
        assert_eq!(status, 202, "{}", answer.text().await.unwrap_or_default());
        let id = location.expect("a location").rsplit('/').next().expect("an id").parse().expect("an id");
        accepted.push(id);
    }
    accepted
}

/// The files of a folder.
fn names(folder: &std::path::Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

async fn killed_again_and_again(arguments: &[&str], open: impl AsyncFnOnce(&std::path::Path) -> Store) {
    let data = tempfile::tempdir().expect("a folder");
    // There is no engine: what is accepted stays queued.
    let shared = ["serve", "--listen", "127.0.0.1:0", "--engine", "unix:///nowhere.sock"];
    let start = || Process::start(&[&shared[..], arguments].concat(), data.path());
    let mut accepted = Vec::new();
    for _ in 0..times(5, 100) {
        let mut process = start();
        let client = Client::new(&tokio::task::block_in_place(|| process.address()), data.path());
        let uploads = join_all((0..AT_ONCE).map(|_| upload_until_it_dies(&client)));
        let killer = async {
            some_moment(700).await;
            process.kill();
        };
        accepted.extend(tokio::join!(uploads, killer).0.concat());
    }
    let mut process = start();
    let client = Client::new(&tokio::task::block_in_place(|| process.address()), data.path());
    for id in &accepted {
        let build: Value = client.get(&id.to_string()).await;
        assert_eq!(build["state"], "queued", "{build}");
        let stored = std::fs::metadata(data.path().join("contexts").join(id.to_string())).expect("its context is there");
        assert_eq!(build["context"]["bytes"], stored.len());
    }
    process.signal("-TERM");
    assert!(tokio::task::block_in_place(|| process.wait()).success());

    let left = names(&data.path().join("incoming")).len();
    let store = open(data.path()).await;
    let contexts = ContextStorage::open(data.path(), 0).expect("opens");
    let ages = OrphanAges { kept: Duration::ZERO, unfinished: Duration::ZERO, containers: Duration::ZERO, blobs: Duration::ZERO };
    let vault = std::sync::Arc::new(dockwright::vault::Vault::new([7; 32]));
    let janitor =
        Janitor { store: store.clone(), contexts: contexts.clone(), keep_hot_log: Duration::ZERO, ages, vault, node: None };
    janitor.orphans_once().await.expect("tidies up");
    let kept = contexts.list_ids().await.expect("lists");
    println!("{} were accepted, {left} unfinished uploads were left, {} contexts are kept", accepted.len(), kept.len());
    assert_eq!(names(&data.path().join("incoming")), BTreeSet::new());
    for id in &kept {
        assert!(store.get(&Scope::All, *id).await.expect("answers").is_some(), "every context has its record");
    }
    assert!(accepted.iter().all(|id| kept.contains(id)), "and none that was accepted lost its own");
    assert!(!accepted.is_empty() && left > 0, "both happened: {} were accepted, {left} were not", accepted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_killed_in_uploads_keeps_what_it_answered_in_its_file() {
    killed_again_and_again(&[], async |data| {
        Store::Sqlite(dockwright::store::sqlite::SqliteStore::open(&data.join("dockwright.db")).expect("opens"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_killed_in_uploads_keeps_what_it_answered_in_redis() {
    let (prefix, url) = (unique("uploads"), redis_url());
    let arguments = ["--store", &url, "--store-prefix", &prefix, "--role", "api"];
    killed_again_and_again(&arguments, async |_| redis_at(&url, &prefix)).await;
    clean_redis(&prefix).await;
}
