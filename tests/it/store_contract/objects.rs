//! Objects, rates, the audit; what an owner uses, and builds that change hands.

use std::time::Duration;

use dockwright::domain::{RunId, Scope, Usage};
use dockwright::store::objects::{Expect, Kind, Object, ObjectQuery, Write};
use dockwright::store::{ImageFilter, ListQuery, Moved, Store, StoreError, Topic};

use super::fixture::*;
use super::on_both;

on_both!(
    an_object_is_its_owners,
    a_commit_is_whole_or_nothing,
    one_of_many_makes_it,
    objects_end_by_themselves,
    lists_are_newest_first_and_of_one_owner,
    objects_are_listed_by_what_they_belong_to,
    accounts_wake_their_readers,
    a_run_wakes_its_readers,
    hits_are_counted_in_a_window,
    the_audit_is_appended_by_one,
    usage_is_what_there_is,
    an_ended_build_changes_hands,
    sealed_credentials_are_replaced_once,
);

fn put(kind: Kind, id: &str, name: &str, expect: Expect, body: &str) -> Write {
    Write::put(kind, id, &owner(name), expect, &body)
}

async fn body(store: &Store, scope: &Scope, id: &str) -> Option<String> {
    store.object::<String>(scope, Kind::Registry, id).await.expect("answers").map(|object| object.body)
}

async fn an_object_is_its_owners(store: &Store) {
    store.commit(&[put(Kind::Registry, "ada/hub", "ada", Expect::Absent, "one")]).await.expect("made");
    assert_eq!(body(store, &own("ada"), "ada/hub").await.as_deref(), Some("one"));
    assert_eq!(body(store, &Scope::All, "ada/hub").await.as_deref(), Some("one"));
    for other in ["bob", "ad", "adam"] {
        assert_eq!(body(store, &own(other), "ada/hub").await, None, "{other}");
    }
    let same_id = store.object::<String>(&Scope::All, Kind::User, "ada/hub").await.expect("answers");
    assert!(same_id.is_none(), "another kind is another object");
    store.commit(&[Write::remove(Kind::Registry, "ada/hub", Expect::Anything)]).await.expect("removed");
    assert_eq!(body(store, &Scope::All, "ada/hub").await, None);
}

async fn a_commit_is_whole_or_nothing(store: &Store) {
    store.commit(&[put(Kind::Registry, "a", "ada", Expect::Absent, "1")]).await.expect("made");
    let stale = [put(Kind::Registry, "b", "ada", Expect::Absent, "1"), put(Kind::Registry, "a", "ada", Expect::Revision(2), "2")];
    assert!(matches!(store.commit(&stale).await, Err(StoreError::Conflict)));
    assert_eq!(body(store, &Scope::All, "b").await, None, "nothing of it was written");
    let fits = [put(Kind::Registry, "b", "ada", Expect::Absent, "1"), put(Kind::Registry, "a", "ada", Expect::Revision(1), "2")];
    store.commit(&fits).await.expect("as expected");
    let a: Object<String> = store.object(&Scope::All, Kind::Registry, "a").await.expect("answers").expect("there");
    assert_eq!((a.revision, a.body.as_str()), (2, "2"));
    let gone = Write::remove(Kind::Registry, "a", Expect::Revision(1));
    assert!(matches!(store.commit(&[gone]).await, Err(StoreError::Conflict)));
    assert!(matches!(store.commit(&[put(Kind::Registry, "a", "ada", Expect::Absent, "3")]).await, Err(StoreError::Conflict)));
}

async fn one_of_many_makes_it(store: &Store) {
    let tries = (0..20).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(&[put(Kind::Registry, "x", "ada", Expect::Absent, &i.to_string())]).await })
    });
    let mut made = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.expect("no panic") {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict), "{error}"),
        }
    }
    assert_eq!(made, 1);
}

