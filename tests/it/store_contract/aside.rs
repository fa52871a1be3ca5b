//! Removals, locks, tokens, signs of life, wake-ups.

use std::time::Duration;

use dockwright::domain::{NodeId, Scope, Timestamp, WorkerId};
use dockwright::store::{ImageRemoval, Store, Topic, WorkerInfo};

use super::fixture::*;
use super::on_both;

on_both!(
    a_removal_waits_for_its_node,
    a_lock_has_one_holder,
    a_lock_ends_by_itself,
    workers_are_seen_while_they_say_so,
    a_ping_is_answered,
    what_moves_wakes_its_readers,
);

async fn a_removal_waits_for_its_node(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    assert_eq!(store.removal_outcome(id).await.expect("answers"), None);
    let removal = store.delete(&Scope::All, id).await.expect("answers").expect("exists").removal.expect("a node had it");
    assert_eq!(removal.image_id, None, "it was not built yet");
    assert!(store.removals(&NodeId::new("another")).await.expect("answers").is_empty());
    assert_eq!(store.removals(&node()).await.expect("answers"), std::slice::from_ref(&removal));
    assert_eq!(store.removal_outcome(id).await.expect("answers"), None, "outstanding");
    for _ in 0..2 {
        store.removal_done(&removal, ImageRemoval::Absent).await.expect("repeatable");
    }
    assert!(store.removals(&node()).await.expect("answers").is_empty());
    assert_eq!(store.removal_outcome(id).await.expect("answers"), Some(ImageRemoval::Absent));
}

async fn a_lock_has_one_holder(store: &Store) {
    assert!(store.lock("tag", "a", LONG).await.expect("answers"));
    assert!(!store.lock("tag", "b", LONG).await.expect("answers"));
    assert!(store.lock("tag", "a", LONG).await.expect("answers"), "its holder has it again");
    assert!(store.lock("other", "b", LONG).await.expect("answers"));
    store.unlock("tag", "b").await.expect("nothing happens");
    assert!(!store.lock("tag", "b", LONG).await.expect("answers"));
    store.unlock("tag", "a").await.expect("given back");
    assert!(store.lock("tag", "b", LONG).await.expect("answers"));
}

async fn a_lock_ends_by_itself(store: &Store) {
    assert!(store.lock("tag", "a", Duration::from_millis(100)).await.expect("answers"));
    eventually("the lock is free", || async { store.lock("tag", "b", LONG).await.expect("answers").then_some(()) }).await;
    assert!(!store.lock("tag", "a", LONG).await.expect("answers"));
}

async fn workers_are_seen_while_they_say_so(store: &Store) {
    let info = WorkerInfo {
        worker: WorkerId::unique(),
        node: node(),
        slots: 2,
        running: 1,
        engine_ready: true,
        clearing: true,
        disk_full: false,
        engine: "26.1.5".into(),
        seen_at: Timestamp::from_millis(0),
    };
    store.put_worker(&info).await.expect("kept");
    let seen = store.workers(LONG).await.expect("answers");
    assert_eq!(seen.len(), 1);
    assert!(Timestamp::now().since(seen[0].seen_at) < LONG, "the store sets the time");
    assert_eq!(WorkerInfo { seen_at: info.seen_at, ..seen[0].clone() }, info);
    store.put_worker(&WorkerInfo { running: 2, ..info.clone() }).await.expect("kept");
    assert_eq!(store.workers(LONG).await.expect("answers")[0].running, 2);
    let silent = || async { store.workers(Duration::from_millis(50)).await.expect("answers").is_empty().then_some(()) };
    eventually("it has been silent for long enough", silent).await;
    assert_eq!(store.workers(LONG).await.expect("answers").len(), 1);
    store.remove_worker(&info.worker).await.expect("removed");
    assert!(store.workers(LONG).await.expect("answers").is_empty());
}

async fn a_ping_is_answered(store: &Store) {
    store.ping().await.expect("it can take a write");
}

/// Every sleeper here would sleep for a minute if it were not woken.
async fn what_moves_wakes_its_readers(store: &Store) {
    // The connection for wake-ups comes up in the background, and wakes everybody then.
    let new = build("ada");
    let id = new.record.id;
    let mut queue = store.wakes().subscribe(Topic::Queue);
    let mut build = store.wakes().subscribe(Topic::Build(id));
    let mut removals = store.wakes().subscribe(Topic::Removals);
    let mut locks = store.wakes().subscribe(Topic::Locks);
    let soon = Duration::from_secs(10);

    store.submit(&new).await.expect("accepted");
    tokio::time::timeout(soon, queue.woken(LONG)).await.expect("a build was queued");
    tokio::time::timeout(soon, build.woken(LONG)).await.expect("its first event");
    let claim = claim(store).await.expect("waits");
    tokio::time::timeout(soon, queue.woken(LONG)).await.expect("positions have changed");
    tokio::time::timeout(soon, build.woken(LONG)).await.expect("it was claimed");
    store.append_log(id, claim.fence, 1, &lines(&["x"])).await.expect("its own build");
    tokio::time::timeout(soon, build.woken(LONG)).await.expect("a line came");
    let removal = store.delete(&Scope::All, id).await.expect("answers").expect("exists").removal.expect("a node had it");
    tokio::time::timeout(soon, removals.woken(LONG)).await.expect("a removal was asked for");
    tokio::time::timeout(soon, build.woken(LONG)).await.expect("it was deleted");
    store.removal_done(&removal, ImageRemoval::Removed).await.expect("done");
    tokio::time::timeout(soon, build.woken(LONG)).await.expect("the outcome is there");
    store.lock("tag", "a", LONG).await.expect("answers");
    store.unlock("tag", "a").await.expect("given back");
    tokio::time::timeout(soon, locks.woken(LONG)).await.expect("the lock is free");
}
