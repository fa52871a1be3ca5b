//! What an account may use of builds, beside what the store itself checks when it accepts one.

use std::time::Duration;

use super::Builds;
use crate::auth::Principal;
use crate::domain::{BuildSpec, Owner, Quota, Usage};
use crate::error::{Error, Result};

const MINUTE: Duration = Duration::from_secs(60);

fn uploads(owner: &Owner) -> String {
    format!("uploads:{owner}")
}

impl Builds {
    /// Counts an upload before any of it is read.
    ///
    /// # Errors
    /// [`Error::TooMany`] `quota_exceeded` when there were too many in this minute.
    pub async fn admit_upload(&self, caller: &Principal) -> Result<()> {
        self.admit(caller, &uploads(&caller.owner)).await
    }

    /// The same of manifests: a build needs one, so there may be as many of them beside.
    ///
    /// # Errors
    /// As [`Builds::admit_upload`].
    pub async fn admit_manifest(&self, caller: &Principal) -> Result<()> {
        self.admit(caller, &format!("manifests:{}", caller.owner)).await
    }

    async fn admit(&self, caller: &Principal, key: &str) -> Result<()> {
        let Some(limit) = caller.quota.uploads_per_minute else { return Ok(()) };
        let hits = self.store.hit(key, MINUTE).await?;
        if hits.count <= limit {
            return Ok(());
        }
        let detail = format!("quota uploads_per_minute: the limit is {limit}, and {limit} are used");
        Err(Error::TooMany { code: "quota_exceeded", detail, retry_after: hits.left })
    }

    /// Most bytes of one upload: the service's own bound, or the account's.
    pub(super) fn most_bytes(&self, quota: &Quota) -> u64 {
        quota.context_bytes.map_or(self.policy.max_upload.0, |most| most.min(self.policy.max_upload.0))
    }

    /// What is said of an upload that is larger than it may be: by whose bound.
    #[must_use]
    pub fn too_large(&self, quota: &Quota, received: u64) -> Error {
        match quota.context_bytes.filter(|most| *most < self.policy.max_upload.0) {
            Some(most) => Error::over_quota("context_bytes", most, received),
            None => Error::TooLarge {
                code: "upload_too_large",
                detail: format!("the upload is larger than the limit of {} (max-upload)", self.policy.max_upload),
            },
        }
    }

    /// A build that names no time gets what it may have; one that asks for more is refused.
    pub(super) fn bound_time(quota: &Quota, spec: &mut BuildSpec, asked: bool) -> Result<()> {
        let Some(most) = quota.build_seconds else { return Ok(()) };
        if spec.timeout_ms <= most.saturating_mul(1000) {
            return Ok(());
        }
        if asked {
            return Err(Error::over_quota("build_seconds", most, spec.timeout_ms / 1000));
        }
        spec.timeout_ms = most.saturating_mul(1000);
        Ok(())
    }

    /// What an account uses now.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn usage(&self, owner: &Owner) -> Result<Usage> {
        let mut usage = self.store.usage(owner).await?;
        usage.stored_bytes += self.contexts.blobs().used(owner).await?;
        Ok(Usage { uploads_this_minute: self.store.hits(&uploads(owner)).await?, ..usage })
    }
}
