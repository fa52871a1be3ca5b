//! A connection that breaks after the commit and before its answer: the call is repeated, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dockwright::domain::{BuildId, BuildRecord, BuildState, Fence, Lapse, Scope, WorkerId};
use dockwright::store::{Guard, QueueStats, Renewal, Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::fixture::*;
use crate::support;

/// Stands between the store and Redis, and can lose one answer.
struct Proxy {
    address: String,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    /// How many answers are left until the one that is lost; zero: none is.
    left: AtomicUsize,
    /// Whether the connection then falls silent, rather than break.
    silent: AtomicBool,
    /// Whether the store listens to wake-ups, as far as Redis has told it.
    listens: watch::Sender<bool>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let plan = Arc::new(Plan::default());
        let upstream = support::redis_url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let shared = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, upstream.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, plan }
    }

    /// The `nth` answer from now to a command is lost.
    fn lose(&self, nth: usize) {
        self.plan.left.store(nth, Ordering::SeqCst);
    }

    fn lost(&self) -> bool {
        self.plan.left.load(Ordering::SeqCst) == 0
    }
}

/// How the answer to a subscription begins.
const SUBSCRIBED: &[u8] = b"$9\r\nsubscribe\r\n";

async fn relay(client: TcpStream, upstream: String, plan: Arc<Plan>) {
    let server = TcpStream::connect(upstream).await.expect("Redis answers");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let answer = &buffer[..read];
            if counts(answer) && plan.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) == Ok(1) {
                if plan.silent.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                return;
            }
            if to_client.write_all(answer).await.is_err() {
                return;
            }
            if answer.windows(SUBSCRIBED.len()).any(|part| part == SUBSCRIBED) {
                plan.listens.send_replace(true);
            }
        }
    };
    tokio::select! { () = up => {}, () = down => {} }
}

/// Not the wake-ups and their pings; and a script that was not known was not run, so there is nothing to lose yet.
fn counts(answer: &[u8]) -> bool {
    let others: [&[u8]; 4] = [b"-NOSCRIPT", b"$40\r\n", b"*3\r\n$7\r\nmessage", b"*2\r\n$4\r\npong"];
    !others.iter().any(|start| answer.starts_with(start))
}

struct Behind {
    proxy: Proxy,
    prefix: String,
    store: Store,
}

