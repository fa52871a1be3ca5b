//! Which of two builds is the younger: by their acceptance, whatever their ids say.

use dockwright::domain::{BuildState, Scope};
use dockwright::store::{NewBuild, Store};

use super::fixture::*;
use super::on_both;

on_both!(age_goes_by_acceptance_and_not_by_id, a_retry_is_as_old_as_what_it_repeats);

/// Two of one image, accepted the other way round than their ids were made, as when the first one's source was fetched for long.
async fn crossed(store: &Store) -> (NewBuild, NewBuild) {
    let (late, early) = (build("ada"), build("ada"));
    assert!(late.record.id < early.record.id);
    for new in [&early, &late] {
        store.submit(new).await.expect("accepted");
    }
    (early, late)
}

async fn age_goes_by_acceptance_and_not_by_id(store: &Store) {
    let (early, late) = crossed(store).await;
    let (older, younger) = (get(store, early.record.id).await, get(store, late.record.id).await);
    assert!(older.age() < younger.age(), "{older:?} {younger:?}");
    assert_eq!(store.submit(&early).await.expect("known").age(), older.age(), "accepted twice");
    let placed = store.get_placed(&Scope::All, late.record.id).await.expect("answers").expect("there");
    assert_eq!(placed.0.age(), younger.age());

    store.supersede_older(&older.record, older.age()).await.expect("done");
    assert_eq!(get(store, late.record.id).await.record.state, BuildState::Queued, "it is the younger one");
    let claimed = claim(store).await.expect("one waits").stored;
    assert_eq!((claimed.record.id, claimed.age()), (early.record.id, older.age()));
    store.supersede_older(&younger.record, younger.age()).await.expect("done");
    let older = get(store, early.record.id).await;
    assert_eq!((older.record.cancel_requested, older.record.superseded_by), (true, Some(late.record.id)));
}

async fn a_retry_is_as_old_as_what_it_repeats(store: &Store) {
    let (early, late) = crossed(store).await;
    let (first, second) = (get(store, early.record.id).await, get(store, late.record.id).await);
    let mut again = build("ada");
    again.record.repeats_order = Some(first.age());
    let again = store.submit(&again).await.expect("accepted");
    assert!(again.order > second.order && again.age() == first.age());
    store.supersede_older(&again.record, again.age()).await.expect("done");
    assert_eq!(get(store, late.record.id).await.record.state, BuildState::Queued);
    store.supersede_older(&second.record, second.age()).await.expect("done");
    assert_eq!(get(store, again.record.id).await.record.superseded_by, Some(late.record.id));
}
