//! Lists: newest first, filtered, in pages.

use dockwright::domain::{BuildId, BuildRecord, BuildState, Scope, Timestamp};
use dockwright::store::{ImageFilter, ListQuery, Store};

use super::fixture::*;
use super::on_both;

on_both!(
    a_list_shows_its_scope_newest_first,
    pages_join_without_gap_or_double,
    a_list_is_filtered_by_state,
    a_list_is_filtered_by_image,
    a_list_is_filtered_by_image_and_state_in_pages,
    a_build_that_is_not_pushed_is_found_by_its_image,
);

fn query(scope: Scope) -> ListQuery {
    ListQuery { limit: 50, ..ListQuery::of(scope) }
}

async fn ids(store: &Store, query: &ListQuery) -> Vec<BuildId> {
    let page = store.list(query).await.expect("answers");
    assert!(!page.more);
    page.items.into_iter().map(|stored| stored.record.id).collect()
}

fn image(repository: &str, tag: Option<&str>) -> Option<ImageFilter> {
    Some(ImageFilter { repository: repository.into(), tag: tag.map(Into::into) })
}

async fn a_list_shows_its_scope_newest_first(store: &Store) {
    let mut ada = vec![submit(store, "ada").await];
    let bob = submit(store, "bob").await;
    ada.push(submit(store, "ada").await);
    assert_eq!(ids(store, &query(own("ada"))).await, [ada[1], ada[0]]);
    assert_eq!(ids(store, &query(own("bob"))).await, [bob]);
    assert_eq!(ids(store, &query(own("bo"))).await, [] as [BuildId; 0]);
    assert_eq!(ids(store, &query(Scope::All)).await, [ada[1], bob, ada[0]]);
    let of_bob = ListQuery { owner: Some(owner("bob")), ..query(Scope::All) };
    assert_eq!(ids(store, &of_bob).await, [bob]);
    let foreign = ListQuery { owner: Some(owner("bob")), ..query(own("ada")) };
    assert_eq!(ids(store, &foreign).await, [] as [BuildId; 0], "a filter never widens a scope");
    let first = store.list(&query(own("bob"))).await.expect("answers").items.remove(0);
    assert_eq!(first, get(store, bob).await);
}

async fn pages_join_without_gap_or_double(store: &Store) {
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(submit(store, "ada").await);
    }
    all.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store.list(&ListQuery { before, limit: 3, ..query(own("ada")) }).await.expect("answers");
        assert_eq!(page.more, seen.len() + page.items.len() < 7);
        seen.extend(page.items.iter().map(|stored| stored.record.id));
        before = seen.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, all);
    let exact = store.list(&ListQuery { limit: 7, ..query(own("ada")) }).await.expect("answers");
    assert_eq!((exact.items.len(), exact.more), (7, false));
}

async fn a_list_is_filtered_by_state(store: &Store) {
    let first = submit(store, "ada").await;
    let second = submit(store, "ada").await;
    let other = submit(store, "bob").await;
    let state = |scope, state| ListQuery { state: Some(state), ..query(scope) };
    assert_eq!(ids(store, &state(Scope::All, BuildState::Queued)).await, [other, second, first]);
    let claim = claim(store).await.expect("waits");
    assert_eq!(claim.stored.record.id, first);
    assert_eq!(ids(store, &state(Scope::All, BuildState::Building)).await, [first]);
    assert_eq!(ids(store, &state(own("ada"), BuildState::Queued)).await, [second]);
    publish(store, &claim).await;
    assert_eq!(ids(store, &state(own("ada"), BuildState::Published)).await, [first]);
    assert_eq!(ids(store, &state(own("bob"), BuildState::Published)).await, [] as [BuildId; 0]);
    assert_eq!(ids(store, &state(Scope::All, BuildState::Building)).await, [] as [BuildId; 0]);
}

async fn a_list_is_filtered_by_image(store: &Store) {
    let images = ["h:5000/team/app:1", "h:5000/team/app:2", "busybox"];
    let many = store.submit(&build_for("ada", 0, &images)).await.expect("accepted").record.id;
    let one = store.submit(&build_for("ada", 0, &images[1..2])).await.expect("accepted").record.id;
    let bobs = store.submit(&build_for("bob", 0, &images[1..2])).await.expect("accepted").record.id;
    let find = |scope, filter| ListQuery { image: filter, ..query(scope) };
    assert_eq!(ids(store, &find(own("ada"), image("h:5000/team/app", None))).await, [one, many]);
    assert_eq!(ids(store, &find(own("ada"), image("h:5000/team/app", Some("1")))).await, [many]);
    assert_eq!(ids(store, &find(own("ada"), image("docker.io/library/busybox", Some("latest")))).await, [many]);
    assert_eq!(ids(store, &find(Scope::All, image("h:5000/team/app", Some("2")))).await, [bobs, one, many]);
    assert_eq!(ids(store, &find(Scope::All, image("h:5000/team/ap", None))).await, [] as [BuildId; 0]);
    store.delete(&Scope::All, many).await.expect("answers").expect("exists");
    assert_eq!(ids(store, &find(own("ada"), image("h:5000/team/app", None))).await, [one]);
    assert_eq!(ids(store, &find(Scope::All, image("docker.io/library/busybox", None))).await, [] as [BuildId; 0]);
}

async fn a_list_is_filtered_by_image_and_state_in_pages(store: &Store) {
    let mut live = Vec::new();
    for n in 0..12 {
        let id = store.submit(&build_for("ada", 0, &["h:5000/app:1"])).await.expect("accepted").record.id;
        if n % 3 == 0 {
            cancel(store, id).await.expect("answers");
        } else {
            live.push(id);
        }
    }
    live.reverse();
    let base = ListQuery { image: image("h:5000/app", None), state: Some(BuildState::Queued), limit: 5, ..query(own("ada")) };
    let first = store.list(&base).await.expect("answers");
    assert!(first.more);
    let second = store.list(&ListQuery { before: Some(live[4]), ..base.clone() }).await.expect("answers");
    assert!(!second.more);
    let seen: Vec<_> = first.items.iter().chain(&second.items).map(|stored| stored.record.id).collect();
    assert_eq!(seen, live);
}

async fn a_build_that_is_not_pushed_is_found_by_its_image(store: &Store) {
    let mut new = build_for("ada", 0, &["h:5000/team/app:1"]);
    let mut spec = new.record.spec.clone();
    spec.push = false;
    new.record = BuildRecord::new(new.record.id, owner("ada"), spec, new.record.context.clone(), None, Timestamp::now());
    assert!(new.record.destinations.is_empty(), "nothing is to be pushed");
    let id = store.submit(&new).await.expect("accepted").record.id;
    for tag in [None, Some("1")] {
        let found = ListQuery { image: image("h:5000/team/app", tag), ..query(own("ada")) };
        assert_eq!(ids(store, &found).await, [id]);
        let other = ListQuery { image: image("h:5000/team/ap", tag), ..query(own("ada")) };
        assert_eq!(ids(store, &other).await, [] as [BuildId; 0]);
    }
    store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    let found = ListQuery { image: image("h:5000/team/app", None), ..query(Scope::All) };
    assert_eq!(ids(store, &found).await, [] as [BuildId; 0]);
}
