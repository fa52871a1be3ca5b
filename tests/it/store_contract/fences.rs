//! A write under a stale fence is refused even when nothing else about the build has changed: the revision alone is not trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockwright::domain::{BuildRecord, BuildState, Fence, WorkerId};
use dockwright::store::{Guard, Renewal, StoreError};

use super::behind_both;
use super::fixture::*;

behind_both!(a_stale_fence_with_the_newest_revision_is_refused, a_lease_that_is_gone_is_refused_at_the_newest_revision);

fn rename(record: &mut BuildRecord) {
    record.message = "written by a worker that has lost the build".into();
}

/// Every write of the worker that had this fence is refused, and nothing of it is stored.
async fn assert_lost(bench: &Bench, id: dockwright::domain::BuildId, fence: Fence) {
    let store = bench.store();
    let (revision, record) = (get(store, id).await.revision, bench.raw_record(id));
    let guard = Guard::Lease(fence);
    let written = store.update(id, &guard, |record, _, _| {
        rename(record);
        Ok(())
    });
    assert!(matches!(written.await, Err(StoreError::Lost)));
    assert!(matches!(store.append_log(id, fence, 1, &lines(&["late"])).await, Err(StoreError::Lost)));
    assert_eq!(store.renew(id, fence, LONG).await.expect("answers"), Renewal::Lost);
    assert_eq!((get(store, id).await.revision, bench.raw_record(id)), (revision, record));
}

async fn a_stale_fence_with_the_newest_revision_is_refused(bench: &mut Bench) {
    let claim = claimed(bench.store()).await;
    let id = claim.stored.record.id;
    // What the first half of another claim does: the fence grows, the record and its revision are as they were.
    bench.set(id, "fence", "fence", Some("2"));
    assert_eq!(get(bench.store(), id).await.revision, claim.stored.revision);
    assert_lost(bench, id, claim.fence).await;
}

async fn a_lease_that_is_gone_is_refused_at_the_newest_revision(bench: &mut Bench) {
    let claim = claimed(bench.store()).await;
    let id = claim.stored.record.id;
    bench.set(id, "lease_until", "until", None);
    assert_eq!(get(bench.store(), id).await.revision, claim.stored.revision);
    assert_lost(bench, id, claim.fence).await;
}

/// On Redis a change is computed outside of the commit. Whatever comes between the look and the write must be noticed by the
/// commit itself, though the revision is the one that was seen. (SQLite computes inside of its transaction: nothing comes between.)
async fn comes_between(field: &'static str, value: Option<&'static str>) {
    let bench = Arc::new(Bench::redis());
    let claim = claimed(bench.store()).await;
    let (id, done) = (claim.stored.record.id, AtomicBool::new(false));
    let (behind, guard) = (Arc::clone(&bench), Guard::Lease(claim.fence));
    let written = bench.store().update(id, &guard, move |record, _, _| {
        if !done.swap(true, Ordering::Relaxed) {
            behind.set(id, "", field, value);
        }
        rename(record);
        Ok(())
    });
    assert!(matches!(written.await, Err(StoreError::Lost)));
    let stored = get(bench.store(), id).await;
    assert_eq!((stored.revision, stored.record), (claim.stored.revision, claim.stored.record));
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_grew_between_look_and_write_is_noticed() {
    comes_between("fence", Some("2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_went_between_look_and_write_is_noticed() {
    comes_between("until", None).await;
}

/// The real course of it: a cancel has looked at a queued build; a claim takes it, which leaves the revision alone; the cancel writes.
/// It must see the lease and only ask, or a worker would go on with a build that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_looked_before_a_claim_only_asks_for_it() {
    let bench = Arc::new(Bench::redis());
    let id = submit(bench.store(), "ada").await;
    let (behind, done) = (Arc::clone(&bench), AtomicBool::new(false));
    let rule = move |record: &mut BuildRecord, now, leased| {
        if !done.swap(true, Ordering::Relaxed) {
            behind.first_half_of_a_claim();
        }
        if leased {
            record.cancel_requested = true;
            return Ok(());
        }
        record.cancelled(&[], now).map_err(|e| StoreError::Refused(e.to_string()))
    };
    let seen = bench.store().update(id, &Guard::Scope(dockwright::domain::Scope::All), rule).await;
    let seen = seen.expect("answers").expect("exists");
    assert_eq!((seen.record.state, seen.leased, seen.record.cancel_requested), (BuildState::Queued, true, true));
    assert_eq!(bench.store().renew(id, Fence(1), LONG).await.expect("answers"), Renewal::CancelRequested);
    let worker = WorkerId::unique();
    assert!(bench.store().claim(&worker, &node(), LONG).await.expect("answers").is_none(), "it is in hands");
    bench.clean().await;
}
