//! The shared backend: one Redis for many nodes.
//!
//! A change is computed in Rust, by a rule of the domain, from the record as it was loaded, and committed by one Lua
//! script (`commit.lua`) if the build is still the one that was loaded: same revision, fence and lease. Otherwise it is
//! computed anew. A script is atomic, and Redis answers when it is in the append-only file (see [`RedisStore::warnings`]).
//! A claim is two commits: `claim.lua` takes the build out of the queue and leases it, the domain's start of the attempt follows.
//! All times that matter are Redis's own.
//!
//! A connection can break after a commit and before its answer. So every write can be repeated, and is, once
//! ([`link`]): the scripts that are not idempotent by nature remember the token of a call with its answer for a minute.
//! Pub/sub only wakes readers ([`listen`]): it loses what is sent while a reader is away, so after each reconnect all are woken.
//!
//! The keys, each behind `PREFIX:`. They are named inside the scripts, so a Redis Cluster cannot serve them.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `b:ID` | hash | a build: `rec` the record, `rev`, `seq` last event, `fence`, `until` and `len` of its lease, `batch` of its log, `state`, `owner`, `cancel`, `prio`, `ord` order of acceptance, `images` its index entries |
//! | `d:ID` | string | its Dockerfile |
//! | `x:ID` | string | its credentials, encrypted; gone when it ends |
//! | `e:ID` | stream | its events, `SEQ-0` → `t` when, `b` body; gone when archived |
//! | `q:OWNER` | zset | the owner's queue, next first |
//! | `turns` | zset | owners with queued builds → number of their last turn; the smallest is next |
//! | `last` | hash | every owner's last turn |
//! | `turn`, `order`, `queued` | number | newest turn, newest acceptance, how many are queued |
//! | `leases` | zset | builds in hands → end of the lease |
//! | `hot` | zset | ended builds with events → when they ended |
//! | `ended`, `endr` | zset, hash | ended builds that are still to be told of → when they ended; the records of those that were deleted |
//! | `ix:all`, `ix:o:OWNER`, `ix:s:STATE`, `ix:os:OWNER:STATE` | zset | ids for lists, in the order of their text |
//! | `ix:i:IMAGE`, `ix:oi:OWNER:IMAGE` | zset | the same by destination; IMAGE with its tag, and without one for any |
//! | `tn:OWNER` | hash | what an owner uses: `builds`, `bytes`, `running`; `cap` most in hands at once |
//! | `rm:NODE` | hash | builds whose image the node is to remove |
//! | `rmo:ID` | string | what came of it; expires |
//! | `lock:NAME` | string | holder; expires |
//! | `t:TOKEN` | string | the answer of a call that may be repeated; expires |
//! | `w:WORKER`, `workers` | string, zset | signs of life; expire |
//! | `o:KIND:ID` | hash | an object: `body`, `owner`, `rev`, `ord` order of making, `exp` when its time is over |
//! | `ok:KIND`, `oo:KIND:OWNER` | zset | ids of objects → order of making |
//! | `oexp` | zset | `KIND ID` of objects that end → when |
//! | `objects` | number | newest object |
//! | `rate:KEY` | number | how often something was done; expires |
//! | `audit` | list | who did what, from the oldest |
//! | `audit_head` | string | its sealed end |
//! | `ping` | number | readiness checks |
//! | `wake` | channel | `q`, `b ID`, `r`, `l`, `a`: a [`Topic`](super::Topic) has moved; `n ID`: a new build, which is `q` and `b ID`; `h`: something for webhooks |
#![allow(clippy::disallowed_types, reason = "this is the folder that speaks Redis")]

mod aside;
mod builds;
mod change;
mod convert;
mod ended;
mod link;
mod listen;
mod lists;
mod objects;
mod queue;
mod scripts;

use std::sync::{Arc, Mutex, MutexGuard};

use redis::IntoConnectionInfo;
use redis::io::tcp::TcpSettings;
use secrecy::{ExposeSecret, SecretString};

use super::recent::Recent;
use super::{Result, StoreError, Topic, Wakes};
use link::Link;
use listen::Listener;

/// A store in Redis. Clones share its connections.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: String,
    link: Link,
    /// Records by their revision; which one is the newest, only Redis knows.
    recent: Mutex<Recent>,
    wakes: Wakes,
    listener: Listener,
}

impl RedisStore {
    /// A store behind `url` (`redis://[user:password@]host[:port][/db]`, `rediss://` for TLS), all keys beginning with `prefix:`.
    /// Connects in the background: while Redis is away every call answers [`StoreError::Unavailable`]. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn connect(url: &SecretString, prefix: &str) -> Result<Self> {
        // The library's words are not passed on: they may quote the URL with its password.
        let bad = |_| StoreError::Unavailable("the Redis URL is not of the form redis://[user:password@]host[:port][/db]".into());
        // A peer that vanished without a word is noticed by its silence, not by a send that never ends.
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(link::SILENCE);
        let info = url.expose_secret().into_connection_info().map_err(bad)?.set_tcp_settings(tcp);
        let client = redis::Client::open(info).map_err(bad)?;
        let wakes = Wakes::default();
        let listener = Listener::start(client.clone(), format!("{prefix}:wake"), wakes.clone());
        let link = Link::open(client).map_err(bad)?;
        Ok(Self { inner: Arc::new(Inner { prefix: prefix.to_owned(), link, recent: Mutex::default(), wakes, listener }) })
    }

    pub fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.inner.prefix)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.inner.recent.lock().expect("not poisoned, because nothing panics while it is held")
    }

    /// Wakes this process's own readers when pub/sub cannot; otherwise they would be woken twice.
    fn woke(&self, topic: Topic) {
        if !self.inner.listener.is_connected() {
            self.inner.wakes.wake(topic);
        }
    }
}

/// Names one call, so that its repetition is known.
fn call_token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
