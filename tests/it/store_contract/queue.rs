//! Claims and leases.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dockwright::domain::{AttemptStart, BuildRecord, BuildState, Fence, Lapse, MAX_CRASHES, NodeId, Timestamp, WorkerId};
use dockwright::store::{Guard, Renewal, Store, StoreError, WorkerInfo};

use super::fixture::*;
use super::on_both;

on_both!(
    a_claim_starts_an_attempt,
    a_hundred_claimers_get_each_build_once,
    a_lease_that_runs_out_comes_back_with_a_new_fence,
    a_renewal_revives_its_own_lease,
    the_third_crash_is_the_last,
    a_lease_that_is_renewed_is_not_reaped,
    a_cancel_reaches_the_worker_by_its_renewal,
    a_lost_build_that_was_to_be_cancelled_is_cancelled,
    a_queued_build_is_cancelled_at_once,
    a_cancel_beside_a_claim_leaves_nobody_unaware,
    a_deletion_beside_a_claim_leaves_no_lease,
    a_push_goes_on_where_its_image_is,
    what_is_bound_to_a_node_waits_for_it_while_it_lives,
);

async fn a_claim_starts_an_attempt(store: &Store) {
    let id = submit(store, "ada").await;
    let worker = WorkerId::unique();
    let claim = store.claim(&worker, &node(), LONG).await.expect("answers").expect("one waits");
    let record = &claim.stored.record;
    assert_eq!((record.id, record.state, record.attempt), (id, BuildState::Building, 1));
    assert_eq!((record.worker.as_ref(), record.node.as_ref()), (Some(&worker), Some(&node())));
    assert_eq!((claim.fence, claim.start, claim.stored.leased), (Fence(1), AttemptStart::Build, true));
    assert_eq!(get(store, id).await, claim.stored, "durable before it was answered");
    let stats = store.stats().await.expect("answers");
    assert_eq!((stats.queued, stats.running), (0, 1));
    assert!(store.claim(&worker, &node(), LONG).await.expect("answers").is_none());
}

async fn a_hundred_claimers_get_each_build_once(store: &Store) {
    let mut all = HashSet::new();
    for n in 0..40 {
        all.insert(submit(store, ["ada", "bob", "cyd"][n % 3]).await);
    }
    let store = Arc::new(store.clone());
    let claimers: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { claim(&store).await.map(|claim| claim.stored.record.id) })
        })
        .collect();
    let mut got = Vec::new();
    for claimer in claimers {
        got.extend(claimer.await.expect("no panic"));
    }
    assert_eq!(got.len(), 40, "one claim for each build");
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), all);
}

async fn a_lease_that_runs_out_comes_back_with_a_new_fence(store: &Store) {
    let id = submit(store, "ada").await;
    let first = claim_for(store, Duration::from_millis(150)).await.expect("waits");
    let reaped = reap_some(store).await;
    assert_eq!(reaped.len(), 1);
    assert_eq!((reaped[0].build, reaped[0].lapse), (id, Lapse::Requeued));
    let stored = get(store, id).await;
    assert_eq!((stored.record.state, stored.leased, stored.record.crashes), (BuildState::Queued, false, 1));
    assert_eq!(store.renew(id, first.fence, LONG).await.expect("answers"), Renewal::Lost);
    assert!(matches!(store.append_log(id, first.fence, 1, &lines(&["late"])).await, Err(StoreError::Lost)));
    assert!(matches!(requeue(store, &first).await, Err(StoreError::Lost)));
    let second = claim(store).await.expect("waits again");
    assert_eq!((second.stored.record.id, second.fence, second.stored.record.attempt), (id, Fence(2), 2));
    assert_eq!(store.renew(id, first.fence, LONG).await.expect("answers"), Renewal::Lost);
    assert_eq!(store.renew(id, second.fence, LONG).await.expect("answers"), Renewal::Continue);
}

async fn a_renewal_revives_its_own_lease(store: &Store) {
    submit(store, "ada").await;
    let claim = claim_for(store, Duration::ZERO).await.expect("waits");
    let id = claim.stored.record.id;
    assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::Continue);
    assert!(store.reap().await.expect("answers").is_empty());
    assert_eq!(get(store, id).await.record.crashes, 0);
}

async fn the_third_crash_is_the_last(store: &Store) {
    let id = submit(store, "ada").await;
    for crash in 1..=MAX_CRASHES {
        claim_for(store, Duration::ZERO).await.expect("waits");
        let lapse = reap_some(store).await[0].lapse;
        assert_eq!(lapse, if crash < MAX_CRASHES { Lapse::Requeued } else { Lapse::Poisoned });
    }
    let stored = get(store, id).await;
    assert_eq!((stored.record.state, stored.leased), (BuildState::Failed, false));
    assert_eq!(stored.record.error.expect("an error").code, "poisoned");
    assert!(claim(store).await.is_none());
}

