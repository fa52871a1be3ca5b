//! The same inputs again, in a new build: where the image still stands, only what is missing is pushed.

use super::options::Faults;
use super::same::identity;
use super::submit::told_together;
use super::{Builds, Draft, TextPart};
use crate::auth::Principal;
use crate::domain::{BuildId, BuildRecord, ContextKind, Credentials, Entrusted, ImageRef, Owner, Quota, Scope, Timestamp, User};
use crate::error::{Error, Result};
use crate::store::objects::Kind;
use crate::store::{NewBuild, Stored};

impl Builds {
    /// Makes a build with this id that repeats `of`, for the same owner; `form` has its credentials and
    /// secrets. The image is looked for by
    /// whichever worker takes it. Answers its position, too.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_finished` while the first one goes on, `cannot_build_again` when its image is gone and what it takes
    /// to build was erased; [`Error::Invalid`] `credentials_needed` and those of [`Builds::submit`].
    pub async fn retry(&self, caller: &Principal, id: BuildId, of: BuildId, form: Draft) -> Result<(Stored, Option<u64>)> {
        let stored = self.to_change(caller, of).await?;
        let (age, first) = (stored.age(), stored.record);
        if !first.state.is_terminal() {
            let detail = format!("build {of} is {}: it can be repeated when it has ended", first.state.as_str());
            return Err(Error::Conflict { code: "not_finished", detail });
        }
        self.must_have_room()?;
        let owner = first.owner.clone();
        let quota = self.quota_of(caller, &owner).await?;
        let scope = Scope::Owner(owner.clone());
        let dockerfile = self.store.dockerfile(&scope, of).await?.ok_or(Error::NotFound("build"))?;
        let (spec, context) = (first.spec.clone(), first.context.clone());
        let mut record = BuildRecord::new(id, owner.clone(), spec, context, first.legacy.clone(), Timestamp::now());
        record.repeats(&first);
        let given = self.anew(&mut record, age, form).await?;
        let has_secrets = !record.spec.needs_secrets() || given.has_secrets();
        Self::bound_time(&quota, &mut record.spec, false)?;
        record.limited = !caller.images.is_empty();
        record.identity = identity(&record, &dockerfile);
        let sealed = (!given.is_empty()).then(|| self.vault.seal_for_build(&owner, id, &given));
        let has_context = first.context.kind == ContextKind::File || self.contexts.share(of, id).await?;
        record.push_only = !has_secrets || !has_context;
        record.bound_to = record.node.clone().filter(|_| record.push_only && record.pushed().next().is_none());
        if record.push_only && record.image_id.is_none() {
            self.contexts.remove(id).await?;
            let what = if has_context {
                "its secrets were erased at its end, and were not sent again"
            } else {
                "its context is not kept any more"
            };
            let detail = format!("build {of} cannot be built again: {what}, and there is no image of it to push; send it anew");
            return Err(Error::Conflict { code: "cannot_build_again", detail });
        }
        self.accept(NewBuild { record, dockerfile, sealed, quota }).await
    }

    /// An admin repeats a build for its owner, within the owner's quota.
    async fn quota_of(&self, caller: &Principal, owner: &Owner) -> Result<Quota> {
        if caller.owner == *owner {
            return Ok(caller.quota);
        }
        let user = self.store.object::<User>(&Scope::All, Kind::User, owner.as_str()).await?;
        Ok(user.map(|user| user.body.quota).unwrap_or_default())
    }

    /// What a retry is entrusted with: what is sent, and kept credentials as they are now. The record is told what they are, and that it
    /// is as old as the first build, of this `age`, unless it is forced to be young.
    async fn anew(&self, record: &mut BuildRecord, age: u64, form: Draft) -> Result<Entrusted> {
        let (texts, secrets, mut faults) = form.into_anew();
        texts.repeated(&mut faults);
        record.repeats_order = (!texts.flag(TextPart::Force, false, &mut faults)).then_some(age);
        let missing: Vec<ImageRef> = record.missing().map(|d| d.image.clone()).collect();
        let own = texts.credentials(if missing.is_empty() { &record.spec.images } else { &missing }, &mut faults);
        let named: Vec<String> = texts.all(TextPart::Registry).map(str::to_owned).collect();
        if !named.is_empty() {
            record.spec.registries = named;
        }
        let credentials = self.credentials(&record.owner, &record.spec.registries, own.clone(), &mut faults).await?;
        erased(record, &credentials, &mut faults);
        record.spec.username = own.as_ref().map(|own| own.username().to_owned());
        record.spec.registry_host = own.as_ref().map(|own| own.host().to_owned());
        let given = secrets.again(credentials, &record.spec, &mut faults);
        if faults.0.is_empty() { Ok(given) } else { Err(told_together(faults.0)) }
    }
}

/// What came with the first build for a host must be sent again, unless kept credentials are for it.
fn erased(record: &BuildRecord, credentials: &[Credentials], faults: &mut Faults) {
    let Some(host) = record.spec.registry_host.as_deref() else { return };
    if !credentials.iter().any(|given| given.host() == host) {
        let told = format!(
            "the credentials for {host} that came with the build were erased at its end: send username and password, or registry with \
             the name of kept ones"
        );
        faults.add("credentials_needed", "username", told);
    }
}
