//! What is still to be tried, in memory, so that not all of it is read anew at each wake.
//!
//! The store is the truth: it is read as a whole at first and then once a minute, and between that only what is new. A try that finds
//! its delivery otherwise than it stands here corrects it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::domain::{DeliveryId, DueDelivery, Owner, Timestamp, limits};
use crate::store::objects::{Kind, Object, ObjectQuery};
use crate::store::{Store, StoreError};

/// How long it is believed that nobody else has changed what was read.
const BELIEVED: Duration = Duration::from_secs(60);

/// The deliveries that wait.
#[derive(Default)]
// A std mutex, for it is never held across an await.
pub(super) struct Waiting(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When all were read; `None` before.
    read: Option<Instant>,
    /// The order of the newest one that was read.
    newest: u64,
    all: HashMap<DeliveryId, (Timestamp, Owner)>,
}

impl Waiting {
    /// Somebody else may deliver from now on.
    pub(super) fn forget(&self) {
        *self.known() = Known::default();
    }

    /// Reads what is new.
    pub(super) async fn look(&self, store: &Store) -> Result<(), StoreError> {
        let until = {
            let mut known = self.known();
            if known.read.is_none_or(|read| read.elapsed() > BELIEVED) {
                *known = Known { read: Some(Instant::now()), ..Known::default() };
            }
            known.newest
        };
        let mut query = ObjectQuery { limit: limits::PAGE, ..ObjectQuery::one(Kind::DueDelivery) };
        loop {
            let read = store.objects::<DueDelivery>(&query).await;
            let (page, more) = read.inspect_err(|_| self.forget())?;
            query.before = page.last().map(|object| object.order);
            let all_new = page.iter().all(|object| object.order > until);
            self.enter(page, until);
            if !more || !all_new {
                return Ok(());
            }
        }
    }

    fn enter(&self, page: Vec<Object<DueDelivery>>, until: u64) {
        let mut known = self.known();
        for object in page.into_iter().filter(|object| object.order > until) {
            known.newest = known.newest.max(object.order);
            if let Ok(id) = object.id.parse() {
                known.all.insert(id, (object.body.at, object.owner));
            }
        }
    }

    /// It is tried next at this time, or never.
    pub(super) fn set(&self, id: DeliveryId, next: Option<Timestamp>) {
        let mut known = self.known();
        match next {
            Some(at) => drop(known.all.entry(id).and_modify(|known| known.0 = at)),
            None => drop(known.all.remove(&id)),
        }
    }

    /// Those whose time has come, the longest due first, and when the next one's comes.
    pub(super) fn due(&self, now: Timestamp) -> (Vec<(DeliveryId, Owner)>, Option<Timestamp>) {
        let known = self.known();
        let later = known.all.values().map(|(at, _)| *at).filter(|at| *at > now).min();
        let mut due: Vec<_> = known.all.iter().filter(|(_, (at, _))| *at <= now).collect();
        due.sort_by_key(|(_, (at, _))| *at);
        (due.into_iter().map(|(id, (_, owner))| (*id, owner.clone())).collect(), later)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("not poisoned, because nothing panics while it is held")
    }
}
