//! A record that this version cannot read: it is set aside, unchanged, and holds up nobody.

use std::time::Duration;

use dockwright::domain::{BuildState, Lapse};
use dockwright::store::ListQuery;

use super::behind_both;
use super::fixture::*;

behind_both!(
    lists_go_on_past_it,
    claims_go_on_past_it,
    lost_leases_are_dealt_with_beside_it,
    whoever_can_read_it_builds_it,
    a_record_that_contradicts_its_place_is_set_aside_too,
);

/// What a later version may have written.
const FOREIGN: &str = r#"{"format": 9, "what": "a later version knows"}"#;

async fn claims_go_on_past_it(bench: &mut Bench) {
    let store = bench.store();
    let (bad, same_owner) = (submit(store, "ada").await, submit(store, "ada").await);
    let other_owner = submit(store, "bob").await;
    for unreadable in [FOREIGN, "{ no JSON at all"] {
        bench.set(bad, "record", "rec", Some(unreadable));
    }
    let mut claimed = Vec::new();
    while let Some(claim) = claim(store).await {
        claimed.push(claim.stored.record.id);
    }
    claimed.sort();
    let mut all = vec![same_owner, other_owner];
    all.sort();
    assert_eq!(claimed, all, "the others of its owner, and of other owners");
    assert_eq!(bench.raw_record(bad), "{ no JSON at all", "what cannot be read is not written either");
    assert_eq!(store.stats().await.expect("answers").queued, 0, "it waits no more");
    assert_eq!(store.existing(&[bad]).await.expect("answers"), [bad], "and is not lost");
    submit(store, "ada").await;
    assert!(claim(store).await.is_some(), "what comes later is not held up either");
}

async fn lists_go_on_past_it(bench: &mut Bench) {
    let store = bench.store();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, submit(store, "ada").await);
    }
    bench.set(ids[1], "record", "rec", Some(FOREIGN));
    let mut query = ListQuery { limit: 2, ..ListQuery::of(own("ada")) };
    let mut seen = Vec::new();
    loop {
        let page = store.list(&query).await.expect("answers");
        seen.extend(page.items.iter().map(|stored| stored.record.id));
        query.before = seen.last().copied();
        if !page.more {
            break;
        }
    }
    ids.remove(1);
    assert_eq!(seen, ids, "the others, without gap or double");
}

async fn lost_leases_are_dealt_with_beside_it(bench: &mut Bench) {
    let store = bench.store();
    let bad = submit(store, "ada").await;
    claim_for(store, Duration::ZERO).await.expect("waits");
    bench.set(bad, "record", "rec", Some(FOREIGN));
    let good = submit(store, "bob").await;
    claim_for(store, Duration::ZERO).await.expect("waits");
    let reaped = reap_some(store).await;
    assert_eq!((reaped.len(), reaped[0].build, reaped[0].lapse), (1, good, Lapse::Requeued));
    assert_eq!(bench.raw_record(bad), FOREIGN);
    assert!(store.reap().await.expect("answers").is_empty(), "and it is not looked at again and again");
    assert_eq!(claim(store).await.expect("came back").stored.record.id, good);
}

async fn whoever_can_read_it_builds_it(bench: &mut Bench) {
    let (waiting, running) = (submit(bench.store(), "ada").await, submit(bench.store(), "bob").await);
    let records = [waiting, running].map(|id| bench.raw_record(id));
    bench.set(waiting, "record", "rec", Some(FOREIGN));
    assert_eq!(claim_for(bench.store(), Duration::ZERO).await.expect("waits").stored.record.id, running);
    let claimed = bench.raw_record(running);
    bench.set(running, "record", "rec", Some(FOREIGN));
    assert!(bench.store().reap().await.expect("answers").is_empty());
    assert!(claim(bench.store()).await.is_none());
    // The operator goes back to the version that wrote them.
    bench.set(waiting, "record", "rec", Some(&records[0]));
    bench.set(running, "record", "rec", Some(&claimed));
    bench.let_leases_run_out(&[waiting, running]);
    bench.reopen();
    let store = bench.store();
    eventually("both came back", || async {
        store.reap().await.expect("answers");
        (store.stats().await.expect("answers").queued == 2).then_some(())
    })
    .await;
    let mut got = Vec::new();
    while let Some(claim) = claim(store).await {
        got.push(claim.stored.record.id);
        publish(store, &claim).await;
    }
    got.sort();
    let mut both = [waiting, running];
    both.sort();
    assert_eq!(got, both);
    for id in both {
        assert_eq!(get(store, id).await.record.state, BuildState::Published);
    }
}

async fn a_record_that_contradicts_its_place_is_set_aside_too(bench: &mut Bench) {
    let store = bench.store();
    let ended = claimed(store).await;
    publish(store, &ended).await;
    let record = bench.raw_record(ended.stored.record.id);
    let (bad, good) = (submit(store, "ada").await, submit(store, "ada").await);
    let contradiction = record.replace(&ended.stored.record.id.to_string(), &bad.to_string());
    bench.set(bad, "record", "rec", Some(&contradiction));
    assert_eq!(claim(store).await.expect("waits").stored.record.id, good);
    assert!(claim(store).await.is_none());
    assert_eq!(bench.raw_record(bad), contradiction);
}