async fn objects_end_by_themselves(store: &Store) {
    let soon = Duration::from_millis(150);
    store.commit(&[put(Kind::Registry, "x", "ada", Expect::Absent, "1").keep(soon)]).await.expect("made");
    store.commit(&[put(Kind::Registry, "stays", "ada", Expect::Absent, "1").keep(LONG)]).await.expect("made");
    // A change may leave the time as it is.
    store.commit(&[put(Kind::Registry, "x", "ada", Expect::Revision(1), "2").keep_as_it_is()]).await.expect("changed");
    assert_eq!(body(store, &Scope::All, "x").await.as_deref(), Some("2"));
    eventually("it has ended", || async { body(store, &Scope::All, "x").await.is_none().then_some(()) }).await;
    let all = store.all_objects::<String>(&Scope::All, Kind::Registry).await.expect("answers");
    assert_eq!(all.len(), 1, "also for lists");
    store.commit(&[put(Kind::Registry, "x", "ada", Expect::Absent, "3")]).await.expect("its place is free");
    assert_eq!(store.purge_objects(10).await.expect("answers"), 0, "nothing is left of it");
    store.commit(&[put(Kind::Registry, "y", "ada", Expect::Absent, "1").keep(Duration::from_millis(1))]).await.expect("made");
    eventually("it is purged", || async { (store.purge_objects(10).await.expect("answers") == 1).then_some(()) }).await;
    assert_eq!(body(store, &Scope::All, "x").await.as_deref(), Some("3"));
    assert_eq!(body(store, &Scope::All, "stays").await.as_deref(), Some("1"));
}

async fn lists_are_newest_first_and_of_one_owner(store: &Store) {
    for i in 0..5 {
        for name in ["ada", "bob"] {
            store.commit(&[put(Kind::Registry, &format!("{name}/{i}"), name, Expect::Absent, "x")]).await.expect("made");
        }
    }
    // A change does not move it.
    store.commit(&[put(Kind::Registry, "ada/0", "ada", Expect::Anything, "y")]).await.expect("changed");
    let page = |scope: Scope, name: Option<&str>, before: Option<u64>| {
        let query = ObjectQuery { scope, kind: Kind::Registry, owner: name.map(owner), parent: None, before, limit: 3 };
        async move { store.objects::<String>(&query).await.expect("answers") }
    };
    let ids = |objects: &[Object<String>]| objects.iter().map(|object| object.id.clone()).collect::<Vec<_>>();
    let (first, more) = page(own("ada"), None, None).await;
    assert_eq!((ids(&first).as_slice(), more), (["ada/4", "ada/3", "ada/2"].map(String::from).as_slice(), true));
    let (rest, more) = page(own("ada"), None, first.last().map(|object| object.order)).await;
    assert_eq!((ids(&rest).as_slice(), more), (["ada/1", "ada/0"].map(String::from).as_slice(), false));
    assert_eq!(ids(&page(Scope::All, None, None).await.0), ["bob/4", "ada/4", "bob/3"]);
    assert_eq!(ids(&page(Scope::All, Some("bob"), None).await.0), ["bob/4", "bob/3", "bob/2"]);
    assert!(page(own("ada"), Some("bob"), None).await.0.is_empty());
}

async fn objects_are_listed_by_what_they_belong_to(store: &Store) {
    for (id, name, parent) in [("1", "ada", "web"), ("2", "ada", "db"), ("3", "ada", "web"), ("4", "bob", "web")] {
        store.commit(&[put(Kind::Registry, id, name, Expect::Absent, "x").under(parent)]).await.expect("made");
    }
    store.commit(&[put(Kind::Registry, "5", "ada", Expect::Absent, "x")]).await.expect("made");
    store.commit(&[put(Kind::Registry, "1", "ada", Expect::Anything, "y")]).await.expect("a change keeps it where it was");
    let ids = |scope: Scope, parent: &str| {
        let parent = Some(parent.to_owned());
        let query = ObjectQuery { scope, kind: Kind::Registry, owner: None, parent, before: None, limit: 9 };
        async move { store.objects::<String>(&query).await.expect("answers").0.into_iter().map(|o| o.id).collect::<Vec<_>>() }
    };
    assert_eq!(ids(own("ada"), "web").await, ["3", "1"]);
    assert_eq!(ids(Scope::All, "web").await, ["4", "3", "1"]);
    assert!(ids(own("ada"), "we").await.is_empty());
    store.commit(&[Write::remove(Kind::Registry, "3", Expect::Anything)]).await.expect("removed");
    assert_eq!(ids(own("ada"), "web").await, ["1"]);
}

