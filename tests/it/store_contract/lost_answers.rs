//! A connection that breaks after the commit and before its answer: the call is repeated, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dockwright::domain::{BuildRecord, Fence, Scope};
use dockwright::store::{Guard, Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fixture::*;
use crate::support;

/// Stands between the store and Redis, and can swallow one answer.
struct Proxy {
    address: String,
    /// How many answers are left until the one that is lost; zero: none is.
    left: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let left = Arc::new(AtomicUsize::new(0));
        let upstream = support::redis_url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let switch = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, upstream.clone(), Arc::clone(&switch)));
            }
        });
        Self { address, left }
    }

    /// The `nth` answer from now that is not a wake-up is lost together with its connection.
    fn swallow(&self, nth: usize) {
        self.left.store(nth, Ordering::SeqCst);
    }

    fn swallowed(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

async fn relay(client: TcpStream, upstream: String, left: Arc<AtomicUsize>) {
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
            // The script was not known: it was not run, so there is nothing to lose yet.
            let ran = !answer.starts_with(b"-NOSCRIPT") && !answer.starts_with(b"$40\r\n");
            let pushed = answer.starts_with(b"*3\r\n$7\r\nmessage") || answer.starts_with(b">");
            if ran && !pushed && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) == Ok(1) {
                return;
            }
            if to_client.write_all(answer).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => {}, () = down => {} }
}

async fn behind_a_proxy() -> (Proxy, Store) {
    let proxy = Proxy::start().await;
    let store = redis_at(&format!("redis://{}/", proxy.address), &support::unique("lost"));
    store.ping().await.expect("answers");
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_accepted_once() {
    let (proxy, store) = behind_a_proxy().await;
    let new = build("ada");
    proxy.swallow(1);
    let stored = store.submit(&new).await.expect("accepted");
    assert!(proxy.swallowed());
    assert_eq!((stored.revision, stored.last_seq), (1, 1));
    assert_eq!(store.stats().await.expect("answers").queued, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_answered_with_the_build_that_it_took() {
    let (proxy, store) = behind_a_proxy().await;
    let first = submit(&store, "ada").await;
    submit(&store, "ada").await;
    proxy.swallow(1);
    let claim = claim(&store).await.expect("waits");
    assert!(proxy.swallowed());
    assert_eq!((claim.stored.record.id, claim.fence, claim.stored.record.attempt), (first, Fence(1), 1));
    let stats = store.stats().await.expect("answers");
    assert_eq!((stats.queued, stats.running), (1, 1), "one was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_once() {
    let (proxy, store) = behind_a_proxy().await;
    let id = submit(&store, "ada").await;
    let longer = |record: &mut BuildRecord, _, _| {
        record.message.push('!');
        Ok(())
    };
    // The first answer is what the change is computed from, the second that of its commit.
    proxy.swallow(2);
    let changed = store.update(id, &Guard::Scope(Scope::All), longer).await.expect("answers").expect("exists");
    assert!(proxy.swallowed());
    assert_eq!((changed.revision, changed.last_seq, changed.record.message.as_str()), (2, 2, "Build is queued!"));
    assert_eq!(get(&store, id).await, changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_written_once() {
    let (proxy, store) = behind_a_proxy().await;
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    proxy.swallow(1);
    assert_eq!(store.append_log(id, claim.fence, 1, &lines(&["a", "b"])).await.expect("its own build"), 4);
    assert!(proxy.swallowed());
    assert_eq!(store.events(&Scope::All, id, 0, 100).await.expect("answers").expect("exists").len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_told_as_done() {
    let (proxy, store) = behind_a_proxy().await;
    let claim = claimed(&store).await;
    let id = claim.stored.record.id;
    // As above.
    proxy.swallow(2);
    let deleted = store.delete(&own("ada"), id).await.expect("answers").expect("it was there");
    assert!(proxy.swallowed());
    assert!(deleted.removal.is_some());
    assert_eq!(store.removals(&node()).await.expect("answers").len(), 1);
    assert!(matches!(store.append_log(id, claim.fence, 1, &[]).await, Err(StoreError::Lost)));
}
