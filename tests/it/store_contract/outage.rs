//! Redis away, paused, and back. Each test has a server of its own.

use std::time::{Duration, Instant};

use dockwright::domain::{Lapse, Scope};
use dockwright::store::{Renewal, Store, StoreError, Topic};

use super::fixture::*;
use crate::support::redis::RedisServer;

fn away<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

async fn answers_again(store: &Store) {
    eventually("the store answers again", || async { store.ping().await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_killed_redis() {
    let mut server = RedisServer::start().await;
    let store = redis_at(&server.url(), "t");
    let mut accepted = Vec::new();
    for _ in 0..20 {
        accepted.push(submit(&store, "ada").await);
    }
    let claim = claim(&store).await.expect("waits");
    server.kill();
    let began = Instant::now();
    assert!(away(&store.get(&Scope::All, accepted[0]).await));
    assert!(away(&store.submit(&build("ada")).await));
    assert!(began.elapsed() < Duration::from_secs(5), "both were told soon: {:?}", began.elapsed());
    server.restart().await;
    answers_again(&store).await;
    assert_eq!(store.existing(&accepted).await.expect("answers"), accepted);
    assert_eq!(store.renew(claim.stored.record.id, claim.fence, LONG).await.expect("answers"), Renewal::Continue);
    assert_eq!(store.stats().await.expect("answers").queued, 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_told_within_the_deadline() {
    let server = RedisServer::start().await;
    let store = redis_at(&server.url(), "t");
    let id = submit(&store, "ada").await;
    server.pause();
    let began = Instant::now();
    let answer = store.get(&Scope::All, id).await;
    let took = began.elapsed();
    server.resume();
    assert!(away(&answer), "{answer:?}");
    assert!(took < Duration::from_millis(2500), "told after {took:?}");
    answers_again(&store).await;
    assert_eq!(get(&store, id).await.revision, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_between_two_calls_is_not_noticed() {
    let mut server = RedisServer::start().await;
    let store = redis_at(&server.url(), "t");
    let id = submit(&store, "ada").await;
    server.kill();
    server.restart().await;
    // The library fails this one call; it can be repeated, and was.
    assert_eq!(get(&store, id).await.revision, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wake_ups_come_from_other_processes_also_after_an_outage() {
    let mut server = RedisServer::start().await;
    let (here, there) = (redis_at(&server.url(), "t"), redis_at(&server.url(), "t"));
    let soon = Duration::from_secs(20);
    for _ in 0..2 {
        // Subscribing takes a moment, so it is tried until one gets through.
        let woken = async {
            let mut waker = here.wakes().subscribe(Topic::Locks);
            loop {
                there.lock("tag", "a", LONG).await.expect("answers");
                there.unlock("tag", "a").await.expect("answers");
                let began = Instant::now();
                waker.woken(Duration::from_millis(200)).await;
                if began.elapsed() < Duration::from_millis(150) {
                    return;
                }
            }
        };
        tokio::time::timeout(soon, woken).await.expect("woken by the other process");
        // A reader that sleeps through the outage is woken when it is over, for it may have missed something.
        let mut sleeper = here.wakes().subscribe(Topic::Queue);
        server.kill();
        server.restart().await;
        tokio::time::timeout(soon, sleeper.woken(LONG)).await.expect("woken after the reconnect");
        answers_again(&there).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_get_their_chance_after_an_outage() {
    let mut server = RedisServer::start().await;
    let store = redis_at(&server.url(), "t");
    let lease = Duration::from_secs(4);
    let (patient, dead) = (submit(&store, "ada").await, submit(&store, "bob").await);
    let claim = claim_for(&store, lease).await.expect("waits");
    assert_eq!(claim.stored.record.id, patient);
    claim_for(&store, lease).await.expect("waits");
    server.kill();
    // As a service would: it tries all the time, and for longer than the lease.
    let began = Instant::now();
    while began.elapsed() < lease + Duration::from_millis(500) {
        assert!(away(&store.reap().await));
    }
    server.restart().await;
    answers_again(&store).await;
    let back = Instant::now();
    assert!(store.reap().await.expect("answers").is_empty(), "nobody could renew while Redis was away");
    assert_eq!(store.renew(patient, claim.fence, LONG).await.expect("answers"), Renewal::Continue);
    let reaped = reap_some(&store).await;
    assert!(back.elapsed() > lease - Duration::from_secs(1), "the grace is a lease long, it was {:?}", back.elapsed());
    assert_eq!(reaped.len(), 1, "the one that renewed is left alone");
    assert_eq!((reaped[0].build, reaped[0].lapse), (dead, Lapse::Requeued));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_redis_waits_for_it() {
    let mut server = RedisServer::start().await;
    server.kill();
    let store = redis_at(&server.url(), "t");
    assert!(away(&store.ping().await));
    server.restart().await;
    answers_again(&store).await;
    submit(&store, "ada").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_lose_builds_are_told() {
    let server = RedisServer::start().await;
    let store = redis_at(&server.url(), "t");
    assert_eq!(store.warnings().await.expect("answers"), [] as [String; 0]);
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("answers");
    for (name, value) in [("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")] {
        let () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut connection).await.expect("set");
    }
    let warnings = store.warnings().await.expect("answers");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for word in ["appendonly no", "appendfsync everysec", "maxmemory-policy allkeys-lru"] {
        assert!(warnings.iter().any(|warning| warning.contains(word)), "{word} is not named in {warnings:?}");
    }
    // An account that may not ask is told what to see to.
    let acl = ["SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all", "-config"];
    let () = redis::cmd("ACL").arg(&acl).query_async(&mut connection).await.expect("set");
    let plain = redis_at(&server.url().replace("redis://", "redis://plain:pw@"), "t");
    let warnings = plain.warnings().await.expect("answers");
    assert!(warnings.len() == 1 && warnings[0].contains("CONFIG is forbidden"), "{warnings:?}");
}
