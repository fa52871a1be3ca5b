//! Grace after an outage of the store: while it was away no worker could renew, so a lease that ran out
//! meanwhile says nothing about its worker.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures shorter than this are no outage.
const BLINK: Duration = Duration::from_secs(2);

/// When this process last reached the store, and the newest outage that it saw.
#[derive(Default)]
pub(super) struct Contact {
    // A std mutex, for it is never held across an await.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last_success: Option<Instant>,
    /// The last success before the failures that go on now; `Some(None)` when there never was one.
    failing_since: Option<Option<Instant>>,
    outage: Option<Outage>,
}

#[derive(Clone, Copy)]
struct Outage {
    /// Unknown when this process started during it.
    began: Option<Instant>,
    ended: Instant,
}

impl Contact {
    pub(super) fn succeeded(&self) {
        let now = Instant::now();
        let mut seen = self.lock();
        if let Some(began) = seen.failing_since.take()
            && began.is_none_or(|began| now - began > BLINK)
        {
            seen.outage = Some(Outage { began, ended: now });
        }
        seen.last_success = Some(now);
    }

    pub(super) fn failed(&self) {
        let mut seen = self.lock();
        let last = seen.last_success;
        seen.failing_since.get_or_insert(last);
    }

    /// Whether a lease of `length` that ran out `overdue` ago may be taken away: if it ran out during or after an
    /// outage, only when its worker has had one lease's length since the end of the outage to renew.
    pub(super) fn may_reap(&self, overdue: Duration, length: Duration) -> bool {
        let Some(outage) = self.lock().outage else { return true };
        let before_it = outage.began.is_some_and(|began| overdue > began.elapsed());
        before_it || outage.ended.elapsed() >= length
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("not poisoned, because nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_during_an_outage_gives_every_lease_its_length() {
        let contact = Contact::default();
        contact.failed();
        contact.succeeded();
        assert!(!contact.may_reap(Duration::from_secs(60), Duration::from_secs(15)));
        assert!(contact.may_reap(Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_blink_gives_no_grace() {
        let contact = Contact::default();
        contact.succeeded();
        contact.failed();
        contact.succeeded();
        assert!(contact.may_reap(Duration::ZERO, Duration::from_secs(15)));
    }
}
