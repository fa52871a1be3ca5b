//! What the record and the log tell beside the build itself: what is surprising about the context, and what is known of the image.

use super::pipeline::Job;
use crate::domain::{BuildRecord, IllegalTransition, Timestamp, WorkerId};
use crate::engine::BuiltImage;

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

/// The image exists on the engine, with these labels.
pub(super) fn image_built(
    record: &mut BuildRecord,
    image: &BuiltImage,
    worker: &WorkerId,
    now: Timestamp,
) -> Result<(), IllegalTransition> {
    record.image_labels.clone_from(&image.labels);
    record.image_built(image.id.clone(), image.size_bytes, worker, now)
}
