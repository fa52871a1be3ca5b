//! How long what builds have left is kept.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{App, BuildId, BuildRecord, BuildState, Digest, ImageSource, Owner, Run, Timestamp};

/// What is kept of the ended builds of one project, or of all that have no rule of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRule {
    /// A project's name, or `*`.
    pub project: String,
    /// So many of the newest builds of each project, and the newest good one; all when absent.
    pub keep_builds: Option<u64>,
    /// Those that ended in so many last days; all when absent.
    pub keep_days: Option<u64>,
    /// Whether the engine keeps the image of a build that was published.
    pub keep_local_image: bool,
}

impl RetentionRule {
    /// The project that stands for all that have no rule of their own.
    pub const ANY: &str = "*";

    /// Its id in the store. An account's name holds no `/`, so that no two are taken for each other.
    #[must_use]
    pub fn id(owner: &Owner, project: &str) -> String {
        format!("{owner}/{project}")
    }

    /// Whether any build ever goes by it.
    #[must_use]
    pub const fn bounds_builds(&self) -> bool {
        self.keep_builds.is_some() || self.keep_days.is_some()
    }

    /// Whether an ended build is to go: `newer` builds of its project were made after it, as far as they count.
    #[must_use]
    pub fn is_over(&self, build: &BuildRecord, newer: u64, now: Timestamp) -> bool {
        let Some(ended) = build.finished_at.filter(|_| build.state.is_terminal()) else { return false };
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 3600));
        self.keep_builds.is_some_and(|most| newer >= most) || self.keep_days.is_some_and(|most| now.since(ended) >= days(most))
    }

    /// Whether the engine's image of a build is to go.
    #[must_use]
    pub fn drops_image(&self, build: &BuildRecord) -> bool {
        !self.keep_local_image && build.state == BuildState::Published
    }
}

/// Every rule that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRules {
    /// The service's own, for builds that no rule of their owner's is for.
    pub own: RetentionRule,
    /// Those of each owner, by project.
    pub of: BTreeMap<Owner, BTreeMap<String, RetentionRule>>,
}

impl RetentionRules {
    /// The rule for a build: of its project, else of its owner, else the service's own.
    #[must_use]
    pub fn for_build(&self, build: &BuildRecord) -> &RetentionRule {
        let owners = self.of.get(&build.owner);
        let rule = owners.and_then(|rules| rules.get(&build.spec.project).or_else(|| rules.get(RetentionRule::ANY)));
        rule.unwrap_or(&self.own)
    }

    /// Whether every image stays.
    #[must_use]
    pub fn keep_all_images(&self) -> bool {
        self.own.keep_local_image && self.of.values().flat_map(BTreeMap::values).all(|rule| rule.keep_local_image)
    }
}

/// What was cleaned away because a disk was too full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    pub at: Timestamp,
    /// `engine` or `data`.
    pub disk: String,
    /// Of the disk, before.
    pub used_percent: u8,
    /// And after.
    pub left_percent: u8,
    /// Bytes of caches of the engine's builder.
    pub cache_bytes: u64,
    /// Images of ended builds.
    pub images: u64,
    /// Uploads of ended builds.
    pub contexts: u64,
}

/// The builds whose images are needed: apps and containers are made of them, or a live build repeats them.
#[derive(Debug, Default)]
pub struct InUse {
    builds: HashSet<BuildId>,
    images: HashSet<String>,
}

impl InUse {
    /// Of all apps, and of all runs whose container may still be there.
    #[must_use]
    pub fn of<'a>(apps: impl IntoIterator<Item = &'a App>, runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut used = Self::default();
        let mut note = |source: &ImageSource| match source {
            ImageSource::Build(id) => drop(used.builds.insert(*id)),
            ImageSource::Reference(_) => {}
        };
        let runs: Vec<&Run> =
            runs.into_iter().filter(|run| run.state.is_live() || (run.container.is_some() && !run.removed)).collect();
        apps.into_iter().map(|app| &app.spec).chain(runs.iter().map(|run| &run.spec)).for_each(|spec| note(&spec.image));
        used.images = runs.into_iter().filter_map(|run| run.image_id.as_ref()).map(ToString::to_string).collect();
        used
    }

    /// With a build that a live one repeats, and the image that this is to push.
    #[must_use]
    pub fn and_repeated(mut self, first: BuildId, image: Option<&Digest>) -> Self {
        self.builds.insert(first);
        self.images.extend(image.map(ToString::to_string));
        self
    }

    #[must_use]
    pub fn has(&self, build: &BuildRecord) -> bool {
        let image = build.image_id.as_ref();
        self.builds.contains(&build.id) || image.is_some_and(|image| self.images.contains(image.as_str()))
    }
}