async fn a_run_wakes_its_readers(store: &Store) {
    let id = RunId::new();
    let (mut one, mut any) = (store.wakes().subscribe(Topic::Run(id)), store.wakes().subscribe(Topic::Runs));
    let mut all = store.wakes().moved();
    store.commit(&[put(Kind::Run, &id.to_string(), "ada", Expect::Absent, "x")]).await.expect("made");
    tokio::time::timeout(Duration::from_secs(10), one.woken(LONG)).await.expect("woken");
    tokio::time::timeout(Duration::from_secs(10), any.woken(LONG)).await.expect("woken");
    let moved = tokio::time::timeout(Duration::from_secs(10), all.recv()).await.expect("told");
    assert_eq!(moved.expect("not behind"), Moved::Run(id));
}

async fn accounts_wake_their_readers(store: &Store) {
    let before = store.wakes().account_changes();
    let mut waker = store.wakes().subscribe(Topic::Accounts);
    store.commit(&[put(Kind::Registry, "x", "ada", Expect::Absent, "1")]).await.expect("made");
    let quiet = store.wakes().account_changes();
    store.commit(&[put(Kind::Token, "x", "ada", Expect::Absent, "1")]).await.expect("made");
    assert!(store.wakes().account_changes() > quiet, "at once in the process that changes it");
    assert!(quiet >= before);
    tokio::time::timeout(Duration::from_secs(10), waker.woken(LONG)).await.expect("woken");
}

async fn hits_are_counted_in_a_window(store: &Store) {
    let window = Duration::from_millis(300);
    for count in 1..=3 {
        let hits = store.hit("ada", window).await.expect("answers");
        assert!(hits.count <= count && hits.left <= window, "{hits:?}");
    }
    assert_eq!(store.hit("bob", LONG).await.expect("answers").count, 1);
    assert_eq!(store.hit("bob", LONG).await.expect("answers").count, 2);
    eventually("a new window", || async { (store.hit("ada", window).await.expect("answers").count == 1).then_some(()) }).await;
}

async fn the_audit_is_appended_by_one(store: &Store) {
    assert!(store.audit(None, 10).await.expect("answers").is_empty());
    assert_eq!(store.audit_head().await.expect("answers"), None);
    let entries = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(store.audit_append(0, &entries(&["a", "b"]), "2").await.expect("answers"));
    assert!(!store.audit_append(0, &entries(&["x"]), "x").await.expect("answers"), "somebody was faster");
    assert!(store.audit_append(2, &entries(&["c"]), "3").await.expect("answers"));
    assert_eq!(store.audit_head().await.expect("answers").as_deref(), Some("3"));
    assert!(store.audit_append(3, &[], "3 anew").await.expect("answers"), "the head alone");
    assert!(!store.audit_append(2, &[], "x").await.expect("answers"));
    assert_eq!(store.audit_head().await.expect("answers").as_deref(), Some("3 anew"));
    let read = |before, limit| async move { store.audit(before, limit).await.expect("answers") };
    assert_eq!(read(None, 2).await, [(3, "c".to_owned()), (2, "b".to_owned())]);
    assert_eq!(read(Some(2), 10).await, [(1, "a".to_owned())]);
    assert!(read(Some(1), 10).await.is_empty());
}

async fn usage(store: &Store, name: &str) -> Usage {
    store.usage(&owner(name)).await.expect("answers")
}

