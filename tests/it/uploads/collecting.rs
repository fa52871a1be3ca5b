//! What nothing uses goes, and nothing else, whatever happens at the same time.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dockwright::context::archive::ArchiveLimits;
use dockwright::context::blobs::{Coding, Manifest};
use dockwright::context::storage::{ContextStorage, Received};
use dockwright::context::stream::{Assemble, Source, open};
use dockwright::domain::{BuildId, BuilderKind, Owner};
use futures::TryStreamExt;
use futures::future::join_all;
use reqwest::{Body, Method};

use super::pieces::{blobs, entry, manifest, sum};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::watch;

pub fn storage() -> (tempfile::TempDir, ContextStorage) {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = ContextStorage::open(folder.path(), 0).expect("opens");
    (folder, storage)
}

pub async fn received(storage: &ContextStorage, bytes: &[u8]) -> Received {
    let mut incoming = storage.begin(1 << 30).await.expect("room");
    incoming.write(bytes.to_vec()).await.expect("written");
    incoming.finish().await.expect("whole")
}

pub async fn declare(storage: &ContextStorage, owner: &Owner, text: &str) -> Manifest {
    let received = received(storage, text.as_bytes()).await;
    storage.blobs().declare(owner, received, Coding::Identity, ArchiveLimits::default()).await.expect("passes")
}

pub async fn give(storage: &ContextStorage, owner: &Owner, manifest: &Manifest, tar: Vec<u8>) {
    let intake = storage.blobs().receive(owner, manifest.id, Coding::Identity, 1 << 30).await.expect("begins");
    let (mut intake, _) = intake.expect("the manifest is there");
    intake.write(tar.into()).await.expect("taken");
    intake.finish().await.expect("whole");
}

/// The names of the files in the tar that the engine gets, each of which has all its bytes.
pub async fn files_of(source: Source) -> Vec<String> {
    let plan = Assemble { dockerfile: "Dockerfile".into(), builder: BuilderKind::Buildkit, limits: ArchiveLimits::default() };
    let chunks: Vec<Bytes> = open(source, plan).try_collect().await.expect("the stream is whole");
    let tar = chunks.concat();
    let mut names = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        names.push(entry.path().expect("a path").to_str().expect("text").to_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        assert_eq!(bytes.len() as u64, entry.size());
    }
    names
}

pub fn there(root: &Path, owner: &Owner) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("blobs").join(owner.as_str())).expect("a folder");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn context_blobs_go_when_nothing_uses_them_and_their_time_is_over() {
    let (root, storage) = storage();
    let (owner, build): (Owner, _) = ("ada".parse().expect("a name"), BuildId::new());
    let (shared, own): (&[u8], &[u8]) = (b"shared", b"the build's own");
    let first = declare(&storage, &owner, &manifest(&[("a", shared), ("b", own)])).await;
    give(&storage, &owner, &first, blobs(&[shared, own])).await;
    storage.blobs().keep(&owner, first.id, build).await.expect("kept");
    storage.blobs().forget(&owner, first.id).await.expect("forgotten");
    let other = declare(&storage, &owner, &manifest(&[("a", shared)])).await;

    assert_eq!(storage.blobs().collect(Duration::ZERO).await.expect("a pass"), 0, "a build and a manifest use them");
    storage.remove(build).await.expect("the build goes");
    assert_eq!(storage.blobs().collect(Duration::from_secs(60)).await.expect("a pass"), 0, "their time is not over");
    assert_eq!(storage.blobs().collect(Duration::ZERO).await.expect("a pass"), own.len() as u64);
    assert_eq!(there(root.path(), &owner), [sum(shared)], "what a manifest was told to be there stays");
    storage.blobs().forget(&owner, other.id).await.expect("forgotten");
    storage.blobs().collect(Duration::ZERO).await.expect("a pass");
    assert_eq!(there(root.path(), &owner), [""; 0]);
}

#[tokio::test]
async fn context_blobs_make_way_oldest_first() {
    let (root, storage) = storage();
    let owner: Owner = "ada".parse().expect("a name");
    let all: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 1000]).collect();
    for (age, bytes) in all.iter().enumerate() {
        let one = declare(&storage, &owner, &manifest(&[("a", bytes)])).await;
        give(&storage, &owner, &one, blobs(&[bytes])).await;
        storage.blobs().forget(&owner, one.id).await.expect("forgotten");
        let blob = std::fs::File::open(root.path().join("blobs/ada").join(sum(bytes))).expect("a blob");
        let time = std::time::SystemTime::now() - Duration::from_secs(10_000 * (age as u64 + 1));
        blob.set_modified(time).expect("its time");
    }
    // Named again, the oldest is as good as new.
    let again = declare(&storage, &owner, &manifest(&[("a", &all[3])])).await;
    storage.blobs().forget(&owner, again.id).await.expect("forgotten");
    assert_eq!(storage.blobs().drop_unused(&owner, 1500).await.expect("a pass"), 2000);
    let mut left = [sum(&all[0]), sum(&all[3])];
    left.sort();
    assert_eq!(there(root.path(), &owner), left);
}

