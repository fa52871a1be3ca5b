//! What is to be told of the ends of builds.

use std::sync::Arc;
use std::time::Duration;

use dockwright::domain::{
    BuildError, BuildId, BuildRecord, BuildState, ErrorKind, IllegalTransition, Lapse, Scope, StageName, Timestamp,
};
use dockwright::egress::Egress;
use dockwright::hooks::{Dispatcher, HookSettings};
use dockwright::store::objects::{Expect, Kind, Write};
use dockwright::store::{Guard, Store, StoreError};
use dockwright::vault::Vault;

use super::behind_both;
use super::fixture::*;

behind_both!(
    every_end_is_noted_in_the_order_of_the_ends,
    an_owner_without_webhooks_leaves_no_notes,
    what_is_deleted_is_told_as_it_was,
    a_lease_that_runs_out_ends_builds_too,
    no_end_leaves_sealed_credentials,
    an_end_that_cannot_be_read_waits_for_a_version_that_can,
);

async fn hook(store: &Store, name: &str) {
    let put = Write::put(Kind::Webhook, format!("hook-of-{name}"), &owner(name), Expect::Anything, &0);
    store.commit(&[put]).await.expect("kept");
}

async fn ended(store: &Store) -> Vec<(BuildId, BuildState)> {
    let ended = store.ended(100).await.expect("answers");
    ended.into_iter().map(|end| (end.build, end.record.expect("can be read").state)).collect()
}

async fn every_end_is_noted_in_the_order_of_the_ends(bench: &mut Bench) {
    let store = bench.store();
    hook(store, "ada").await;
    let published = claimed(store).await;
    let (stopped, failed) = (submit(store, "ada").await, submit(store, "ada").await);
    assert_eq!(ended(store).await, [], "nothing has ended");
    publish(store, &published).await;
    cancel(store, stopped).await.expect("cancelled");
    let claim = claim(store).await.expect("one waits");
    assert_eq!(claim.stored.record.id, failed);
    let fail = |record: &mut BuildRecord, now, _| {
        let (kind, code, message) = (ErrorKind::User, "x".to_owned(), "x".to_owned());
        let error = BuildError { stage: StageName::Build, kind, code, message, dockerfile_line: None };
        record.failed(error, now).map_err(|e| StoreError::Refused(e.to_string()))
    };
    store.update(failed, &Guard::Lease(claim.fence), fail).await.expect("its own build");
    let all =
        [(published.stored.record.id, BuildState::Published), (stopped, BuildState::Cancelled), (failed, BuildState::Failed)];
    assert_eq!(ended(store).await, all);
    assert_eq!(store.ended(1).await.expect("answers").len(), 1);
    // A change of an ended build is no other end.
    store.drop_hot_log(stopped).await.expect("archived");
    for _ in 0..2 {
        store.ended_done(&[stopped]).await.expect("repeatable");
    }
    store.ended_done(&[]).await.expect("nothing to do");
    assert_eq!(ended(store).await, [all[0], all[2]]);
}

async fn an_owner_without_webhooks_leaves_no_notes(bench: &mut Bench) {
    let store = bench.store();
    hook(store, "bob").await;
    let (of_ada, of_bob) = (submit(store, "ada").await, submit(store, "bob").await);
    for id in [of_ada, of_bob] {
        cancel(store, id).await.expect("cancelled");
    }
    assert_eq!(ended(store).await, [(of_bob, BuildState::Cancelled)]);
    store.commit(&[Write::remove(Kind::Webhook, "hook-of-bob", Expect::Anything)]).await.expect("removed");
    let later = submit(store, "bob").await;
    cancel(store, later).await.expect("cancelled");
    assert_eq!(ended(store).await, [(of_bob, BuildState::Cancelled)]);
}

async fn what_is_deleted_is_told_as_it_was(bench: &mut Bench) {
    let store = bench.store();
    hook(store, "ada").await;
    let (gone, live) = (submit(store, "ada").await, submit(store, "ada").await);
    cancel(store, gone).await.expect("cancelled");
    let before = get(store, gone).await.record;
    for id in [gone, live] {
        store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    }
    let told = store.ended(100).await.expect("answers");
    assert_eq!((told.len(), told[0].record.as_ref()), (1, Some(&before)), "what never ended is not told of");
    store.ended_done(&[gone]).await.expect("done");
    assert_eq!(ended(store).await, []);
}

