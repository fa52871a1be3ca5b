//! How many answers that go on (logs that are followed, samples, events) an account has at once: each holds a connection, and most of
//! them one to the engine, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::Owner;
use crate::error::{Error, Result};

/// Most of them that one account has on one process.
const MOST: usize = 64;
/// When another try is worth it.
const RETRY: Duration = Duration::from_secs(5);

/// Those that are under way, by account. Cheap to clone.
#[derive(Clone, Default)]
pub struct Streams {
    // A std mutex, for it is never held across an await.
    open: Arc<Mutex<HashMap<Owner, usize>>>,
}

/// One of them, until it is dropped.
pub struct Open {
    streams: Streams,
    owner: Owner,
}

impl Streams {
    /// # Errors
    /// [`Error::TooMany`] `too_many_streams`.
    pub fn open(&self, owner: &Owner) -> Result<Open> {
        let mut open = self.open.lock().expect("not poisoned, because nothing panics while it is held");
        let count = open.entry(owner.clone()).or_default();
        if *count >= MOST {
            let detail = format!("{MOST} logs, samples and events are followed already; end one of them");
            return Err(Error::TooMany { code: "too_many_streams", detail, retry_after: RETRY });
        }
        *count += 1;
        Ok(Open { streams: self.clone(), owner: owner.clone() })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().expect("not poisoned, because nothing panics while it is held");
        if let Some(count) = open.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.owner);
            }
        }
    }
}