/// Many clients with the same files, one of their own each, and a collector without any grace that never rests.
#[tokio::test(flavor = "multi_thread")]
async fn context_blobs_stay_while_anybody_counts_on_them() {
    let (root, storage) = storage();
    let (owner, ended) = ("ada".parse::<Owner>().expect("a name"), Arc::new(AtomicBool::new(false)));
    let collector = {
        let (storage, ended) = (storage.clone(), Arc::clone(&ended));
        tokio::spawn(async move {
            let mut passes = 0;
            while !ended.load(Ordering::Relaxed) {
                storage.blobs().collect(Duration::ZERO).await.expect("a pass");
                passes += 1;
            }
            passes
        })
    };
    let shared: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 100]).collect();
    let clients = (0..40_u32).map(|n| {
        let (storage, owner, shared, root) = (storage.clone(), owner.clone(), shared.clone(), root.path().to_owned());
        tokio::spawn(async move {
            let own = n.to_le_bytes().repeat(10);
            let names: Vec<String> = (0..=shared.len()).map(|n| format!("f{n}")).collect();
            let all: Vec<&[u8]> = shared.iter().map(Vec::as_slice).chain([own.as_slice()]).collect();
            let files: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(all.iter().copied()).collect();
            let declared = declare(&storage, &owner, &manifest(&files)).await;
            let missing: Vec<&[u8]> = all.iter().copied().filter(|bytes| declared.missing.contains(&sum(bytes))).collect();
            give(&storage, &owner, &declared, blobs(&missing)).await;
            let build = BuildId::new();
            storage.blobs().keep(&owner, declared.id, build).await.expect("nothing that was there is missing");
            storage.blobs().forget(&owner, declared.id).await.expect("forgotten");
            let source = Source::Manifest { path: storage.path(build), root, replacement: None };
            assert_eq!(files_of(source).await.len(), all.len());
            // Others go on with what this one leaves.
            storage.remove(build).await.expect("removed");
        })
    });
    for client in join_all(clients.collect::<Vec<_>>()).await {
        client.expect("whole");
    }
    ended.store(true, Ordering::Relaxed);
    assert!(collector.await.expect("ends") > 3, "the collector ran meanwhile");
    storage.blobs().collect(Duration::ZERO).await.expect("a pass");
    assert_eq!(there(root.path(), &owner), [""; 0]);
}

/// Killed in the middle of a blob: the whole one before it may be there, the half one never is.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_leaves_no_half_blob() {
    let data = tempfile::tempdir().expect("a folder");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--engine", "unix:///nonexistent/engine"];
    let mut process = Process::start(&arguments, data.path());
    let client = Client::new(&process.address(), data.path());
    let (small, large): (Vec<u8>, Vec<u8>) = (b"small".to_vec(), vec![9; 8 << 20]);
    let text = manifest(&[("a", &small), ("b", &large)]);
    let declared = client.request(Method::POST, "/../contexts").body(text).send().await.expect("an answer");
    let declared: serde_json::Value = declared.json().await.expect("JSON");
    // Beside the builds, where the client is at home.
    let path = format!("/../contexts/{}/blobs", declared["id"].as_str().expect("an id"));
    let half = [entry(&sum(&small), &small), entry(&sum(&large), &large)[..5 << 20].to_vec()].concat();
    let endless = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(half))]);
    let body = Body::wrap_stream(futures::StreamExt::chain(endless, futures::stream::pending()));
    let sending = tokio::spawn(client.request(Method::POST, &path).body(body).send());
    let incoming = data.path().join("incoming");
    watch("the half blob is being written", || {
        let files = std::fs::read_dir(&incoming).expect("a folder").flatten();
        files.filter_map(|file| file.metadata().ok()).any(|meta| meta.len() > 1 << 20)
    })
    .await;
    process.kill();
    assert!(sending.await.expect("ends").is_err());
    let owner: Owner = "admin".parse().expect("a name");
    assert!(!there(data.path(), &owner).contains(&sum(&large)));
    let storage = ContextStorage::open(data.path(), 0).expect("opens");
    assert!(storage.sweep_incoming(Duration::ZERO).await.expect("a pass") > 0);
    assert_eq!(std::fs::read_dir(&incoming).expect("a folder").count(), 0);
}
