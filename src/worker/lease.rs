//! The heartbeat of a claim.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{BuildId, Fence};
use crate::store::{Renewal, Store, Topic};

/// Why work on a build has to stop before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// Another worker has the build, or it was deleted: nothing may be written any more.
    Lost,
    /// This process ends.
    HandBack,
}

/// Renews the lease until there is a reason to stop. While the store is away the build goes on: when it is back, the
/// store says whether the build is still ours.
pub async fn watch(store: &Store, id: BuildId, fence: Fence, lease: Duration, hand_back: &CancellationToken) -> Stop {
    let every = lease / 5;
    let mut moved = store.wakes().subscribe(Topic::Build(id));
    let mut next = Instant::now();
    loop {
        // Woken early: somebody may have asked for a cancel. Our own log lines wake as well, so a look is at most every 100 ms.
        let now = Instant::now();
        let nap = next.saturating_duration_since(now);
        tokio::select! {
            () = moved.woken(nap) => {}
            () = hand_back.cancelled() => return Stop::HandBack,
        }
        match store.renew(id, fence, lease).await {
            Ok(Renewal::Continue) => {}
            Ok(Renewal::CancelRequested) => return Stop::Cancelled,
            Ok(Renewal::Lost) => return Stop::Lost,
            Err(error) => tracing::debug!(build = %id, %error, "the lease could not be renewed"),
        }
        next = Instant::now() + every;
        tokio::time::sleep(Duration::from_millis(100).min(every)).await;
    }
}
