use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::domain::{AppId, BuildId, RunId};

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
    /// An account, a token or a session has changed.
    Accounts,
    App(AppId),
    /// The record or the log of this run has moved.
    Run(RunId),
    /// Any run has.
    Runs,
    /// A build has ended that webhooks are to be told of, or there is something to deliver.
    Hooks,
}

/// What a reader of everything is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moved {
    Build(BuildId),
    App(AppId),
    Run(RunId),
}

type Topics = HashMap<Topic, watch::Sender<()>>;

/// The sleepers of this process. A wake-up says only "look again"; a lost one is made up for by the sleeper's own time limit.
#[derive(Clone)]
pub struct Wakes {
    // A std mutex, for it is never held across an await.
    topics: Arc<Mutex<Topics>>,
    moved: broadcast::Sender<Moved>,
    /// How often an account may have changed.
    accounts: Arc<AtomicU64>,
}

/// One sleeper on one topic. Make it *before* looking, so that nothing between the look and the sleep is missed.
pub struct Waker {
    topic: Topic,
    // Taken out only while being dropped.
    receiver: Option<watch::Receiver<()>>,
    wakes: Wakes,
}

/// Builds that a reader of all builds may be behind by, before it is told that it has missed some.
const BEHIND: usize = 4096;

impl Default for Wakes {
    fn default() -> Self {
        Self { topics: Arc::default(), moved: broadcast::Sender::new(BEHIND), accounts: Arc::default() }
    }
}

impl Wakes {
    /// The id of every build, app and run that moves from now on, in its record or its log.
    #[must_use]
    pub fn moved(&self) -> broadcast::Receiver<Moved> {
        self.moved.subscribe()
    }

    #[must_use]
    pub fn subscribe(&self, topic: Topic) -> Waker {
        let receiver = self.lock().entry(topic).or_insert_with(|| watch::Sender::new(())).subscribe();
        Waker { topic, receiver: Some(receiver), wakes: self.clone() }
    }

    /// Wakes every sleeper on `topic`.
    pub fn wake(&self, topic: Topic) {
        let moved = match topic {
            Topic::Build(id) => Some(Moved::Build(id)),
            Topic::App(id) => Some(Moved::App(id)),
            Topic::Run(id) => Some(Moved::Run(id)),
            _ => None,
        };
        if let Some(moved) = moved {
            // Nobody may be listening.
            let _ = self.moved.send(moved);
        }
        if topic == Topic::Accounts {
            self.accounts.fetch_add(1, Ordering::AcqRel);
        }
        let topics = self.lock();
        for topic in [Some(topic), matches!(topic, Topic::Run(_)).then_some(Topic::Runs)].into_iter().flatten() {
            if let Some(sender) = topics.get(&topic) {
                sender.send_replace(());
            }
        }
    }

    /// Wakes everybody: used when notifications may have been missed.
    pub fn wake_all(&self) {
        self.accounts.fetch_add(1, Ordering::AcqRel);
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }

    /// Grows whenever what is remembered of accounts must be forgotten.
    #[must_use]
    pub fn account_changes(&self) -> u64 {
        self.accounts.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

impl Waker {
    /// Comes when woken, or after `limit`. A wake-up since the last call counts.
    pub async fn woken(&mut self, limit: Duration) {
        if let Some(receiver) = &mut self.receiver {
            // Both ends of the wait mean the same: look again.
            let _ = tokio::time::timeout(limit, receiver.changed()).await;
        }
    }
}

impl Drop for Waker {
    /// The last sleeper takes its topic along: a topic lives no longer than somebody waits on it.
    fn drop(&mut self) {
        let mut topics = self.wakes.lock();
        self.receiver = None;
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_the_look_and_the_sleep_counts() {
        let wakes = Wakes::default();
        let mut waker = wakes.subscribe(Topic::Queue);
        wakes.wake(Topic::Queue);
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(Duration::from_secs(5), waker.woken(hour)).await.expect("wakes at once");
    }

    #[test]
    fn topics_go_with_their_last_sleeper() {
        let wakes = Wakes::default();
        let topic = Topic::Build(BuildId::new());
        let (one, two) = (wakes.subscribe(topic), wakes.subscribe(topic));
        drop(one);
        assert_eq!(wakes.lock().len(), 1);
        drop(two);
        assert_eq!(wakes.lock().len(), 0);
    }
}