async fn a_lease_that_is_renewed_is_not_reaped(store: &Store) {
    submit(store, "ada").await;
    let claim = claim_for(store, Duration::ZERO).await.expect("waits");
    submit(store, "bob").await;
    claim_for(store, Duration::ZERO).await.expect("waits");
    store.renew(claim.stored.record.id, claim.fence, LONG).await.expect("answers");
    let reaped = reap_some(store).await;
    assert_eq!(reaped.len(), 1, "only the other one");
    assert_ne!(reaped[0].build, claim.stored.record.id);
}

async fn a_cancel_reaches_the_worker_by_its_renewal(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    let asked = cancel(store, id).await.expect("answers").expect("exists");
    assert_eq!((asked.record.state, asked.record.cancel_requested, asked.leased), (BuildState::Building, true, true));
    assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::CancelRequested);
}

async fn a_lost_build_that_was_to_be_cancelled_is_cancelled(store: &Store) {
    submit(store, "ada").await;
    let claim = claim_for(store, Duration::ZERO).await.expect("waits");
    cancel(store, claim.stored.record.id).await.expect("answers");
    assert_eq!(reap_some(store).await[0].lapse, Lapse::Cancelled);
    assert_eq!(get(store, claim.stored.record.id).await.record.state, BuildState::Cancelled);
}

async fn a_queued_build_is_cancelled_at_once(store: &Store) {
    let id = submit(store, "ada").await;
    let cancelled = cancel(store, id).await.expect("answers").expect("exists");
    assert_eq!((cancelled.record.state, cancelled.leased), (BuildState::Cancelled, false));
    assert_eq!(store.stats().await.expect("answers").queued, 0);
    assert_eq!(store.position(id).await.expect("answers"), None);
    assert!(claim(store).await.is_none());
    assert!(matches!(cancel(store, id).await, Err(StoreError::Refused(_))), "it has ended");
}

async fn a_cancel_beside_a_claim_leaves_nobody_unaware(store: &Store) {
    for _ in 0..40 {
        let id = submit(store, "ada").await;
        let (claim, cancelled) = tokio::join!(claim(store), cancel(store, id));
        cancelled.expect("a live build can be cancelled");
        let stored = get(store, id).await;
        match claim {
            None => assert_eq!((stored.record.state, stored.leased), (BuildState::Cancelled, false)),
            Some(claim) => {
                assert!(stored.leased && !stored.record.state.is_terminal(), "its worker ends it");
                assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::CancelRequested);
            }
        }
    }
}

async fn a_deletion_beside_a_claim_leaves_no_lease(store: &Store) {
    for _ in 0..40 {
        let id = submit(store, "ada").await;
        let scope = own("ada");
        let (claim, deleted) = tokio::join!(claim(store), store.delete(&scope, id));
        let deleted = deleted.expect("answers").expect("exists");
        if let Some(claim) = claim {
            assert!(deleted.removal.is_some(), "its node may have an image");
            assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::Lost);
        }
        let stats = store.stats().await.expect("answers");
        assert_eq!((stats.queued, stats.running), (0, 0));
    }
}

async fn a_push_goes_on_where_its_image_is(store: &Store) {
    let first = claimed(store).await;
    let worker = first.stored.record.worker.clone().expect("claimed");
    let built = move |record: &mut BuildRecord, now, _| {
        record.image_built(digest('a'), 1, &worker, now).map_err(|e| StoreError::Refused(e.to_string()))
    };
    store.update(first.stored.record.id, &Guard::Lease(first.fence), built).await.expect("its own build");
    requeue(store, &first).await.expect("its own build");
    let second = claim(store).await.expect("waits");
    assert_eq!((second.start, second.stored.record.state), (AttemptStart::Push, BuildState::Pushing));
}

async fn what_is_bound_to_a_node_waits_for_it_while_it_lives(store: &Store) {
    let bound = || async {
        let mut new = build("ada");
        new.record.bound_to = Some(node());
        store.submit(&new).await.expect("accepted").record.id
    };
    let sign = WorkerInfo {
        worker: WorkerId::unique(),
        node: node(),
        slots: 1,
        running: 0,
        engine_ready: true,
        disk_full: false,
        clearing: false,
        engine: "26.1.5".into(),
        seen_at: Timestamp::from_millis(0),
    };
    store.put_worker(&sign).await.expect("kept");
    let elsewhere = || async {
        let claim = store.claim(&WorkerId::unique(), &NodeId::new("node-2"), LONG).await.expect("answers");
        claim.map(|claim| claim.stored.record.id)
    };
    let (first, second) = (bound().await, bound().await);
    let (free, other) = (submit(store, "ada").await, submit(store, "bob").await);
    let there = HashSet::from([elsewhere().await, elsewhere().await]);
    assert_eq!(there, HashSet::from([Some(free), Some(other)]), "the others, of their owner and of the next, are not held up");
    assert_eq!(elsewhere().await, None);
    assert_eq!((store.stats().await.expect("answers").queued, store.position(first).await.expect("answers")), (2, Some(0)));
    assert_eq!(claim(store).await.expect("its own node's").stored.record.id, first);
    store.remove_worker(&sign.worker).await.expect("removed");
    assert_eq!(elsewhere().await, Some(second), "its node is away: it is begun, to tell so");
    assert_eq!(store.stats().await.expect("answers").queued, 0);
}
