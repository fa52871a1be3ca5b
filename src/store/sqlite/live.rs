//! What clients ask for over and over, in memory: the whole queue, and the builds that were lately read or changed.
//!
//! This process is the only one that has the file. The writer's thread enters here what each commit has changed: after the commit is
//! durable, and before anybody is told of it. So what is read here was never undone, and whoever was answered finds their own write.
//!
//! A reader of the file may see a commit just before its news are entered here; [`Live::caught_up`] waits for that moment to be over.
//!
//! A build that is not here is read from the file, and entered unless it was changed meanwhile: a [`Ticket`] that is drawn before the
//! reading becomes void by any change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::turns::Turns;
use crate::domain::{BuildId, Owner};
use crate::store::Stored;
use crate::store::recent::{Found, Recent, Ticket};

/// What a commit has changed.
pub(super) enum News {
    /// A build as it is now, the length of its record's JSON, and what became of its place in the queue.
    Saved {
        stored: Arc<Stored>,
        weight: usize,
        queue: Queue,
    },
    /// Lines were added to its log.
    Logged {
        id: BuildId,
        last_seq: u64,
    },
    Gone(BuildId),
    /// The owner had the turn with this number.
    Turn {
        owner: Owner,
        last: i64,
    },
    /// So many builds of the owner may be in hands.
    Cap {
        owner: Owner,
        cap: Option<u64>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Same,
    /// The number is that of its row, by which builds of one rank are ordered.
    Enter {
        num: i64,
        requeued: bool,
    },
    Leave,
}

pub(super) struct Live {
    // A std mutex, for it is never held across an await.
    inner: Mutex<Inner>,
    /// How many commits were begun, and of how many the news are entered.
    begun: AtomicU64,
    entered: watch::Sender<u64>,
}

struct Inner {
    turns: Turns,
    recent: Recent,
}

/// A look at one build.
pub(super) enum Look {
    /// The build, and its place while it is queued.
    Here(Arc<Stored>, Option<u64>),
    /// It must be read from the file.
    Absent(Ticket),
}

impl Live {
    pub(super) fn new(turns: Turns) -> Self {
        Self {
            inner: Mutex::new(Inner { turns, recent: Recent::default() }),
            begun: AtomicU64::new(0),
            entered: watch::Sender::new(0),
        }
    }

    /// A commit begins; from some moment on the file shows it. [`Live::enter`] follows, whatever becomes of it.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// Enters the news of the commit that was begun, in their order.
    pub(super) fn enter(&self, news: Vec<News>) {
        {
            let mut inner = self.lock();
            for news in news {
                inner.enter(news);
            }
        }
        self.entered.send_modify(|entered| *entered += 1);
    }

    /// Waits until the news are entered of every commit that the file could show at the time of the call.
    pub(super) async fn caught_up(&self) {
        let begun = self.begun.load(Ordering::SeqCst);
        // The sender is ours, so it is never closed.
        let _ = self.entered.subscribe().wait_for(|entered| *entered >= begun).await;
    }

    pub(super) fn look(&self, id: BuildId) -> Look {
        let mut inner = self.lock();
        match inner.recent.find(id) {
            Found::Here(stored) => {
                let place = inner.turns.place(id);
                Look::Here(stored, place)
            }
            Found::Absent(ticket) => Look::Absent(ticket),
        }
    }

    /// Enters what was read from the file with this ticket (`None`: there is no such build); answers its place in the queue.
    pub(super) fn fill(&self, id: BuildId, ticket: Ticket, read: Option<(Arc<Stored>, usize)>) -> Option<u64> {
        let mut inner = self.lock();
        inner.recent.fill(id, ticket, read);
        inner.turns.place(id)
    }

    /// The places of those that are queued.
    pub(super) fn places(&self, ids: &[BuildId]) -> Vec<Option<u64>> {
        let inner = self.lock();
        ids.iter().map(|id| inner.turns.place(*id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

impl Inner {
    fn enter(&mut self, news: News) {
        match news {
            News::Saved { stored, weight, queue } => {
                let record = &stored.record;
                match queue {
                    Queue::Same => {}
                    Queue::Enter { num, requeued } => {
                        self.turns.enter(record.id, &record.owner, requeued, record.spec.priority.get(), num);
                    }
                    Queue::Leave => self.turns.leave(record.id),
                }
                self.turns.hold(record.id, &record.owner, stored.leased);
                self.recent.save(stored, weight);
            }
            News::Logged { id, last_seq } => self.recent.logged(id, last_seq),
            News::Gone(id) => {
                self.turns.gone(id);
                self.recent.remove(id);
            }
            News::Turn { owner, last } => self.turns.had_turn(&owner, last),
            News::Cap { owner, cap } => self.turns.may_have(&owner, cap),
        }
    }
}
