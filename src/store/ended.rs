use crate::domain::{BuildId, BuildRecord};

use super::rules;

/// A build that has ended and is still to be told of.
#[derive(Debug, Clone)]
pub struct Ended {
    pub build: BuildId,
    /// As it is now, or as it was when it was deleted; none when this version cannot read it.
    pub record: Option<BuildRecord>,
}

impl Ended {
    pub(super) fn read(build: BuildId, record: &str) -> Self {
        let record = rules::decode_record(record).inspect_err(|why| tracing::debug!(%build, %why, "an end cannot be read"));
        Self { build, record: record.ok() }
    }
}
