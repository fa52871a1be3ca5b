//! What the log tells before the build begins: what is surprising about its context.

use super::pipeline::{Job, patiently};
use crate::domain::quantity::readable;
use crate::domain::{EventBody, LogStream, Scope};

/// Before the first line of a log are a few changes of the record for each attempt, and nothing else.
const HEAD: usize = 64;

/// Lists at the head of the log what is surprising about the context, once: the first line of a log is of this, or this was not told.
pub(super) async fn warnings(job: &Job) {
    let warnings = &job.record.warnings;
    if warnings.is_empty() || is_told(job).await {
        return;
    }
    for warning in warnings {
        job.log.warn(format!("Warning: {} ({})", warning.message, warning.code)).await;
        for found in &warning.paths {
            job.log.warn(format!("  {:>10}  {}", readable(found.bytes), found.path)).await;
        }
    }
}

/// Whether an earlier attempt came so far.
async fn is_told(job: &Job) -> bool {
    if job.record.attempt == 1 {
        return false;
    }
    let head = patiently(|| job.parts.store.events(&Scope::All, job.record.id, 0, HEAD)).await;
    let first = head.ok().flatten().unwrap_or_default().into_iter().find_map(|event| match event.body {
        EventBody::Log(line) => Some(line.stream),
        EventBody::State { .. } => None,
    });
    first == Some(LogStream::Warning)
}
