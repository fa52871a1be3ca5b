//! Several workers and callers at once: what holds afterwards, whatever came first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dockwright::domain::{BuildId, BuildState, Scope};
use dockwright::store::{Guard, Store, StoreError};

use super::{check_events, id_of};
use crate::store_contract::fixture::*;

const BUILDS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_its_invariants_under_a_crowd() {
    let bench = Bench::sqlite();
    crowd(bench.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_its_invariants_under_a_crowd() {
    let bench = Bench::redis();
    crowd(bench.store()).await;
    bench.clean().await;
}

async fn crowd(store: &Store) {
    let mut ids = Vec::new();
    for n in 0..BUILDS {
        ids.push(submit(store, ["ada", "bob", "cyd"][n % 3]).await);
    }
    let ids = Arc::new(ids);
    let mut tasks = Vec::new();
    for n in 0..6_usize {
        let (store, ids) = (store.clone(), Arc::clone(&ids));
        tasks.push(tokio::spawn(async move {
            match n {
                0..=2 => work(&store, n).await,
                3 => call(&store, &ids).await,
                _ => reap(&store).await,
            }
        }));
    }
    for task in tasks {
        task.await.expect("no assertion failed");
    }
    afterwards(store, &ids).await;
}

/// A worker that sometimes dies, hands back, and works on with a claim that is over.
async fn work(store: &Store, seed: usize) {
    let mut old = Vec::new();
    for n in seed..seed + 40 {
        let lease = if n % 4 == 0 { Duration::ZERO } else { LONG };
        let Some(claim) = claim_for(store, lease).await else { continue };
        let id = id_of(&claim);
        let held = !matches!(store.append_log(id, claim.fence, 1, &lines(&["x", "y"])).await, Err(StoreError::Lost));
        let ended = match n % 5 {
            0 => requeue(store, &claim).await,
            1 | 2 => store.update(id, &Guard::Lease(claim.fence), |record, now, _| refuse(record.cancelled(&[], now))).await,
            _ => Ok(None),
        };
        assert!(held || matches!(ended, Err(StoreError::Lost) | Ok(None)), "a claim that was lost came back");
        for claim in &old {
            // Whatever it is told, a claim that is over must not change anything: `afterwards` would see it.
            let _ = requeue(store, claim).await;
        }
        old.push(claim);
    }
}

async fn call(store: &Store, ids: &[BuildId]) {
    for (n, id) in ids.iter().enumerate() {
        match n % 6 {
            0 => assert!(store.delete(&Scope::All, *id).await.expect("answers").is_some()),
            1 | 2 => {
                // Refused when it has ended already.
                let _ = cancel(store, *id).await;
            }
            _ => {
                store.position(*id).await.expect("answers");
            }
        }
    }
}

async fn reap(store: &Store) {
    for _ in 0..30 {
        store.reap().await.expect("answers");
    }
}

fn refuse(done: Result<(), dockwright::domain::IllegalTransition>) -> Result<(), StoreError> {
    done.map_err(|e| StoreError::Refused(e.to_string()))
}

async fn afterwards(store: &Store, ids: &[BuildId]) {
    let mut waiting = HashSet::new();
    let mut running = 0;
    for (n, id) in ids.iter().enumerate() {
        let Some(stored) = store.get(&Scope::All, *id).await.expect("answers") else {
            assert_eq!(n % 6, 0, "only these were deleted");
            continue;
        };
        let at_work = matches!(stored.record.state, BuildState::Building | BuildState::Pushing);
        assert_eq!(
            stored.leased, at_work,
            "{:?}: an owner and a deadline while it is worked on, and only then",
            stored.record.state
        );
        running += u64::from(at_work);
        if stored.record.state == BuildState::Queued {
            waiting.insert(*id);
        }
        let events = store.events(&Scope::All, *id, 0, 10_000).await.expect("answers").expect("exists");
        check_events(&events, &stored.record);
        assert_eq!(events.len() as u64, stored.last_seq);
        assert!(stored.record.attempt <= stored.fence.0);
    }
    let stats = store.stats().await.expect("answers");
    assert_eq!((stats.queued, stats.running), (waiting.len() as u64, running));
    let mut claimed = HashSet::new();
    while let Some(claim) = claim(store).await {
        assert!(claimed.insert(id_of(&claim)), "claimed twice");
    }
    assert_eq!(claimed, waiting, "each stood in the queue, exactly once");
}
