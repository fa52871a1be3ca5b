//! Whether the engine takes builds, as far as this worker knows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An engine that ends goes on to answer for some seconds. One that broke off a build is believed again when it was seen to be away since,
/// or when it has answered for so long: else the builds that wait would use up their attempts on it.
const DOUBT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Readiness(Mutex<State>);

#[derive(Default)]
struct State {
    ready: bool,
    doubted: Option<Instant>,
}

impl Readiness {
    pub(super) fn is_ready(&self) -> bool {
        self.state().ready
    }

    /// It has broken off a build.
    pub(super) fn doubt(&self, now: Instant) {
        *self.state() = State { ready: false, doubted: Some(now) };
    }

    /// It was asked who it is, and has answered or not; whether it is ready now and was not, or the other way round.
    pub(super) fn heard(&self, answered: bool, now: Instant) -> bool {
        let mut state = self.state();
        let before = state.ready;
        if !answered || state.doubted.is_some_and(|since| now.duration_since(since) >= DOUBT) {
            state.doubted = None;
        }
        state.ready = answered && state.doubted.is_none();
        state.ready != before
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_broke_off_a_build_is_believed_when_it_was_away_or_has_answered_for_long() {
        let (engine, now) = (Readiness::default(), Instant::now());
        assert!(engine.heard(true, now) && engine.is_ready());
        engine.doubt(now);
        assert!(!engine.heard(true, now) && !engine.is_ready(), "it may be ending");
        assert!(!engine.heard(false, now) && engine.heard(true, now) && engine.is_ready(), "it has come back");
        engine.doubt(now);
        assert!(!engine.heard(true, now + DOUBT / 2));
        assert!(engine.heard(true, now + DOUBT) && engine.is_ready(), "it did not end");
        assert!(engine.heard(false, now) && !engine.is_ready());
    }
}