impl Behind {
    /// A store behind a proxy, with all its connections made.
    async fn proxy() -> Self {
        let proxy = Proxy::start().await;
        let prefix = support::unique("lost");
        let store = redis_at(&format!("redis://{}/", proxy.address), &prefix);
        // The proxy watches, not a waker: everybody is woken at the connection, which may be there before a waker is.
        let mut listens = proxy.plan.listens.subscribe();
        tokio::time::timeout(Duration::from_secs(20), listens.wait_for(|listens| *listens))
            .await
            .expect("connects")
            .expect("relays");
        store.ping().await.expect("answers");
        Self { proxy, prefix, store }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_accepted_once() {
    let Behind { proxy, prefix, store } = Behind::proxy().await;
    let new = build("ada");
    proxy.lose(1);
    let stored = store.submit(&new).await.expect("accepted");
    assert!(proxy.lost());
    assert_eq!((stored.revision, stored.last_seq), (1, 1));
    assert_eq!(store.stats().await.expect("answers").queued, 1);
    clean_redis(&prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_answered_with_the_build_that_it_took() {
    let Behind { proxy, prefix, store } = Behind::proxy().await;
    let first = submit(&store, "ada").await;
    submit(&store, "ada").await;
    proxy.lose(1);
    let claim = claim(&store).await.expect("waits");
    assert!(proxy.lost());
    assert_eq!((claim.stored.record.id, claim.fence, claim.stored.record.attempt), (first, Fence(1), 1));
    let stats = store.stats().await.expect("answers");
    assert_eq!((stats.queued, stats.running), (1, 1), "one was taken");
    clean_redis(&prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_once() {
    let Behind { proxy, prefix, store } = Behind::proxy().await;
    let id = submit(&store, "ada").await;
    let longer = |record: &mut BuildRecord, _, _| {
        record.message.push('!');
        Ok(())
    };
    // The first answer is what the change is computed from, the second that of its commit.
    proxy.lose(2);
    let changed = store.update(id, &Guard::Scope(Scope::All), longer).await.expect("answers").expect("exists");
    assert!(proxy.lost());
    assert_eq!((changed.revision, changed.last_seq, changed.record.message.as_str()), (2, 2, "Build is queued!"));
    assert_eq!(get(&store, id).await, changed);
    clean_redis(&prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_written_once() {
    let Behind { proxy, prefix, store } = Behind::proxy().await;
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    proxy.lose(1);
    assert_eq!(store.append_log(id, claim.fence, 1, &lines(&["a", "b"])).await.expect("its own build"), 4);
    assert!(proxy.lost());
    assert_eq!(store.events(&Scope::All, id, 0, 100).await.expect("answers").expect("exists").len(), 4);
    clean_redis(&prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_told_as_done() {
    let Behind { proxy, prefix, store } = Behind::proxy().await;
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    // As above.
    proxy.lose(2);
    let deleted = store.delete(&own("ada"), id).await.expect("answers").expect("it was there");
    assert!(proxy.lost());
    assert!(deleted.removal.is_some());
    assert_eq!(store.removals(&node()).await.expect("answers").len(), 1);
    assert!(matches!(store.append_log(id, claim.fence, 1, &[]).await, Err(StoreError::Lost)));
    clean_redis(&prefix).await;
}

/// A worker that took a build and died, or was cut off, before it could start: the build is `queued` with a lease.
async fn taken_and_not_started(behind: &Behind) -> (Store, BuildId) {
    let direct = redis_at(&support::redis_url(), &behind.prefix);
    let id = submit(&direct, "ada").await;
    behind.proxy.plan.silent.store(true, Ordering::SeqCst);
    behind.proxy.lose(1);
    let cut_off = behind.store.claim(&WorkerId::unique(), &node(), Duration::ZERO).await;
    assert!(matches!(cut_off, Err(StoreError::Unavailable(_))));
    behind.store.ping().await.expect("the connection that fell silent was given up for another");
    let stored = get(&direct, id).await;
    assert_eq!((stored.record.state, stored.leased, stored.fence), (BuildState::Queued, true, Fence(1)));
    (direct, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_worker_died_before_the_start_comes_back() {
    let behind = Behind::proxy().await;
    let (direct, id) = taken_and_not_started(&behind).await;
    assert!(claim(&direct).await.is_none(), "it is in somebody's hands");
    assert_eq!(direct.position(id).await.expect("answers"), None);
    let reaped = reap_some(&direct).await;
    assert_eq!((reaped[0].build, reaped[0].lapse), (id, Lapse::Requeued));
    let next = claim(&direct).await.expect("waits again");
    assert_eq!((next.stored.record.id, next.fence, next.stored.record.crashes), (id, Fence(2), 1));
    assert!(claim(&direct).await.is_none(), "it stood in the queue once");
    clean_redis(&behind.prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_between_taking_and_starting_asks_the_worker() {
    let behind = Behind::proxy().await;
    let (direct, id) = taken_and_not_started(&behind).await;
    let asked = cancel(&direct, id).await.expect("answers").expect("exists");
    assert_eq!((asked.record.state, asked.record.cancel_requested, asked.leased), (BuildState::Queued, true, true));
    // Its worker, were it alive, would hear of it.
    assert_eq!(direct.renew(id, Fence(1), Duration::ZERO).await.expect("answers"), Renewal::CancelRequested);
    assert_eq!(reap_some(&direct).await[0].lapse, Lapse::Cancelled);
    assert!(claim(&direct).await.is_none());
    assert_eq!(direct.stats().await.expect("answers"), QueueStats::default());
    clean_redis(&behind.prefix).await;
}
