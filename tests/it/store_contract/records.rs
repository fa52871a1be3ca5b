//! Accepting, reading, changing and deleting.

use std::sync::Arc;

use dockwright::domain::{BuildState, Credentials, EventBody, Fence, Scope};
use dockwright::store::{Guard, Renewal, Store, StoreError};
use dockwright::vault::Vault;
use secrecy::SecretString;

use super::fixture::*;
use super::on_both;

on_both!(
    submitting_twice_changes_nothing,
    what_is_accepted_is_there,
    another_owners_build_does_not_exist,
    a_change_appends_one_event,
    a_rule_that_refuses_changes_nothing,
    only_the_newest_claim_writes,
    nobody_works_on_a_build_without_a_claim,
    changes_at_once_all_count,
    deleting_leaves_the_image_to_its_node,
    deleting_takes_a_build_out_of_the_queue,
    sealed_credentials_end_with_the_build,
    a_password_is_nowhere_in_the_clear,
);

async fn submitting_twice_changes_nothing(store: &Store) {
    let first = build("ada");
    let stored = store.submit(&first).await.expect("accepted");
    let mut second = first.clone();
    second.record.message = "another".into();
    second.dockerfile = b"FROM scratch".to_vec();
    assert_eq!(store.submit(&second).await.expect("known"), stored);
    assert_eq!(store.dockerfile(&Scope::All, first.record.id).await.expect("answers"), Some(b"FROM busybox".to_vec()));
    assert_eq!(store.stats().await.expect("answers").queued, 1);
    assert!(claim(store).await.is_some());
    assert!(claim(store).await.is_none(), "it stood in the queue once");
    // Also when it has moved on: no second queue entry.
    let again = store.submit(&first).await.expect("known");
    assert_eq!((again.record.state, again.leased), (BuildState::Building, true));
    assert!(claim(store).await.is_none());
}

async fn what_is_accepted_is_there(store: &Store) {
    let new = build("ada");
    let stored = store.submit(&new).await.expect("accepted");
    assert_eq!((stored.revision, stored.last_seq, stored.fence, stored.leased), (1, 1, Fence(0), false));
    assert_eq!(stored.record, new.record);
    assert_eq!(get(store, new.record.id).await, stored);
    let events = store.events(&own("ada"), new.record.id, 0, 10).await.expect("answers").expect("exists");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].seq, &events[0].body), (1, &EventBody::State { build: Box::new(new.record.clone()) }));
    let other = build("ada").record.id;
    assert_eq!(store.existing(&[other, new.record.id]).await.expect("answers"), [new.record.id]);
}

async fn another_owners_build_does_not_exist(store: &Store) {
    let id = submit(store, "bobby").await;
    let bob = own("bob");
    assert!(store.get(&bob, id).await.expect("answers").is_none());
    assert!(store.dockerfile(&bob, id).await.expect("answers").is_none());
    assert!(store.events(&bob, id, 0, 10).await.expect("answers").is_none());
    assert!(store.delete(&bob, id).await.expect("answers").is_none());
    let changed = store.update(id, &Guard::Scope(bob), |_, _, _| panic!("never called")).await;
    assert!(changed.expect("answers").is_none());
    assert_eq!(get(store, id).await.revision, 1);
    assert!(store.get(&own("bobby"), id).await.expect("answers").is_some());
}

async fn a_change_appends_one_event(store: &Store) {
    let id = submit(store, "ada").await;
    let guard = Guard::Scope(own("ada"));
    let rename = |record: &mut dockwright::domain::BuildRecord, _, _| {
        record.message = "renamed".into();
        Ok(())
    };
    let changed = store.update(id, &guard, rename).await.expect("answers").expect("exists");
    assert_eq!((changed.revision, changed.last_seq, changed.record.message.as_str()), (2, 2, "renamed"));
    let unchanged = store.update(id, &guard, rename).await.expect("answers").expect("exists");
    assert_eq!(unchanged, changed, "nothing differs, so nothing is written");
    let events = store.events(&own("ada"), id, 0, 10).await.expect("answers").expect("exists");
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].body, EventBody::State { build: Box::new(changed.record) });
}

async fn a_rule_that_refuses_changes_nothing(store: &Store) {
    let id = submit(store, "ada").await;
    let refused = store
        .update(id, &Guard::Scope(Scope::All), |record, _, leased| {
            assert!(!leased);
            record.message = "half done".into();
            Err(StoreError::Refused("the very words".into()))
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Refused(words)) if words == "the very words"));
    let stored = get(store, id).await;
    assert_eq!((stored.revision, stored.record.message.as_str()), (1, "Build is queued"));
}

