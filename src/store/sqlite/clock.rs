use std::time::{Duration, Instant};

use crate::domain::Timestamp;

/// The store's clock for leases and locks: milliseconds since the process opened the file, untouched by changes of the
/// wall clock or a suspended machine.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Above zero, which stands for the time before the start.
    pub(super) fn millis(self) -> i64 {
        to_millis(self.started.elapsed()).saturating_add(1)
    }

    /// What records show to people.
    pub(super) fn wall(self) -> Timestamp {
        Timestamp::now()
    }
}

pub(super) fn to_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
