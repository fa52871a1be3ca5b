//! Whose turn it is, and what a build is told about it.

use std::time::Duration;

use dockwright::domain::{BuildId, BuildRecord, Quota};
use dockwright::store::{NewBuild, Store};

use super::fixture::*;
use super::on_both;

on_both!(
    a_flood_delays_another_owner_by_one_build,
    one_at_a_time_gains_nothing_and_loses_nothing,
    priority_counts_inside_an_owner,
    order_of_acceptance_counts_among_equals,
    a_build_that_comes_back_is_first_of_its_owner,
    positions_foretell_the_claims,
    positions_are_of_queued_builds,
    who_may_have_no_more_in_hands_goes_before_nobody,
);

async fn claim_id(store: &Store) -> BuildId {
    claim(store).await.expect("one waits").stored.record.id
}

async fn claim_owner(store: &Store) -> String {
    claim(store).await.expect("one waits").stored.record.owner.to_string()
}

async fn a_flood_delays_another_owner_by_one_build(store: &Store) {
    for _ in 0..200 {
        submit(store, "ada").await;
    }
    assert_eq!(claim_owner(store).await, "ada");
    let single = submit(store, "zoe").await;
    assert_eq!(store.position(single).await.expect("answers"), Some(0));
    assert_eq!(claim_id(store).await, single);
}

async fn one_at_a_time_gains_nothing_and_loses_nothing(store: &Store) {
    for _ in 0..10 {
        submit(store, "ada").await;
    }
    let mut owners = String::new();
    submit(store, "bob").await;
    for _ in 0..8 {
        let owner = claim_owner(store).await;
        owners.push_str(&owner[..1]);
        if owner == "bob" {
            submit(store, "bob").await;
        }
    }
    assert!(owners == "abababab" || owners == "babababa", "turns went {owners}");
}

async fn priority_counts_inside_an_owner(store: &Store) {
    let image = ["127.0.0.1:5000/a"];
    let mut ids = Vec::new();
    for priority in [0, -10, 10, 3] {
        ids.push(store.submit(&build_for("ada", priority, &image)).await.expect("accepted").record.id);
    }
    let other = submit(store, "bob").await;
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(claim_id(store).await);
    }
    let place = order.iter().position(|id| *id == other).expect("claimed");
    assert!(place <= 1, "another owner's priority does not count");
    order.remove(place);
    assert_eq!(order, [ids[2], ids[3], ids[0], ids[1]]);
}

async fn order_of_acceptance_counts_among_equals(store: &Store) {
    // Made first, accepted last: the clock of another process may be wrong, the order of acceptance is not.
    let early = build("ada");
    let late = build("ada");
    assert!(early.record.id < late.record.id);
    store.submit(&late).await.expect("accepted");
    store.submit(&early).await.expect("accepted");
    assert_eq!(claim_id(store).await, late.record.id);
    assert_eq!(claim_id(store).await, early.record.id);
}

async fn a_build_that_comes_back_is_first_of_its_owner(store: &Store) {
    let image = ["127.0.0.1:5000/a"];
    let low = store.submit(&build_for("ada", -5, &image)).await.expect("accepted").record.id;
    let handed_back = claim(store).await.expect("waits");
    store.submit(&build_for("ada", 10, &image)).await.expect("accepted");
    let back = requeue(store, &handed_back).await.expect("its own build").expect("exists");
    assert!(!back.leased);
    assert_eq!(store.position(low).await.expect("answers"), Some(0));
    assert_eq!(claim_id(store).await, low);
}

async fn positions_foretell_the_claims(store: &Store) {
    let image = ["127.0.0.1:5000/a"];
    let names = ["ada", "bob", "cyd", "dan"];
    let mut ids = Vec::new();
    // A fixed, uneven mixture; some turns are taken while it grows, and some builds come back.
    for n in 0..40_usize {
        let name = names[(n * n + n / 7) % names.len()];
        let priority = i8::try_from(n % 5).expect("small") - 2;
        ids.push(store.submit(&build_for(name, priority, &image)).await.expect("accepted").record.id);
        if n % 9 == 8 {
            let gone = claim(store).await.expect("waits");
            if n % 2 == 0 {
                requeue(store, &gone).await.expect("its own build");
            } else {
                ids.retain(|id| *id != gone.stored.record.id);
            }
        }
    }
    let mut foretold = Vec::new();
    for id in &ids {
        foretold.push((store.position(*id).await.expect("answers").expect("queued"), *id));
    }
    foretold.sort_unstable();
    for (n, (position, id)) in foretold.into_iter().enumerate() {
        assert_eq!(position, n as u64, "every place is taken once");
        assert_eq!(claim_id(store).await, id);
    }
}

async fn positions_are_of_queued_builds(store: &Store) {
    let id = submit(store, "ada").await;
    assert_eq!(store.position(id).await.expect("answers"), Some(0));
    let claim = claim_for(store, Duration::from_secs(60)).await.expect("waits");
    assert_eq!(store.position(id).await.expect("answers"), None);
    publish(store, &claim).await;
    assert_eq!(store.position(id).await.expect("answers"), None);
    let unknown: BuildRecord = build("ada").record;
    assert_eq!(store.position(unknown.id).await.expect("answers"), None);
}

async fn who_may_have_no_more_in_hands_goes_before_nobody(store: &Store) {
    let quota = Quota { builds_running: Some(1), ..Quota::default() };
    for _ in 0..3 {
        store.submit(&NewBuild { quota, ..build("ada") }).await.expect("accepted");
    }
    let of_ada = claim(store).await.expect("waits");
    let mut of_bob = Vec::new();
    for _ in 0..3 {
        of_bob.push(submit(store, "bob").await);
    }
    let places = async || store.positions(&of_bob).await.expect("answers");
    assert_eq!(places().await, [Some(0), Some(1), Some(2)]);
    // One of ada's is done: one more of hers may go in between, and no two.
    publish(store, &of_ada).await;
    assert_eq!(places().await, [Some(0), Some(2), Some(3)]);
    store.set_cap(&owner("ada"), Some(0)).await.expect("changed");
    assert_eq!(places().await, [Some(0), Some(1), Some(2)]);
    for id in of_bob {
        assert_eq!(claim_id(store).await, id);
    }
    store.set_cap(&owner("ada"), None).await.expect("changed");
    assert_eq!(claim_owner(store).await, "ada");
}
