//! What the store's tests begin with.

use std::time::Duration;

use dockwright::domain::{
    BuildId, BuildRecord, BuildSpec, ContextInfo, ContextKind, Digest, LogLine, LogStream, NodeId, Owner, Priority, Scope,
    Timestamp, WorkerId,
};
use dockwright::store::redis::RedisStore;
use dockwright::store::sqlite::SqliteStore;
use dockwright::store::{Claim, Guard, NewBuild, Reaped, Store, StoreError, Stored};
use secrecy::SecretString;

use crate::support;

/// Longer than any test.
pub const LONG: Duration = Duration::from_secs(60);

/// A store that is empty at first.
pub struct Bench {
    store: Store,
    behind: Behind,
}

/// Where the store keeps what it has, for tests that reach behind it.
enum Behind {
    // Dropped after the store.
    File(tempfile::TempDir),
    /// The prefix of the keys.
    Redis(String),
}

impl Bench {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(&dir.path().join("db")).expect("opens");
        Self { store: Store::Sqlite(store), behind: Behind::File(dir) }
    }

    pub fn redis() -> Self {
        let prefix = support::unique("contract");
        Self { store: redis_at(&support::redis_url(), &prefix), behind: Behind::Redis(prefix) }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub async fn clean(&self) {
        if let Behind::Redis(prefix) = &self.behind {
            clean_redis(prefix).await;
        }
    }

    /// Sets a field of a stored build (`column` in the file, `field` in Redis), and nothing else, behind the store's back.
    pub fn set(&self, id: BuildId, column: &str, field: &str, value: Option<&str>) {
        match &self.behind {
            Behind::File(dir) => {
                let file = rusqlite::Connection::open(dir.path().join("db")).expect("opens beside it");
                file.busy_timeout(LONG).expect("set");
                let sql = format!("UPDATE build SET {column} = ?2 WHERE id = ?1");
                assert_eq!(file.execute(&sql, rusqlite::params![id.to_string(), value]).expect("writes"), 1);
            }
            Behind::Redis(prefix) => {
                let client = redis::Client::open(support::redis_url()).expect("a URL");
                let mut connection = client.get_connection().expect("Redis answers");
                let (command, value) = value.map_or(("HDEL", None), |value| ("HSET", Some(value)));
                let _: i64 = redis::cmd(command)
                    .arg(format!("{prefix}:b:{id}"))
                    .arg(field)
                    .arg(value)
                    .query(&mut connection)
                    .expect("writes");
            }
        }
    }

    /// Whether sealed credentials of a build are stored.
    pub fn has_sealed(&self, id: BuildId) -> bool {
        match &self.behind {
            Behind::File(dir) => {
                let file = rusqlite::Connection::open(dir.path().join("db")).expect("opens beside it");
                let sql = "SELECT count(*) FROM sealed WHERE num = (SELECT num FROM build WHERE id = ?1)";
                file.query_row(sql, [id.to_string()], |row| row.get::<_, i64>(0)).expect("a number") > 0
            }
            Behind::Redis(prefix) => {
                let client = redis::Client::open(support::redis_url()).expect("a URL");
                let mut connection = client.get_connection().expect("Redis answers");
                redis::cmd("EXISTS").arg(format!("{prefix}:x:{id}")).query(&mut connection).expect("answers")
            }
        }
    }

    /// The stored record, as it stands there.
    pub fn raw_record(&self, id: BuildId) -> String {
        match &self.behind {
            Behind::File(dir) => {
                let file = rusqlite::Connection::open(dir.path().join("db")).expect("opens beside it");
                file.query_row("SELECT record FROM build WHERE id = ?1", [id.to_string()], |row| row.get(0)).expect("there")
            }
            Behind::Redis(prefix) => {
                let client = redis::Client::open(support::redis_url()).expect("a URL");
                let mut connection = client.get_connection().expect("Redis answers");
                redis::cmd("HGET").arg(format!("{prefix}:b:{id}")).arg("rec").query(&mut connection).expect("there")
            }
        }
    }

    /// What `claim.lua` does, without the commit that follows it. Redis alone has a claim in two halves.
    pub fn first_half_of_a_claim(&self) {
        let Behind::Redis(prefix) = &self.behind else { panic!("only Redis has a claim in two halves") };
        let script =
            concat!(include_str!("../../../src/store/redis/lib.lua"), include_str!("../../../src/store/redis/claim.lua"));
        let client = redis::Client::open(support::redis_url()).expect("a URL");
        let mut connection = client.get_connection().expect("Redis answers");
        let taken: redis::Value =
            redis::Script::new(script).key(prefix).arg("other-call").arg(60_000).invoke(&mut connection).expect("claims");
        assert!(!matches!(taken, redis::Value::Nil), "one was waiting");
    }

    /// Ends the leases of these builds by the store's clock.
    pub fn let_leases_run_out(&self, ids: &[BuildId]) {
        // A new process of the embedded store ends all leases by itself.
        let Behind::Redis(prefix) = &self.behind else { return };
        let client = redis::Client::open(support::redis_url()).expect("a URL");
        let mut connection = client.get_connection().expect("Redis answers");
        for id in ids {
            let _: i64 =
                redis::cmd("HSET").arg(format!("{prefix}:b:{id}")).arg("until").arg(1).query(&mut connection).expect("set");
            let _: i64 = redis::cmd("ZADD")
                .arg(format!("{prefix}:leases"))
                .arg(1)
                .arg(id.to_string())
                .query(&mut connection)
                .expect("set");
        }
    }

    /// As after an upgrade: another process on the same data.
    pub fn reopen(&mut self) {
        if let Behind::File(dir) = &self.behind {
            let path = dir.path().join("db");
            // One process has the file at a time: the first must have let it go.
            let elsewhere = tempfile::tempdir().expect("a folder");
            self.store = Store::Sqlite(SqliteStore::open(&elsewhere.path().join("db")).expect("opens"));
            self.store = Store::Sqlite(SqliteStore::open(&path).expect("opens again"));
        }
    }
}

