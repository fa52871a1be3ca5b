use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use super::Principal;
use crate::domain::Timestamp;

/// How long an answer of the store about a caller is used again. A change of any account ends it at once in this process, and
/// in others as soon as the wake-up arrives.
const KEPT: Duration = Duration::from_secs(2);
/// Most callers that are remembered at once.
const MANY: usize = 10_000;

/// Callers that were seen a moment ago.
pub(super) struct Remembered {
    callers: Mutex<HashMap<String, Seen>>,
    /// Keys that somebody looks at right now.
    looked_at: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Makes what is kept of a password worthless outside of this process.
    salt: [u8; 32],
}

struct Seen {
    at: Instant,
    /// Of the changes of accounts: a later one makes this worthless.
    generation: u64,
    principal: Arc<Principal>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { callers: Mutex::default(), looked_at: Mutex::default(), salt: rand::random() }
    }
}

impl Remembered {
    /// A key that stands for a name and a password.
    pub(super) fn disguise(&self, name: &str, password: &SecretString) -> String {
        let mut hash = Sha256::new_with_prefix(self.salt);
        hash.update(Sha256::digest(name.as_bytes()));
        hash.update(password.expose_secret().as_bytes());
        hex::encode(hash.finalize())
    }

    /// One after the other looks at the same key: those who waited find what the first one has learned.
    pub(super) async fn turn(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.looked_at.lock().expect("not poisoned, because nothing panics while it is held");
            all.retain(|_, lock| lock.strong_count() > 0);
            let known = all.get(key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                all.insert(key.to_owned(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    pub(super) fn recall(&self, key: &str, generation: u64) -> Option<Arc<Principal>> {
        let callers = self.callers.lock().expect("not poisoned, because nothing panics while it is held");
        let seen = callers.get(key).filter(|seen| seen.generation == generation && seen.at.elapsed() < KEPT)?;
        let expired = seen.principal.until.is_some_and(|end| end <= Timestamp::now());
        (!expired).then(|| Arc::clone(&seen.principal))
    }

    /// `generation` is the one from before the store was asked.
    pub(super) fn remember(&self, key: String, generation: u64, principal: &Arc<Principal>) {
        let mut callers = self.callers.lock().expect("not poisoned, because nothing panics while it is held");
        if callers.len() >= MANY {
            callers.clear();
        }
        callers.insert(key, Seen { at: Instant::now(), generation, principal: Arc::clone(principal) });
    }
}
