//! How many fetches are under way at once: a slow server holds up its own users, not everybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Owner;
use crate::error::{Error, Result};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// When to come back.
const AGAIN: Duration = Duration::from_secs(5);

type Held = Arc<Mutex<HashMap<Owner, usize>>>;

#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    held: Held,
}

/// One fetch under way; given back when it is dropped.
pub(super) struct Turn {
    held: Held,
    owner: Owner,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), each: at_once.div_ceil(2), held: Held::default() }
    }

    /// # Errors
    /// `git_busy`: 429 when this owner has its share under way, 503 when all have theirs for too long.
    pub(super) async fn take(&self, owner: &Owner) -> Result<Turn> {
        let mut turn = self.count(owner)?;
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.all).acquire_owned()).await;
        let busy = || Error::Unavailable {
            code: "git_busy",
            what: "a place among the git sources that are fetched at once".into(),
            retry_after: AGAIN,
            source: None,
        };
        turn._permit = Some(permit.map_err(|_| busy())?.map_err(Error::internal)?);
        Ok(turn)
    }

    fn count(&self, owner: &Owner) -> Result<Turn> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = held.entry(owner.clone()).or_default();
        if *mine >= self.each {
            let detail = format!("{mine} git sources of this account are being fetched, which is its share");
            return Err(Error::TooMany { code: "git_busy", detail, retry_after: AGAIN });
        }
        *mine += 1;
        Ok(Turn { held: Arc::clone(&self.held), owner: owner.clone(), _permit: None })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = held.get_mut(&self.owner) {
            *mine -= 1;
            if *mine == 0 {
                held.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_owner_has_half_of_the_turns() {
        let turns = Turns::new(3);
        let owner = |name: &str| name.parse::<Owner>().expect("a name");
        let (ada, bob) = (owner("ada"), owner("bob"));
        let first = turns.take(&ada).await.expect("a turn");
        let _second = turns.take(&ada).await.expect("a turn");
        assert!(matches!(turns.take(&ada).await, Err(Error::TooMany { code: "git_busy", .. })));
        let _other = turns.take(&bob).await.expect("another owner's turn");
        drop(first);
        let _again = turns.take(&ada).await.expect("it was given back");
    }
}
