//! The turn to push to a destination.

use std::time::Duration;

use tokio::time::Instant;

use super::{Store, Topic};
use crate::domain::ImageRef;

/// How long a destination is ours without a renewal, should this process die.
const LOCK_TTL: Duration = Duration::from_secs(20);
/// A lost wake-up of the lock costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One destination is pushed to once at a time, whichever process it is in: the engine has one local tag for it, and
/// what is read back from the registry must be what was pushed. Other things that must be done one after the other have
/// turns of the same kind.
pub struct PushTurn {
    store: Store,
    key: String,
    holder: String,
}

impl PushTurn {
    /// Waits for the turn; the caller bounds the wait. `who` is for people.
    pub async fn take(store: &Store, destination: &ImageRef, who: &str) -> Self {
        Self::named(store, format!("push:{destination}"), who).await
    }

    /// The turn under this name, which is no destination's.
    pub async fn named(store: &Store, key: String, who: &str) -> Self {
        let lock = Self { store: store.clone(), key, holder: format!("{who}/{}", uuid::Uuid::new_v4().simple()) };
        let mut freed = store.wakes().subscribe(Topic::Locks);
        while !matches!(lock.store.lock(&lock.key, &lock.holder, LOCK_TTL).await, Ok(true)) {
            freed.woken(LOOK_AGAIN).await;
        }
        lock
    }

    /// Renews the turn for as long as it is polled. Comes back when it is lost: another has it, or may have had it, because this process
    /// was held up, or the store away, for longer than it lasts.
    pub async fn lost(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(LOCK_TTL / 4).await;
            let asked = Instant::now();
            match self.store.lock(&self.key, &self.holder, LOCK_TTL).await {
                Ok(true) if renewed.elapsed() < LOCK_TTL => renewed = asked,
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "the lock of a destination could not be renewed"),
            }
        }
    }
}

impl Drop for PushTurn {
    /// Also a push that was dropped gives its destination back.
    fn drop(&mut self) {
        let (store, key, holder) = (self.store.clone(), self.key.clone(), self.holder.clone());
        tokio::spawn(async move { store.unlock(&key, &holder).await });
    }
}
