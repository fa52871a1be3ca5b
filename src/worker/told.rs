//! What the log tells before the build begins: what is surprising about its context.

use super::pipeline::Job;

/// Lists at the head of the log what is surprising about the context. A later attempt does not say it again.
pub(super) async fn warnings(job: &Job) {
    if job.record.attempt > 1 {
        return;
    }
    for warning in &job.record.warnings {
        job.log.say(format!("Warning: {} ({})", warning.message, warning.code)).await;
        for found in &warning.paths {
            job.log.say(format!("  {:>10}  {}", mebibytes(found.bytes), found.path)).await;
        }
    }
}

/// With one digit behind the point.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
