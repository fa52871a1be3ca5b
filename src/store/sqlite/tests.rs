//! A full disk, which the real one is hard to make on every machine: SQLite answers the same when its own limit of pages is met.

use super::*;
use crate::domain::{BuildId, BuildRecord, Priority, Scope, Timestamp};
use crate::store::NewBuild;

fn build(bytes: usize) -> NewBuild {
    let spec = serde_json::json!({
        "images": ["h:5000/a:1"], "dockerfile": "Dockerfile", "dockerfile_replaced": false, "build_args": {}, "labels": {},
        "target": null, "platform": null, "no_cache": false, "pull": false, "push": true, "network": "default",
        "memory_bytes": null, "milli_cpus": null, "timeout_ms": 1, "priority": Priority::default(), "username": null,
        "registry_host": null,
    });
    let context = serde_json::json!({"kind": "file", "bytes": 1, "files": 1, "sha256": ""});
    let record = BuildRecord::new(
        BuildId::new(),
        "ada".parse().expect("valid"),
        serde_json::from_value(spec).expect("a spec"),
        serde_json::from_value(context).expect("a context"),
        None,
        Timestamp::now(),
    );
    NewBuild { record, dockerfile: vec![b'x'; bytes], sealed: None, quota: Default::default() }
}

async fn limit_pages(store: &SqliteStore, pages: i64) {
    let set = move |txn: &writer::Txn<'_>| Ok(txn.conn.pragma_update(None, "max_page_count", pages)?);
    store.inner.writer.run(set).await.expect("set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&dir.path().join("db")).expect("opens");
    let (before, place) = store.submit(&build(100)).await.expect("accepted");
    assert_eq!(place, Some(0));
    limit_pages(&store, 100).await;
    let large = build(1_000_000);
    assert!(matches!(store.submit(&large).await, Err(StoreError::Full)));
    // Together with others in one commit, each is told the truth about itself.
    let (one, two) = (build(1_000_000), build(1_000_000));
    let (one_told, two_told) = tokio::join!(store.submit(&one), store.submit(&two));
    assert!(matches!((one_told, two_told), (Err(StoreError::Full), Err(StoreError::Full))));
    for refused in [&large, &one, &two] {
        assert!(store.get(&Scope::All, refused.record.id).await.expect("reads on").is_none(), "nothing is half there");
    }
    assert_eq!(store.get(&Scope::All, before.record.id).await.expect("reads on"), Some(before));
    assert_eq!(store.stats().await.expect("reads on").queued, 1);
    limit_pages(&store, 1_000_000).await;
    let (_, place) = store.submit(&large).await.expect("there is room again");
    assert_eq!(place, Some(1), "what was refused stands in no queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_panics_harms_nobody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&dir.path().join("db")).expect("opens");
    let id = store.submit(&build(1)).await.expect("accepted").0.record.id;
    let guard = crate::store::Guard::Scope(Scope::All);
    let panicked = store.update(id, &guard, Arc::new(|_, _, _| panic!("a fault of ours"))).await;
    assert!(matches!(panicked, Err(StoreError::Internal(_))));
    assert_eq!(store.get(&Scope::All, id).await.expect("answers").expect("exists").revision, 1);
    store.ping().await.expect("the writer goes on");
}

#[tokio::test]
async fn who_reads_ahead_of_memory_waits_for_it() {
    let live = Live::new(Turns::default());
    live.caught_up().await;
    live.begin();
    let mut waiting = std::pin::pin!(live.caught_up());
    assert!(futures::poll!(&mut waiting).is_pending(), "the commit may be in the file, its news are not here");
    live.enter(Vec::new());
    waiting.await;
}
