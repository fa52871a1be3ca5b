//! The faults of a long life, each many times over: processes killed and paused, parts restarted, a full disk, a wrong clock,
//! slow clients. Few times in the suite, and as often as they were promised for with `scripts/soak`.
#![allow(clippy::print_stdout, reason = "a soak tells what it has done")]

mod clock;
pub mod disk;
mod engine;
mod paused;
mod poison;
mod redis;
mod slow;
mod uploads;
mod workers;

/// How often: `few` in the suite, `full` in a soak. The one place that asks which it is.
pub fn times(few: usize, full: usize) -> usize {
    if std::env::var("DOCKWRIGHT_TEST_SOAK").is_ok_and(|on| on == "1") { full } else { few }
}

/// Some moment of the next `milliseconds`.
async fn some_moment(milliseconds: u64) {
    tokio::time::sleep(std::time::Duration::from_millis(any(milliseconds))).await;
}

/// Any number below `below`.
fn any(below: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 % below
}
