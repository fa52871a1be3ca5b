//! How long builds are kept: the rules of owners, the pass that goes by them, and deletes of many at once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::Builds;
use crate::auth::{ADMIN, Principal};
use crate::domain::{
    App, BuildId, BuildState, Cleaned, InUse, Owner, RetentionRule, RetentionRules, Run, Scope, Timestamp, User, limits,
};
use crate::error::{Error, FieldError, Result};
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};
use crate::store::{ImageFilter, ListQuery, Page};

/// Builds that one pass, or one request, takes out at most.
const AT_ONCE: usize = 100;
/// How long it is told what was cleaned away.
const CLEANED_TOLD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most that a rule can keep.
const MOST: u64 = 1_000_000;

/// Which of an owner's ended builds.
#[derive(Debug, Clone)]
pub struct Selection {
    pub owner: Owner,
    /// A terminal one.
    pub state: BuildState,
    /// Since they ended.
    pub older_than: Duration,
    pub project: Option<String>,
    pub image: Option<ImageFilter>,
}

/// What became of a delete of many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ManyDeleted {
    pub deleted: u64,
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub ids: Vec<BuildId>,
    /// So many were left, because apps or containers are made of their images, or a build that repeats them is under way.
    pub in_use: u64,
    /// Whether there may be more of them: ask again.
    pub more: bool,
}

