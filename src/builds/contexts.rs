//! Contexts in pieces: a manifest, then the blobs that are not here yet; and the quota that counts them.

use super::options::Faults;
use super::{Builds, TextPart};
use crate::auth::Principal;
use crate::context::blobs::{BlobIntake, Reserved};
use crate::context::storage::{Incoming, Received};
use crate::domain::{BuildId, ManifestId, Owner};
use crate::error::{Error, Result};
use crate::store::{NewBuild, StoreError, Stored};

pub use crate::context::blobs::{Coding, MANIFEST_BYTES, Manifest};

impl Builds {
    /// Room for a manifest under way.
    ///
    /// # Errors
    /// [`Error::StorageFull`].
    pub async fn receive_manifest(&self) -> Result<Incoming> {
        self.contexts.begin(MANIFEST_BYTES).await
    }

    /// Takes a manifest, or what has changed since the manifest `base`, and tells which blobs are to be sent.
    ///
    /// # Errors
    /// [`Error::BaseUnknown`];
    /// [`Error::Invalid`] when an entry cannot be; [`Error::TooLarge`] when a limit or the quota would be passed; [`Error::StorageFull`].
    pub async fn declare_context(
        &self,
        caller: &Principal,
        base: Option<ManifestId>,
        received: Received,
        coding: Coding,
    ) -> Result<Manifest> {
        let owner = &caller.owner;
        let manifest = self.contexts.blobs().declare_since(base, owner, received, coding, self.bounds()).await?;
        // Told before the client has sent what there is no room for.
        if let Err(error) = self.room_for(caller, manifest.id, manifest.missing_bytes).await {
            self.contexts.blobs().forget(owner, manifest.id).await?;
            return Err(error);
        }
        Ok(manifest)
    }

    /// A manifest of the caller's own, as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`], also when it has expired, and of everybody else's.
    pub async fn manifest(&self, caller: &Principal, id: ManifestId) -> Result<Manifest> {
        self.contexts.blobs().manifest(&caller.owner, id).await?.ok_or(Error::NotFound("manifest"))
    }

    /// Room for the blobs of a manifest under way.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::TooLarge`] when the quota would be passed; [`Error::StorageFull`].
    pub async fn receive_blobs(&self, caller: &Principal, id: ManifestId, coding: Coding) -> Result<BlobIntake> {
        let most = self.most_bytes(&caller.quota);
        let intake = self.contexts.blobs().receive(&caller.owner, id, coding, most).await?;
        let (mut intake, missing) = intake.ok_or(Error::NotFound("manifest"))?;
        if let Some(reserved) = self.room_for(caller, id, missing).await? {
            intake.reserve(reserved);
        }
        Ok(intake)
    }

    /// Disk and quota for what is missing of a manifest; blobs that nothing uses make way for it.
    async fn room_for(&self, caller: &Principal, manifest: ManifestId, missing: u64) -> Result<Option<Reserved>> {
        let blobs = self.contexts.blobs();
        blobs.make_room(missing).await?;
        self.must_have_room_for(missing)?;
        let Some(limit) = caller.quota.stored_bytes else { return Ok(None) };
        let owner = &caller.owner;
        let reserved = blobs.reserve(owner, manifest, missing);
        let wanted = self.stored_bytes(owner).await?;
        if wanted > limit && blobs.drop_unused(owner, wanted - limit).await? < wanted - limit {
            let used = self.stored_bytes(owner).await?.saturating_sub(missing);
            return Err(Error::over_quota("stored_bytes", limit, used));
        }
        Ok(Some(reserved))
    }

    /// All that an owner has stored, and what is on its way.
    async fn stored_bytes(&self, owner: &Owner) -> Result<u64> {
        Ok(self.store.usage(owner).await?.stored_bytes + self.contexts.blobs().taken(owner).await?)
    }

    /// Accepts a build. The store knows of its owner's other builds and not of blobs: these are taken off its quota before.
    pub(super) async fn place(&self, mut new: NewBuild) -> Result<(Stored, Option<u64>)> {
        let Some(limit) = new.quota.stored_bytes else { return Ok(self.store.submit_placed(&new).await?) };
        let (owner, blobs) = (new.record.owner.clone(), self.contexts.blobs());
        loop {
            let taken = blobs.taken(&owner).await?;
            new.quota.stored_bytes = Some(limit.saturating_sub(taken));
            match self.store.submit_placed(&new).await {
                Err(StoreError::OverQuota { quota: "stored_bytes", limit: left, used }) => {
                    let need = (used + new.bytes()).saturating_sub(left);
                    if blobs.drop_unused(&owner, need).await? == 0 {
                        return Err(Error::over_quota("stored_bytes", limit, used + taken));
                    }
                }
                placed => return Ok(placed?),
            }
        }
    }

    /// The manifest that an upload names, all of whose blobs are here.
    pub(super) async fn manifest_named(
        &self,
        owner: &Owner,
        named: Option<String>,
        context_given: bool,
        faults: &mut Faults,
    ) -> Result<Option<Manifest>> {
        let Some(text) = named else { return Ok(None) };
        let field = TextPart::Manifest.name();
        if context_given {
            faults.add("source_ambiguous", field, "send either a context or a manifest");
            return Ok(None);
        }
        let id: ManifestId = match text.parse() {
            Ok(id) => id,
            Err(error) => {
                let why: crate::domain::InvalidId = error;
                faults.add("invalid_option", field, why.to_string());
                return Ok(None);
            }
        };
        let manifest = self.contexts.blobs().manifest(owner, id).await?.ok_or(Error::NotFound("manifest"))?;
        if manifest.missing.is_empty() { Ok(Some(manifest)) } else { Err(Error::MissingBlobs(manifest.missing)) }
    }

    /// Gives the context of a build to the heir, before the build itself.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn hand_over_context(&self, build: BuildId, heir: &Owner) -> Result<()> {
        self.contexts.blobs().hand_over(build, heir).await
    }

    /// Removes what is left of an account's uploads, when it has no builds any more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn drop_uploads(&self, owner: &Owner) -> Result<()> {
        self.contexts.blobs().remove_owner(owner).await
    }
}