async fn only_the_newest_claim_writes(store: &Store) {
    let first = claimed(store).await;
    let id = first.stored.record.id;
    requeue(store, &first).await.expect("its own build");
    let lost = |result: Result<_, StoreError>| matches!(result, Err(StoreError::Lost));
    let touch = async |fence| store.update(id, &Guard::Lease(fence), |_, _, _| Ok(())).await;
    assert!(lost(touch(first.fence).await), "handed back");
    let second = claim(store).await.expect("it waits again");
    assert_eq!(second.fence, Fence(2));
    assert!(lost(touch(first.fence).await), "an older fence");
    assert!(touch(second.fence).await.expect("its own build").is_some());
    store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    assert!(lost(touch(second.fence).await), "gone");
    assert!(store.update(id, &Guard::Scope(Scope::All), |_, _, _| Ok(())).await.expect("answers").is_none());
}

async fn nobody_works_on_a_build_without_a_claim(store: &Store) {
    let id = submit(store, "ada").await;
    let started = store
        .update(id, &Guard::Scope(Scope::All), |record, now, _| {
            record.start_attempt(&dockwright::domain::WorkerId::unique(), &node(), 1, now).expect("queued");
            Ok(())
        })
        .await;
    assert!(matches!(started, Err(StoreError::Refused(_))));
    assert_eq!(get(store, id).await.record.state, BuildState::Queued);
}

async fn changes_at_once_all_count(store: &Store) {
    let id = submit(store, "ada").await;
    let store = Arc::new(store.clone());
    let tasks: Vec<_> = (0..30)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let longer = |record: &mut dockwright::domain::BuildRecord, _, _| {
                    record.message.push('x');
                    Ok(())
                };
                store.update(id, &Guard::Scope(Scope::All), longer).await.expect("answers").expect("exists")
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let stored = get(&store, id).await;
    assert_eq!(stored.record.message.matches('x').count(), 30);
    assert_eq!((stored.revision, stored.last_seq), (31, 31));
}

async fn deleting_leaves_the_image_to_its_node(store: &Store) {
    let claim = claimed(store).await;
    let stored = publish(store, &claim).await;
    let id = stored.record.id;
    let deleted = store.delete(&own("ada"), id).await.expect("answers").expect("exists");
    assert_eq!(deleted.record, stored.record);
    let removal = deleted.removal.expect("a node had it");
    assert_eq!((removal.build, &removal.node, &removal.image_id), (id, &node(), &Some(digest('a'))));
    assert_eq!(store.removals(&node()).await.expect("answers"), [removal]);
    for scope in [own("ada"), Scope::All] {
        assert!(store.get(&scope, id).await.expect("answers").is_none());
        assert!(store.dockerfile(&scope, id).await.expect("answers").is_none());
        assert!(store.events(&scope, id, 0, 10).await.expect("answers").is_none());
        assert!(store.delete(&scope, id).await.expect("answers").is_none(), "it can be deleted once");
    }
    assert!(store.existing(&[id]).await.expect("answers").is_empty());
    assert!(store.unarchived(dockwright::domain::Timestamp::now().plus(LONG), 10).await.expect("answers").is_empty());
}

async fn deleting_takes_a_build_out_of_the_queue(store: &Store) {
    let id = submit(store, "ada").await;
    let deleted = store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    assert_eq!(deleted.removal, None, "no node ever had it");
    assert_eq!(store.stats().await.expect("answers").queued, 0);
    assert!(claim(store).await.is_none());
    // One that is worked on: its worker is told.
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    assert!(store.delete(&Scope::All, id).await.expect("answers").expect("exists").removal.is_some());
    assert_eq!(store.renew(id, claim.fence, LONG).await.expect("answers"), Renewal::Lost);
    assert!(matches!(store.append_log(id, claim.fence, 1, &lines(&["x"])).await, Err(StoreError::Lost)));
    assert_eq!(store.stats().await.expect("answers").running, 0);
    assert!(store.reap().await.expect("answers").is_empty());
}

async fn sealed_credentials_end_with_the_build(store: &Store) {
    let first = claimed(store).await;
    assert_eq!(first.sealed.as_deref(), Some(&b"sealed"[..]));
    requeue(store, &first).await.expect("its own build");
    let second = claim(store).await.expect("waits");
    assert_eq!(second.sealed.as_deref(), Some(&b"sealed"[..]), "the next worker needs them too");
    let ended = publish(store, &second).await;
    assert!(!ended.leased, "a build that has ended has no lease");
    // No way leads to them any more: an ended build is not claimed again.
    assert!(claim(store).await.is_none());
}

async fn a_password_is_nowhere_in_the_clear(store: &Store) {
    let vault = Vault::new([3; 32]);
    let mut new = build("ada");
    let credentials = Credentials::new("127.0.0.1:5000", "robot", SecretString::from("canary-Pa55"));
    new.sealed = Some(vault.seal_for_build(&new.record.owner, new.record.id, &vec![credentials].into()));
    store.submit(&new).await.expect("accepted");
    let claim = claim(store).await.expect("waits");
    assert!(!format!("{claim:?}").contains("canary-Pa55"));
    let sealed = claim.sealed.clone().expect("sealed");
    assert!(!sealed.windows(11).any(|w| w == b"canary-Pa55"));
    let opened = vault.open_for_build(&new.record.owner, new.record.id, &sealed).expect("opens for its own build");
    assert_eq!(opened.credentials[0].expose_password(), "canary-Pa55");
}
