//! Events: numbered, batched, read from a number, archived.

use std::time::Duration;

use dockwright::domain::{BuildId, Event, EventBody, Scope, Timestamp};
use dockwright::store::{Store, StoreError};

use super::fixture::*;
use super::on_both;

on_both!(
    lines_are_numbered_without_gaps,
    a_batch_is_written_once,
    batches_count_anew_in_each_claim,
    a_build_that_ended_takes_no_more_lines,
    reading_goes_on_where_it_stopped,
    a_live_log_is_not_dropped,
    a_dropped_log_is_gone_and_its_build_is_not,
    unarchived_builds_come_oldest_first,
    a_long_log_goes_with_its_build,
);

async fn all(store: &Store, id: BuildId) -> Vec<Event> {
    store.events(&Scope::All, id, 0, 10_000).await.expect("answers").expect("exists")
}

fn texts(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Log(line) => Some(line.text.as_str()),
            EventBody::State { .. } => None,
        })
        .collect()
}

async fn lines_are_numbered_without_gaps(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    let last = store.append_log(id, claim.fence, 1, &lines(&["one", "two \u{1b}[31mred", ""])).await.expect("its own build");
    assert_eq!(last, 5, "after the two states");
    assert_eq!(get(store, id).await.last_seq, 5);
    assert_eq!(get(store, id).await.revision, claim.stored.revision, "a line changes no record");
    publish(store, &claim).await;
    let events = all(store, id).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>());
    assert_eq!(texts(&events), ["one", "two \u{1b}[31mred", ""]);
    assert!(matches!(events[5].body, EventBody::State { .. }));
}

async fn a_batch_is_written_once(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    let first = store.append_log(id, claim.fence, 1, &lines(&["a"])).await.expect("its own build");
    assert_eq!(store.append_log(id, claim.fence, 1, &lines(&["a"])).await.expect("known"), first);
    let second = store.append_log(id, claim.fence, 2, &lines(&["b"])).await.expect("its own build");
    assert_eq!(second, first + 1);
    assert_eq!(store.append_log(id, claim.fence, 1, &lines(&["a"])).await.expect("known"), second, "also a late one");
    assert_eq!(texts(&all(store, id).await), ["a", "b"]);
}

async fn batches_count_anew_in_each_claim(store: &Store) {
    let first = claimed(store).await;
    let id = first.stored.record.id;
    store.append_log(id, first.fence, 1, &lines(&["first"])).await.expect("its own build");
    requeue(store, &first).await.expect("its own build");
    let second = claim(store).await.expect("waits");
    assert!(matches!(store.append_log(id, first.fence, 2, &lines(&["stale"])).await, Err(StoreError::Lost)));
    store.append_log(id, second.fence, 1, &lines(&["second"])).await.expect("its own build");
    assert_eq!(texts(&all(store, id).await), ["first", "second"]);
}

async fn a_build_that_ended_takes_no_more_lines(store: &Store) {
    let claim = claimed(store).await;
    publish(store, &claim).await;
    let late = store.append_log(claim.stored.record.id, claim.fence, 1, &lines(&["late"])).await;
    assert!(matches!(late, Err(StoreError::Lost)));
}

async fn reading_goes_on_where_it_stopped(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    store.append_log(id, claim.fence, 1, &lines(&["a", "b", "c", "d", "e"])).await.expect("its own build");
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = store.events(&own("ada"), id, after, 3).await.expect("answers").expect("exists");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = last.seq;
        read.extend(page);
    }
    assert_eq!(read, all(store, id).await);
    assert!(store.events(&own("ada"), id, u64::MAX, 3).await.expect("answers").expect("exists").is_empty());
}

async fn a_live_log_is_not_dropped(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    assert!(matches!(store.drop_hot_log(id).await, Err(StoreError::Refused(_))));
    assert_eq!(all(store, id).await.len(), 2);
    assert!(store.unarchived(Timestamp::now().plus(LONG), 10).await.expect("answers").is_empty(), "it has not ended");
}

async fn a_dropped_log_is_gone_and_its_build_is_not(store: &Store) {
    let claim = claimed(store).await;
    let ended = publish(store, &claim).await;
    let id = ended.record.id;
    assert!(!ended.record.log_archived);
    store.drop_hot_log(id).await.expect("it has ended");
    store.drop_hot_log(id).await.expect("repeatable");
    assert!(all(store, id).await.is_empty());
    let stored = get(store, id).await;
    assert!(stored.record.log_archived);
    assert_eq!((stored.revision, stored.last_seq), (ended.revision + 1, ended.last_seq));
    assert!(store.unarchived(Timestamp::now().plus(LONG), 10).await.expect("answers").is_empty());
    store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    store.drop_hot_log(id).await.expect("nothing is left to drop");
}

async fn unarchived_builds_come_oldest_first(store: &Store) {
    let mut ended = Vec::new();
    for _ in 0..3 {
        let claim = claimed(store).await;
        ended.push(publish(store, &claim).await);
        // The order is by the millisecond.
        let before = Timestamp::now();
        eventually("a later millisecond", || async { (Timestamp::now() > before).then_some(()) }).await;
    }
    let later = Timestamp::now().plus(LONG);
    let ids: Vec<_> = ended.iter().map(|stored| stored.record.id).collect();
    assert_eq!(store.unarchived(later, 10).await.expect("answers"), ids);
    assert_eq!(store.unarchived(later, 2).await.expect("answers"), ids[..2]);
    let long_ago = ended[0].record.created_at.plus(Duration::ZERO);
    assert!(store.unarchived(long_ago, 10).await.expect("answers").is_empty(), "none had ended then");
}

async fn a_long_log_goes_with_its_build(store: &Store) {
    let claim = claimed(store).await;
    let id = claim.stored.record.id;
    let many = vec!["a line of a long log"; 1000];
    for batch in 1..=6 {
        store.append_log(id, claim.fence, batch, &lines(&many)).await.expect("its own build");
    }
    assert_eq!(all(store, id).await.len(), 6002);
    store.delete(&Scope::All, id).await.expect("answers").expect("exists");
    assert!(store.events(&Scope::All, id, 0, 10).await.expect("answers").is_none());
    // The next build has only its own.
    let next = submit(store, "ada").await;
    assert_eq!(all(store, next).await.len(), 1);
}