impl Builds {
    /// A page of the rules that the caller may see, newest first; whether there are older ones.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn retention(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Object<RetentionRule>>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Retention, owner, parent: None, before, limit };
        Ok(self.store.objects(&query).await?)
    }

    /// Makes or replaces the caller's own rule for a project, or for all.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Forbidden`] for a token that is limited to destinations, because a rule removes builds of any.
    pub async fn put_retention(&self, caller: &Principal, rule: &RetentionRule) -> Result<()> {
        all_destinations(caller)?;
        let mut faults = Vec::new();
        if !(1..=limits::PROJECT_BYTES).contains(&rule.project.len()) {
            faults.push(FieldError::new("project", format!("must have 1 to {} bytes", limits::PROJECT_BYTES)));
        }
        for (field, many) in [("keep_builds", rule.keep_builds), ("keep_days", rule.keep_days)] {
            if many.is_some_and(|many| !(1..=MOST).contains(&many)) {
                faults.push(FieldError::new(field, format!("must be from 1 to {MOST}, or absent")));
            }
        }
        let (owner, id) = (&caller.owner, RetentionRule::id(&caller.owner, &rule.project));
        let known = self.store.all_objects::<RetentionRule>(&Scope::Owner(owner.clone()), Kind::Retention).await?;
        if known.len() >= limits::RETENTION_RULES && !known.iter().any(|object| object.id == id) {
            faults.push(FieldError::new("project", format!("there are {} rules, and no more are taken", known.len())));
        }
        if !faults.is_empty() {
            return Err(Error::Invalid { code: "invalid_retention", fields: faults });
        }
        Ok(self.store.commit(&[Write::put(Kind::Retention, id, owner, Expect::Anything, rule)]).await?)
    }

    /// Removes the caller's own rule for a project, if there is one.
    ///
    /// # Errors
    /// [`Error::Forbidden`] as for [`Builds::put_retention`].
    pub async fn remove_retention(&self, caller: &Principal, project: &str) -> Result<()> {
        all_destinations(caller)?;
        let id = RetentionRule::id(&caller.owner, project);
        Ok(self.store.commit(&[Write::remove(Kind::Retention, id, Expect::Anything)]).await?)
    }

    /// Every rule that there is.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn retention_rules(&self) -> Result<RetentionRules> {
        let mut rules = RetentionRules { own: self.policy.retention.clone(), of: Default::default() };
        for object in self.store.all_objects::<RetentionRule>(&Scope::All, Kind::Retention).await? {
            rules.of.entry(object.owner).or_default().insert(object.body.project.clone(), object.body);
        }
        Ok(rules)
    }

    /// The builds whose images apps, containers and live builds need.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn in_use(&self) -> Result<InUse> {
        let apps = self.store.all_objects::<App>(&Scope::All, Kind::App).await?;
        let runs = self.store.all_objects::<Run>(&Scope::All, Kind::Run).await?;
        let used = InUse::of(apps.iter().map(|app| &app.body), runs.iter().map(|run| &run.body));
        let repeats = self.store.repeats().await?;
        Ok(repeats.into_iter().fold(used, |used, one| used.and_repeated(one.first, one.image.as_ref())))
    }

    /// Deletes ended builds that are beyond their rule, as DELETE does, a bounded number; never one whose image is in use. Answers which.
    ///
    /// # Errors
    /// When the store or the disk fails; the next pass goes on.
    pub async fn retention_once(&self) -> Result<Vec<BuildId>> {
        let rules = self.retention_rules().await?;
        let bounded = rules.of.iter().filter(|(_, rules)| rules.values().any(RetentionRule::bounds_builds));
        let mut owners: BTreeSet<Owner> = bounded.map(|(owner, _)| owner.clone()).collect();
        if rules.own.bounds_builds() {
            let users = self.store.all_objects::<User>(&Scope::All, Kind::User).await?;
            owners.extend(users.into_iter().map(|user| user.body.name));
        }
        if owners.is_empty() {
            return Ok(Vec::new());
        }
        let (used, mut gone) = (self.in_use().await?, Vec::new());
        for owner in owners {
            for id in self.beyond(&owner, &rules, &used, AT_ONCE - gone.len()).await? {
                if self.take_out(&Scope::Owner(owner.clone()), id).await?.is_some() {
                    gone.push(id);
                }
            }
        }
        Ok(gone)
    }

    /// Notes what was cleaned away from a disk of a node, for all to see.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn tell_cleaned(&self, node: &str, cleaned: &Cleaned) -> Result<()> {
        let owner: Owner = ADMIN.parse().map_err(Error::internal)?;
        let put = Write::put(Kind::Cleaned, format!("{node}/{}", cleaned.disk), &owner, Expect::Anything, cleaned);
        Ok(self.store.commit(&[put.keep(CLEANED_TOLD)]).await?)
    }

    /// At most so many builds of an owner that are beyond their rule.
    async fn beyond(&self, owner: &Owner, rules: &RetentionRules, used: &InUse, most: usize) -> Result<Vec<BuildId>> {
        let (now, mut beyond) = (Timestamp::now(), Vec::new());
        let mut newer: HashMap<String, (u64, bool)> = HashMap::new();
        let mut query = ListQuery::of(Scope::Owner(owner.clone()));
        loop {
            let Page { items, more } = self.store.list(&query).await?;
            for build in items.iter().map(|stored| &stored.record) {
                if beyond.len() == most {
                    return Ok(beyond);
                }
                let (newer, good) = newer.entry(build.spec.project.clone()).or_default();
                // However many have failed since: the last good one is not among those that are counted out.
                let last_good =
                    matches!(build.state, BuildState::Published | BuildState::Built) && !std::mem::replace(good, true);
                let counted = if last_good { 0 } else { *newer };
                if rules.for_build(build).is_over(build, counted, now) && !used.has(build) {
                    beyond.push(build.id);
                }
                *newer += 1;
            }
            query.before = items.last().map(|stored| stored.record.id);
            if !more || query.before.is_none() {
                return Ok(beyond);
            }
        }
    }

    /// Deletes ended builds of an owner, a bounded number, each as DELETE does, but without waiting for its image; those that the
    /// caller's token is not for are left, and those whose images are in use.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a state that is not terminal; [`Error::NotFound`] for an owner that there is not, or that the
    /// caller may not see.
    pub async fn delete_many(&self, caller: &Principal, which: Selection) -> Result<ManyDeleted> {
        let Selection { owner, state, older_than, project, image } = which;
        if !state.is_terminal() {
            let told = "must be one in which builds have ended: published, built, failed, cancelled";
            return Err(Error::invalid("invalid_query", "state", told));
        }
        let is_known =
            async || Ok::<_, Error>(self.store.object::<User>(&Scope::All, Kind::User, owner.as_str()).await?.is_some());
        if !caller.scope().covers(&owner) || owner != caller.owner && !is_known().await? {
            return Err(Error::NotFound("account"));
        }
        let now = Timestamp::now();
        let scope = Scope::Owner(owner);
        let mut query = ListQuery { state: Some(state), image, ..ListQuery::of(scope.clone()) };
        let used = self.in_use().await?;
        let (mut ids, mut in_use) = (Vec::new(), 0);
        loop {
            let Page { items, more } = self.store.list(&query).await?;
            for build in items.iter().map(|stored| &stored.record) {
                let is_old = build.finished_at.is_some_and(|ended| now.since(ended) >= older_than);
                let is_of = project.as_ref().is_none_or(|project| *project == build.spec.project);
                if !is_old || !is_of || caller.foreign_image(&build.spec.images).is_some() {
                    continue;
                }
                if used.has(build) {
                    in_use += 1;
                    continue;
                }
                if ids.len() == AT_ONCE {
                    return Ok(ManyDeleted { deleted: AT_ONCE as u64, ids, in_use, more: true });
                }
                if self.take_out(&scope, build.id).await?.is_some() {
                    ids.push(build.id);
                }
            }
            query.before = items.last().map(|stored| stored.record.id);
            if !more || query.before.is_none() {
                return Ok(ManyDeleted { deleted: ids.len() as u64, ids, in_use, more: false });
            }
        }
    }
}

fn all_destinations(caller: &Principal) -> Result<()> {
    if caller.images.is_empty() {
        return Ok(());
    }
    let detail = "this token is limited to some destinations, and a rule is for builds of any".into();
    Err(Error::Forbidden { code: "image_not_allowed", detail })
}
