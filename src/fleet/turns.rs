//! Owners' turns: of each owner only some runs are prepared at once, so that one's crowd of pulls does not stand before another's one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Owner;

/// Runs of one owner that are prepared, pulled for, or started at once.
const AT_ONCE: usize = 4;

/// A run's right to be prepared; given back when it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

#[derive(Default)]
pub(super) struct Turns {
    // A std mutex, for it is never held across an await.
    owners: Mutex<HashMap<Owner, Arc<Semaphore>>>,
}

impl Turns {
    fn of(&self, owner: &Owner) -> Arc<Semaphore> {
        let mut owners = self.owners.lock().expect("not poisoned, because nothing panics while it is held");
        // Those of whom nobody has a turn, or waits for one.
        owners.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(owners.entry(owner.clone()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }

    /// A turn of this owner's; those who ask for one get it in the order in which they began to wait.
    pub(super) async fn wait(&self, owner: &Owner) -> Turn {
        self.of(owner).acquire_owned().await.expect("open, because nobody closes it")
    }

    /// As [`Turns::wait`], if there is one at this very moment.
    pub(super) fn try_now(&self, owner: &Owner) -> Option<Turn> {
        self.of(owner).try_acquire_owned().ok()
    }
}
