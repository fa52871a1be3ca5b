//! Watching for what has no event to wait on: the one place where tests look again and again.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something to see, for a minute.
pub async fn seen<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    seen_within(PATIENCE, what, look).await
}

/// Looks until there is something to see, for as long as it may take.
pub async fn seen_within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        loop {
            pause.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(limit, watching).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

/// Looks until it is so, for a minute.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    seen(what, async || is_so().await.then_some(())).await;
}

/// As [`until`], for what is known at once.
pub async fn watch(what: &str, mut holds: impl FnMut() -> bool) {
    seen(what, async || holds().then_some(())).await;
}

/// As [`watch`], where it is promised within so many seconds.
pub async fn watch_for(seconds: u64, what: &str, mut holds: impl FnMut() -> bool) {
    seen_within(Duration::from_secs(seconds), what, async || holds().then_some(())).await;
}
