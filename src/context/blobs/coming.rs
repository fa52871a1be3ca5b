//! Bytes that uploads under way may still bring. They are their owner's before they are here, so that all of them together stay
//! within the quota.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::storage::{blocking, storing};
use super::Blobs;
use crate::domain::{ManifestId, Owner};
use crate::error::Result;

/// By manifest: all requests of one bring the same blobs, so what they bring together is not more than what one brings.
#[derive(Debug, Default)]
pub(super) struct Coming(Mutex<HashMap<Owner, HashMap<ManifestId, Awaited>>>);

#[derive(Debug)]
struct Awaited {
    bytes: u64,
    requests: usize,
}

impl Coming {
    fn all(&self) -> MutexGuard<'_, HashMap<Owner, HashMap<ManifestId, Awaited>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request of a manifest, of which so much was missing just now.
    fn begin(&self, owner: &Owner, manifest: ManifestId, missing: u64) {
        let mut all = self.all();
        let awaited = all.entry(owner.clone()).or_default().entry(manifest).or_insert(Awaited { bytes: missing, requests: 0 });
        awaited.requests += 1;
        // Ever less is missing of a manifest, so the lower of two numbers is the newer one.
        awaited.bytes = awaited.bytes.min(missing);
    }

    /// Blobs of a manifest are counted as stored from now on.
    pub(super) fn arrived(&self, owner: &Owner, manifest: ManifestId, bytes: u64) {
        if let Some(awaited) = self.all().get_mut(owner).and_then(|own| own.get_mut(&manifest)) {
            awaited.bytes = awaited.bytes.saturating_sub(bytes);
        }
    }

    fn end(&self, owner: &Owner, manifest: ManifestId) {
        let mut all = self.all();
        let Some(own) = all.get_mut(owner) else { return };
        own.retain(|id, awaited| {
            awaited.requests -= usize::from(*id == manifest);
            awaited.requests > 0
        });
        if own.is_empty() {
            all.remove(owner);
        }
    }

    fn of(&self, owner: &Owner) -> u64 {
        self.all().get(owner).map_or(0, |own| own.values().map(|awaited| awaited.bytes).sum())
    }
}

/// Bytes that are counted as an owner's while they are on their way.
#[derive(Debug)]
pub struct Reserved {
    blobs: Blobs,
    owner: Owner,
    manifest: ManifestId,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.blobs.coming.end(&self.owner, self.manifest);
    }
}

impl Blobs {
    /// Counts what is missing of a manifest as the owner's until it has come, or what this gives back is dropped.
    #[must_use]
    pub fn reserve(&self, owner: &Owner, manifest: ManifestId, missing: u64) -> Reserved {
        self.coming.begin(owner, manifest, missing);
        Reserved { blobs: self.clone(), owner: owner.clone(), manifest }
    }

    /// Bytes that the blobs and manifests of an owner take, with those that are reserved for it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn taken(&self, owner: &Owner) -> Result<u64> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || {
            // What comes meanwhile is counted once: as coming before, as stored after.
            let _lock = blobs.lock(&owner).map_err(storing)?;
            Ok(blobs.stored(&owner)? + blobs.coming.of(&owner))
        })
        .await
    }
}