async fn usage_is_what_there_is(store: &Store) {
    assert_eq!(usage(store, "ada").await, Usage::default());
    let first = submit(store, "ada").await;
    let second = submit(store, "ada").await;
    submit(store, "bob").await;
    let bytes = build("ada").bytes();
    let expected = Usage { builds: 2, builds_queued: 2, stored_bytes: 2 * bytes, ..Usage::default() };
    assert_eq!(usage(store, "ada").await, expected);
    let claim = eventually("ada's turn", || async { claim(store).await.filter(|c| c.stored.record.id == first) }).await;
    let expected = Usage { builds_queued: 1, builds_running: 1, ..expected };
    assert_eq!(usage(store, "ada").await, expected);
    publish(store, &claim).await;
    assert_eq!(usage(store, "ada").await, Usage { builds_running: 0, ..expected });
    store.delete(&Scope::All, first).await.expect("answers").expect("deleted");
    store.delete(&Scope::All, second).await.expect("answers").expect("deleted");
    assert_eq!(usage(store, "ada").await, Usage::default());
    assert_eq!(usage(store, "bob").await.builds, 1);
}

async fn an_ended_build_changes_hands(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    let live = store.transfer(id, &owner("ada"), &owner("bob")).await;
    assert!(matches!(live, Err(StoreError::Refused(_))), "{live:?}");
    publish(store, &claim).await;
    let foreign = store.transfer(id, &owner("eve"), &owner("bob")).await.expect("answers");
    assert!(foreign.is_none(), "it is not hers to give");
    let moved = store.transfer(id, &owner("ada"), &owner("bob")).await.expect("answers").expect("there");
    assert_eq!(moved.record.owner, owner("bob"));
    assert_eq!(store.get(&own("bob"), id).await.expect("answers").as_ref(), Some(&moved));
    assert_eq!(store.get(&own("ada"), id).await.expect("answers"), None);
    let list = |name: &str, image: bool| {
        let image = image.then(|| ImageFilter { repository: "127.0.0.1:5000/team/app".into(), tag: None });
        let query = ListQuery { image, ..ListQuery::of(own(name)) };
        async move { store.list(&query).await.expect("answers").items.len() }
    };
    assert_eq!((list("bob", false).await, list("bob", true).await), (1, 1));
    assert_eq!((list("ada", false).await, list("ada", true).await), (0, 0));
    assert_eq!((usage(store, "bob").await.builds, usage(store, "ada").await), (1, Usage::default()));
    store.delete(&own("bob"), id).await.expect("answers").expect("deleted");
    assert_eq!(usage(store, "bob").await, Usage::default());
}

async fn sealed_credentials_are_replaced_once(store: &Store) {
    let (first, second) = (submit(store, "ada").await, submit(store, "bob").await);
    let mut none = build("ada");
    none.sealed = None;
    store.submit(&none).await.expect("accepted");
    let sealed = |after| async move {
        let found = store.sealed(after, 10).await.expect("answers");
        found.into_iter().filter(|(.., sealed)| !sealed.is_empty()).collect::<Vec<_>>()
    };
    let all = sealed(None).await;
    assert_eq!(all, [(first, owner("ada"), b"sealed".to_vec()), (second, owner("bob"), b"sealed".to_vec())]);
    assert_eq!(sealed(Some(first)).await.len(), 1);
    assert!(store.reseal(first, b"sealed", b"anew").await.expect("answers"));
    assert!(!store.reseal(first, b"other", b"worse").await.expect("answers"), "it is another by now");
    let claim = eventually("ada's turn", || async { claim(store).await.filter(|c| c.stored.record.id == first) }).await;
    assert_eq!(claim.sealed.as_deref(), Some(b"anew".as_slice()));
    publish(store, &claim).await;
    assert!(!store.reseal(first, b"anew", b"again").await.expect("answers"), "gone with the build's end");
}
