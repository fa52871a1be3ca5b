use std::path::Path;
use std::time::Duration;

use dockwright::context::storage::{ByteStream, ContextStorage};
use dockwright::domain::BuildId;
use dockwright::error::Error;
use futures::TryStreamExt;

fn storage() -> (tempfile::TempDir, ContextStorage) {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = ContextStorage::open(folder.path(), 0).expect("opens");
    (folder, storage)
}

fn files(folder: &Path, name: &str) -> usize {
    std::fs::read_dir(folder.join(name)).expect("a folder").count()
}

async fn kept(storage: &ContextStorage, id: BuildId, pieces: &[&[u8]]) -> String {
    let mut incoming = storage.begin(u64::MAX).await.expect("begins");
    for piece in pieces {
        incoming.write(piece.to_vec()).await.expect("writes");
    }
    let received = incoming.finish().await.expect("finishes");
    assert_eq!(received.bytes(), pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
    let sha256 = received.sha256().to_owned();
    storage.keep(received, id).await.expect("keeps");
    sha256
}

#[tokio::test]
async fn context_storage_keeps_an_upload_whole_with_its_checksum() {
    let (folder, storage) = storage();
    let id = BuildId::new();
    let sha256 = kept(&storage, id, &[b"a", b"", b"bc"]).await;
    assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(std::fs::read(storage.path(id)).expect("kept"), b"abc");
    assert_eq!(files(folder.path(), "incoming"), 0);
}

#[tokio::test]
async fn context_storage_keeps_large_uploads_in_order() {
    let (_folder, storage) = storage();
    let id = BuildId::new();
    let pieces: Vec<Vec<u8>> = (0..2000_u32).map(|n| vec![n as u8; 1 + (n as usize * 37) % 5000]).collect();
    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let sha256 = kept(&storage, id, &slices).await;
    let whole = pieces.concat();
    use sha2::Digest;
    assert_eq!(sha256, hex::encode(sha2::Sha256::digest(&whole)));
    assert!(std::fs::read(storage.path(id)).expect("kept") == whole, "the bytes differ");
}

#[tokio::test]
async fn context_storage_removes_an_upload_that_is_given_up() {
    let (folder, storage) = storage();
    let mut incoming = storage.begin(u64::MAX).await.expect("begins");
    incoming.write(vec![1; 3 << 20]).await.expect("writes");
    assert_eq!(files(folder.path(), "incoming"), 1);
    drop(incoming);
    let received = storage.begin(9).await.expect("begins").finish().await.expect("finishes");
    drop(received);
    assert_eq!((files(folder.path(), "incoming"), files(folder.path(), "contexts")), (0, 0));
}

#[tokio::test]
async fn context_storage_refuses_what_is_over_the_limit() {
    let (folder, storage) = storage();
    let mut incoming = storage.begin(10).await.expect("begins");
    incoming.write(vec![0; 10]).await.expect("ten are allowed");
    let error = incoming.write(vec![0; 1]).await.expect_err("eleven are not");
    let Error::TooLarge { code, detail } = error else { panic!("{error:?}") };
    assert_eq!(code, "upload_too_large");
    assert!(detail.contains("limit of 10 "), "{detail}");
    drop(incoming);
    assert_eq!(files(folder.path(), "incoming"), 0);
}

#[tokio::test]
async fn context_storage_takes_nothing_below_the_floor() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = ContextStorage::open(folder.path(), u64::MAX).expect("opens");
    assert!(matches!(storage.begin(1).await, Err(Error::StorageFull(_))));
    assert!(storage.free_bytes().expect("a number") > 0);
}

async fn text(stream: ByteStream) -> Vec<u8> {
    stream.try_collect::<Vec<_>>().await.expect("a whole log").concat()
}

#[tokio::test]
async fn context_storage_archives_logs_whole_or_not_at_all() {
    let (folder, storage) = storage();
    let id = BuildId::new();
    assert!(storage.read_log(id).await.expect("answers").is_none());
    let log = storage.begin_log(id).await.expect("begins").append("one\n").await.expect("appends");
    assert!(storage.read_log(id).await.expect("answers").is_none(), "half a log is none");
    drop(log);
    assert_eq!((files(folder.path(), "incoming"), files(folder.path(), "logs")), (0, 0));
    let lines = "a line of a log\n".repeat(50_000);
    storage.write_log(id, lines.clone()).await.expect("archives");
    let stream = storage.read_log(id).await.expect("answers").expect("is there");
    assert!(text(stream).await == lines.as_bytes(), "the log differs");
    storage.write_log(id, "again").await.expect("replaces");
    assert_eq!(text(storage.read_log(id).await.expect("answers").expect("is there")).await, b"again");
}

#[tokio::test]
async fn context_storage_lists_and_removes_what_it_has() {
    let (folder, storage) = storage();
    let ids = [BuildId::new(), BuildId::new(), BuildId::new()];
    kept(&storage, ids[0], &[b"x"]).await;
    kept(&storage, ids[1], &[b"x"]).await;
    storage.write_log(ids[1], "log").await.expect("archives");
    storage.write_log(ids[2], "log").await.expect("archives");
    std::fs::write(folder.path().join("contexts/README"), "not ours").expect("writes");
    let mut sorted = ids;
    sorted.sort();
    assert_eq!(storage.list_ids().await.expect("lists"), sorted);
    for id in ids {
        assert!(storage.remove(id).await.expect("removes"));
        assert!(!storage.remove(id).await.expect("removes"), "a second time there is nothing");
    }
    assert_eq!(storage.list_ids().await.expect("lists"), []);
    assert!(folder.path().join("contexts/README").exists());
}

#[tokio::test]
async fn context_storage_sweeps_what_a_crash_left() {
    let (folder, storage) = storage();
    std::fs::write(folder.path().join("incoming/.tmpleft"), "half").expect("writes");
    std::fs::create_dir_all(folder.path().join("incoming/.tmpgit/0/objects/pack")).expect("writes");
    assert_eq!(storage.sweep_incoming(Duration::from_secs(3600)).await.expect("sweeps"), 0, "it is young");
    assert_eq!(storage.sweep_incoming(Duration::ZERO).await.expect("sweeps"), 2);
    assert_eq!(files(folder.path(), "incoming"), 0);
}
