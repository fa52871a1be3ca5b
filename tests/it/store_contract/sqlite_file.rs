//! What only the embedded store promises: one process has the file, and what it acknowledged is in it.

use dockwright::domain::{BuildState, Lapse, Scope};
use dockwright::store::sqlite::SqliteStore;
use dockwright::store::{Renewal, Store, StoreError};

use super::fixture::*;

#[tokio::test]
async fn a_file_has_one_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("db");
    let first = SqliteStore::open(&path).expect("opens");
    let Err(StoreError::Unavailable(why)) = SqliteStore::open(&path) else { panic!("two must not share it") };
    assert_eq!(why, format!("another dockwright uses {}", dir.path().display()));
    drop(first);
    SqliteStore::open(&path).expect("free again");
}

#[tokio::test]
async fn a_restart_keeps_everything_and_ends_all_leases() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("db");
    let store = Store::Sqlite(SqliteStore::open(&path).expect("opens"));
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    let queued = submit(&store, "bob").await;
    store.append_log(id, claim.fence, 1, &lines(&["kept"])).await.expect("its own build");
    assert!(store.lock("tag", "dead", LONG).await.expect("answers"));
    drop(store);

    let store = Store::Sqlite(SqliteStore::open(&path).expect("opens"));
    let before = get(&store, id).await;
    assert_eq!((before.record.state, before.last_seq), (BuildState::Building, 3));
    let reaped = store.reap().await.expect("answers");
    assert_eq!(reaped.len(), 1, "at once, whatever was left of its lease");
    assert_eq!((reaped[0].build, reaped[0].lapse), (id, Lapse::Requeued));
    assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::Lost);
    assert!(store.lock("tag", "alive", LONG).await.expect("answers"), "its holder is dead");
    assert_eq!(store.existing(&[id, queued]).await.expect("answers").len(), 2);
    assert_eq!(store.stats().await.expect("answers").queued, 2);
}

#[tokio::test]
async fn a_restart_keeps_the_order_of_the_queue() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("db");
    let store = Store::Sqlite(SqliteStore::open(&path).expect("opens"));
    let image = ["127.0.0.1:5000/a"];
    let mut ids = Vec::new();
    for (owner, priority) in [("ada", 0), ("ada", 5), ("bob", -1), ("ada", 5), ("cyd", 0), ("bob", 0), ("ada", -3)] {
        ids.push(store.submit(&build_for(owner, priority, &image)).await.expect("accepted").record.id);
    }
    // Turns are taken, one build comes back, one goes.
    for comes_back in [true, false, false] {
        let taken = claim(&store).await.expect("one waits");
        if comes_back {
            requeue(&store, &taken).await.expect("its own build");
        }
    }
    let before = store.positions(&ids).await.expect("answers");
    assert_eq!(before.iter().flatten().count(), 5);
    drop(store);

    let store = Store::Sqlite(SqliteStore::open(&path).expect("opens"));
    assert_eq!(store.positions(&ids).await.expect("answers"), before);
    let mut foretold: Vec<_> = before.into_iter().zip(&ids).filter_map(|(place, id)| Some((place?, *id))).collect();
    foretold.sort_unstable();
    for (_, id) in foretold {
        assert_eq!(claim(&store).await.expect("one waits").stored.record.id, id);
    }
}

#[tokio::test]
async fn events_of_a_deleted_build_leave_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("db");
    let store = Store::Sqlite(SqliteStore::open(&path).expect("opens"));
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    let many = vec!["x"; 3000];
    store.append_log(id, claim.fence, 1, &lines(&many)).await.expect("its own build");
    let file = rusqlite::Connection::open(&path).expect("opens beside it");
    let count = || file.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).expect("counts");
    assert_eq!(count(), 3002);
    store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    eventually("no event is left", || async { (count() == 0).then_some(()) }).await;
}