async fn a_lease_that_runs_out_ends_builds_too(bench: &mut Bench) {
    hook(bench.store(), "ada").await;
    let claim = claimed(bench.store()).await;
    let id = claim.stored.record.id;
    cancel(bench.store(), id).await.expect("asked for");
    assert_eq!(ended(bench.store()).await, []);
    bench.reopen();
    bench.let_leases_run_out(&[id]);
    let reaped = reap_some(bench.store()).await;
    assert_eq!(reaped[0].lapse, Lapse::Cancelled);
    assert_eq!(ended(bench.store()).await, [(id, BuildState::Cancelled)]);
}

async fn no_end_leaves_sealed_credentials(bench: &mut Bench) {
    let store = bench.store();
    let end = async |rule: fn(&mut BuildRecord, Timestamp) -> Result<(), IllegalTransition>| {
        let claim = claimed(store).await;
        let id = claim.stored.record.id;
        assert!(bench.has_sealed(id), "while it is live");
        let rule = move |record: &mut BuildRecord, now, _| rule(record, now).map_err(|e| StoreError::Refused(e.to_string()));
        store.update(id, &Guard::Lease(claim.fence), rule).await.expect("its own build");
        id
    };
    let failed = end(|record, now| {
        let (kind, code, message) = (ErrorKind::User, "x".to_owned(), "x".to_owned());
        record.failed(BuildError { stage: StageName::Build, kind, code, message, dockerfile_line: None }, now)
    });
    let ended = [failed.await, end(|record, now| record.cancelled(&[], now)).await, end(|r, now| r.superseded(None, now)).await];
    let (stopped, replaced) = (submit(store, "ada").await, submit(store, "ada").await);
    cancel(store, stopped).await.expect("cancelled");
    let younger = build("ada").record;
    store.supersede_older(&younger, u64::MAX).await.expect("ended");
    assert_eq!(get(store, replaced).await.record.superseded_by, Some(younger.id));
    let published = claimed(store).await;
    publish(store, &published).await;
    for id in ended.into_iter().chain([stopped, replaced, published.stored.record.id]) {
        assert!(get(store, id).await.record.state.is_terminal() && !bench.has_sealed(id), "{id}");
    }
}

/// One pass of a process that tells webhooks.
async fn deliver(store: &Store) {
    let settings = HookSettings { first_retry: Duration::from_secs(5), disable_after: Duration::from_secs(60) };
    let vault = Arc::new(Vault::new([7; 32]));
    let dispatcher = Dispatcher::new(store.clone(), vault, Egress::default(), Arc::new(dockwright::http::build_json), settings);
    let stop = tokio_util::sync::CancellationToken::new();
    dispatcher.deliver_once(&stop).await.expect("passes");
    // Its end gives the lock back.
    stop.cancel();
    dispatcher.run(stop).await;
}

async fn an_end_that_cannot_be_read_waits_for_a_version_that_can(bench: &mut Bench) {
    let store = bench.store();
    hook(store, "ada").await;
    let (bad, good) = (submit(store, "ada").await, submit(store, "ada").await);
    for id in [bad, good] {
        cancel(store, id).await.expect("cancelled");
    }
    // Nobody is to be told any more, but that is known only of a record that can be read.
    store.commit(&[Write::remove(Kind::Webhook, "hook-of-ada", Expect::Anything)]).await.expect("removed");
    let record = bench.raw_record(bad);
    bench.set(bad, "record", "rec", Some("{}"));
    deliver(store).await;
    let left = |ended: Vec<dockwright::store::Ended>| ended.into_iter().map(|end| end.build).collect::<Vec<_>>();
    assert_eq!(left(store.ended(10).await.expect("answers")), [bad]);
    bench.set(bad, "record", "rec", Some(&record));
    deliver(bench.store()).await;
    assert_eq!(left(bench.store().ended(10).await.expect("answers")), []);
}
