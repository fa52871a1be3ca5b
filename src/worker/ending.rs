//! Engines that end while they build.

use std::time::Duration;

use crate::domain::ErrorKind;
use crate::engine::{ContainerEngine, EngineError, VANISHED};

/// How a step ends that failed, or was killed.
const KILLED_OR_FAILED: [&str; 2] = ["step_failed", "out_of_memory"];
/// How often, and with what pause, an engine that failed for reasons of its own is asked whether it is still there.
const ENDING_LOOKS: u32 = 20;
const ENDING_LOOK: Duration = Duration::from_millis(100);

/// An engine that ends kills its steps, and tells of them as if they had failed by themselves; and it closes parts of itself one after the
/// other, so that a build fails for reasons of the engine's own a moment before nothing answers any more.
pub(super) async fn is_ending(engine: &dyn ContainerEngine, error: &EngineError) -> bool {
    let looks = match error.kind {
        _ if KILLED_OR_FAILED.contains(&error.code) => 1,
        ErrorKind::Engine if error.code != VANISHED => ENDING_LOOKS,
        _ => 0,
    };
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(ENDING_LOOK).await;
        }
        if engine.info().await.is_err() {
            return true;
        }
    }
    false
}