/// Leaves nothing in the Redis that all tests share; step by step, so that it holds up no other test.
pub async fn clean_redis(prefix: &str) {
    let client = redis::Client::open(support::redis_url()).expect("a URL");
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.expect("Redis answers");
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}:*")).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.expect("scans");
        if !keys.is_empty() {
            let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await.expect("cleans");
        }
        if next == 0 {
            return;
        }
        cursor = next;
    }
}

pub fn redis_at(url: &str, prefix: &str) -> Store {
    Store::Redis(RedisStore::connect(&SecretString::from(url), prefix).expect("a URL"))
}

pub fn owner(name: &str) -> Owner {
    name.parse().expect("a valid owner")
}

pub fn own(name: &str) -> Scope {
    Scope::Owner(owner(name))
}

pub fn node() -> NodeId {
    NodeId::new("node-1")
}

pub fn digest(c: char) -> Digest {
    format!("sha256:{}", c.to_string().repeat(64)).parse().expect("a valid digest")
}

pub fn build(name: &str) -> NewBuild {
    build_for(name, 0, &["127.0.0.1:5000/team/app:1"])
}

pub fn build_for(name: &str, priority: i8, images: &[&str]) -> NewBuild {
    let spec = BuildSpec {
        images: images.iter().map(|image| image.parse().expect("a valid image")).collect(),
        dockerfile: "Dockerfile".into(),
        push: true,
        timeout_ms: 60_000,
        priority: Priority::try_from(priority).expect("in range"),
        ..BuildSpec::default()
    };
    let context = ContextInfo { kind: ContextKind::File, bytes: 12, files: 1, sha256: "0".repeat(64), ..ContextInfo::default() };
    let record = BuildRecord::new(BuildId::new(), owner(name), spec, context, None, Timestamp::now());
    NewBuild { record, dockerfile: b"FROM busybox".to_vec(), sealed: Some(b"sealed".to_vec()), quota: Default::default() }
}

/// Accepts a build of `name` and answers its id.
pub async fn submit(store: &Store, name: &str) -> BuildId {
    store.submit(&build(name)).await.expect("accepted").record.id
}

pub async fn get(store: &Store, id: BuildId) -> Stored {
    store.get(&Scope::All, id).await.expect("answers").expect("exists")
}

pub async fn claim(store: &Store) -> Option<Claim> {
    claim_for(store, LONG).await
}

pub async fn claim_for(store: &Store, lease: Duration) -> Option<Claim> {
    store.claim(&WorkerId::unique(), &node(), lease).await.expect("answers")
}

/// Accepts and claims one build, in an empty store.
pub async fn claimed(store: &Store) -> Claim {
    submit(store, "ada").await;
    claim(store).await.expect("one waits")
}

/// The rule by which callers cancel.
pub async fn cancel(store: &Store, id: BuildId) -> Result<Option<Stored>, StoreError> {
    let rule = |record: &mut BuildRecord, now, leased| {
        if leased {
            record.cancel_requested = true;
            return Ok(());
        }
        record.cancelled(&[], now).map_err(|e| StoreError::Refused(e.to_string()))
    };
    store.update(id, &Guard::Scope(Scope::All), rule).await
}

/// Ends a claimed build as its worker would.
pub async fn publish(store: &Store, claim: &Claim) -> Stored {
    let worker = claim.stored.record.worker.clone().expect("claimed");
    let rule = move |record: &mut BuildRecord, now| {
        record.image_built(digest('a'), 10, &worker, now).and_then(|()| record.published(now))
    };
    let id = claim.stored.record.id;
    let settled = store
        .update(id, &Guard::Lease(claim.fence), move |record, now, _| {
            rule(record, now).map_err(|e| StoreError::Refused(e.to_string()))
        })
        .await;
    settled.expect("its own build").expect("exists")
}

pub async fn requeue(store: &Store, claim: &Claim) -> Result<Option<Stored>, StoreError> {
    let rule = |record: &mut BuildRecord, _, _| record.requeued("handed back").map_err(|e| StoreError::Refused(e.to_string()));
    store.update(claim.stored.record.id, &Guard::Lease(claim.fence), rule).await
}

pub fn lines(texts: &[&str]) -> Vec<LogLine> {
    texts.iter().map(|text| LogLine { stream: LogStream::Stdout, step: None, text: (*text).to_owned() }).collect()
}

/// Reaps until something was reaped.
pub async fn reap_some(store: &Store) -> Vec<Reaped> {
    eventually("a lease runs out", || async {
        let reaped = store.reap().await.expect("answers");
        (!reaped.is_empty()).then_some(reaped)
    })
    .await
}

pub use crate::support::seen as eventually;
