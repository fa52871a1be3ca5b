//! The connection: a deadline of our own on every call, and one repetition after a break.

use std::future::Future;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};

use crate::store::contact::Contact;
use crate::store::{Result, StoreError};

/// Longest that one call takes, its repetition included.
const DEADLINE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(1);
/// Between two attempts to connect. With so few retries a call fails soon while Redis is away, and the next call tries again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);
const RETRIES: usize = 3;
/// A connection whose peer acknowledges nothing for so long is given up.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Link {
    client: redis::Client,
    // A std mutex, for it is never held across an await.
    manager: Mutex<Numbered>,
    pub(super) contact: Contact,
}

/// Tells a manager from the one that took its place.
#[derive(Clone)]
struct Numbered {
    number: u64,
    manager: ConnectionManager,
}

impl Link {
    pub(super) fn open(client: redis::Client) -> RedisResult<Self> {
        let manager = Mutex::new(Numbered { number: 0, manager: manage(&client)? });
        Ok(Self { client, manager, contact: Contact::default() })
    }

    /// Runs a script; it must be one that can be repeated.
    pub(super) async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        self.call(|mut connection| async move { script.invoke_async(&mut connection).await }).await
    }

    /// Sends one command that can be repeated.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        self.call(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Sends a pipeline that can be repeated.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T> {
        self.call(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    async fn call<T, F, Fut>(&self, once: F) -> Result<T>
    where
        F: Fn(ConnectionManager) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let Numbered { number, manager } = self.current().clone();
        let twice = async {
            match once(manager.clone()).await {
                // The manager tells a break to the first that notices it, and does not repeat.
                Err(e) if e.is_io_error() || e.is_connection_dropped() => once(manager.clone()).await,
                other => other,
            }
        };
        let result = match tokio::time::timeout(DEADLINE, twice).await {
            Ok(result) => result.map_err(|e| fault(&e)),
            Err(_) => {
                self.give_up(number);
                Err(StoreError::Unavailable(format!("Redis did not answer within {} s", DEADLINE.as_secs())))
            }
        };
        match &result {
            Err(StoreError::Unavailable(_)) => self.contact.failed(),
            _ => self.contact.succeeded(),
        }
        result
    }

    /// A connection that fell silent without breaking would never be made anew: the next call gets another.
    fn give_up(&self, number: u64) {
        let mut current = self.current();
        if current.number == number
            && let Ok(manager) = manage(&self.client)
        {
            *current = Numbered { number: number + 1, manager };
        }
    }

    fn current(&self) -> MutexGuard<'_, Numbered> {
        self.manager.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

fn manage(client: &redis::Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        // Ours is the deadline of a call, which covers the wait for a connection too.
        .set_response_timeout(None)
        .set_min_delay(RETRY_MIN)
        .set_max_delay(RETRY_MAX)
        .set_number_of_retries(RETRIES);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn fault(error: &RedisError) -> StoreError {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, NoPerm, ReadOnly, TryAgain};
    let away = match error.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain) => true,
        ErrorKind::Server(NoPerm) => false,
        _ => error.is_connection_dropped(),
    };
    let text = error.to_string();
    if let Some(over) = over_quota(&text) {
        return over;
    }
    if away {
        StoreError::Unavailable(text)
    } else if text.contains("OOM ") || text.contains("MISCONF") {
        // Out of memory under `noeviction`, or the disk below the append-only file is full.
        StoreError::Full
    } else {
        StoreError::Internal(text)
    }
}

/// What submit.lua refuses with.
fn over_quota(text: &str) -> Option<StoreError> {
    let (_, told) = text.split_once("OVERQUOTA")?;
    let words: Vec<&str> = told.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let quota = ["builds_queued", "stored_bytes"].into_iter().find(|name| words.first() == Some(name))?;
    Some(StoreError::OverQuota { quota, limit: words.get(1)?.parse().ok()?, used: words.get(2)?.parse().ok()? })
}
