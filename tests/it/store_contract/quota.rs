//! What an owner may use, kept exactly whatever the interleaving.

use dockwright::domain::{Quota, Scope};
use dockwright::store::{NewBuild, Store, StoreError};

use super::fixture::*;
use super::on_both;

on_both!(
    no_more_are_queued_than_may_be,
    no_more_bytes_are_stored_than_may_be,
    no_more_are_in_hands_than_may_be,
    a_repeated_submit_is_no_second_use,
);

fn bounded(name: &str, quota: Quota) -> NewBuild {
    NewBuild { quota, ..build(name) }
}

async fn no_more_are_queued_than_may_be(store: &Store) {
    let quota = Quota { builds_queued: Some(3), ..Quota::default() };
    let tries = (0..10).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.submit(&bounded("ada", quota)).await })
    });
    let mut refused = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.expect("no panic") {
            Ok(_) => {}
            Err(StoreError::OverQuota { quota: "builds_queued", limit: 3, used: 3 }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((refused, store.usage(&owner("ada")).await.expect("answers").builds_queued), (7, 3));
    store.submit(&bounded("bob", quota)).await.expect("another owner has a quota of its own");
    eventually("one of ada's is taken", || async { claim(store).await.filter(|c| c.stored.record.owner == owner("ada")) }).await;
    store.submit(&bounded("ada", quota)).await.expect("there is a place again");
}

async fn no_more_bytes_are_stored_than_may_be(store: &Store) {
    let bytes = build("ada").bytes();
    let quota = Quota { stored_bytes: Some(2 * bytes), ..Quota::default() };
    let first = store.submit(&bounded("ada", quota)).await.expect("accepted").record.id;
    store.submit(&bounded("ada", quota)).await.expect("accepted");
    let third = store.submit(&bounded("ada", quota)).await;
    let expected = (2 * bytes, 2 * bytes);
    assert!(
        matches!(&third, Err(StoreError::OverQuota { quota: "stored_bytes", limit, used }) if (*limit, *used) == expected),
        "{third:?}"
    );
    store.delete(&Scope::All, first).await.expect("answers").expect("deleted");
    store.submit(&bounded("ada", quota)).await.expect("there is room again");
}

async fn no_more_are_in_hands_than_may_be(store: &Store) {
    let quota = Quota { builds_running: Some(1), ..Quota::default() };
    for _ in 0..3 {
        store.submit(&bounded("ada", quota)).await.expect("accepted");
    }
    let of_bob = submit(store, "bob").await;
    let (one, two) = (claim(store).await.expect("waits"), claim(store).await.expect("waits"));
    let mut owners = [one.stored.record.owner.clone(), two.stored.record.owner.clone()];
    owners.sort();
    assert_eq!(owners, [owner("ada"), owner("bob")]);
    assert!(claim(store).await.is_none(), "ada has as many in hands as she may");
    let of_ada = if one.stored.record.id == of_bob { &two } else { &one };
    publish(store, of_ada).await;
    let next = claim(store).await.expect("her next one");
    assert_eq!(next.stored.record.owner, owner("ada"));
    assert!(claim(store).await.is_none());
    // A worker that is lost gives its place back too.
    requeue(store, &next).await.expect("its own build");
    assert!(claim(store).await.is_some());
    assert!(claim(store).await.is_none());
    store.set_cap(&owner("ada"), None).await.expect("changed");
    assert!(claim(store).await.is_some(), "at once");
}

async fn a_repeated_submit_is_no_second_use(store: &Store) {
    let quota = Quota { builds_queued: Some(1), stored_bytes: Some(build("ada").bytes()), ..Quota::default() };
    let new = bounded("ada", quota);
    let first = store.submit(&new).await.expect("accepted");
    assert_eq!(store.submit(&new).await.expect("the same again"), first);
    assert_eq!(store.usage(&owner("ada")).await.expect("answers").builds, 1);
}
