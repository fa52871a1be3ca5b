use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::BuildId;

/// What a reader can wait on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Something was put into, or taken out of, the queue.
    Queue,
    /// The record, the log or the removal of this build has moved.
    Build(BuildId),
    /// A removal was asked of some node.
    Removals,
    /// A lock was given back.
    Locks,
}

/// The sleepers of this process. A wake-up says only "look again"; a lost one is made up for by the sleeper's own time limit.
#[derive(Clone, Default)]
pub struct Wakes {
    // A std mutex, for it is never held across an await.
    topics: Arc<Mutex<HashMap<Topic, watch::Sender<()>>>>,
}

/// One sleeper on one topic. Make it *before* looking, so that nothing between the look and the sleep is missed.
pub struct Waker {
    receiver: watch::Receiver<()>,
}

impl Wakes {
    #[must_use]
    pub fn subscribe(&self, topic: Topic) -> Waker {
        let mut topics = self.lock();
        let receiver = topics.entry(topic).or_insert_with(|| watch::Sender::new(())).subscribe();
        Waker { receiver }
    }

    /// Wakes every sleeper on `topic`, and forgets the topic when there is none.
    pub fn wake(&self, topic: Topic) {
        let mut topics = self.lock();
        if let Some(sender) = topics.get(&topic)
            && sender.send(()).is_err()
        {
            topics.remove(&topic);
        }
    }

    /// Wakes everybody: used when notifications may have been missed.
    pub fn wake_all(&self) {
        self.lock().retain(|_, sender| sender.send(()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, watch::Sender<()>>> {
        self.topics.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

impl Waker {
    /// Sleeps until woken, at most `limit`. A wake-up since the last call counts.
    pub async fn sleep(&mut self, limit: Duration) {
        // Both ends of the sleep mean the same: look again.
        let _ = tokio::time::timeout(limit, self.receiver.changed()).await;
    }
}
