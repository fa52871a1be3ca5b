//! How long builds took lately, to tell those who wait for the next ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::objects::{Expect, Kind, Write};
use super::{Result, Store, StoreError};
use crate::domain::{Owner, Scope};

/// So many builds are remembered of a project, of an owner, and of all together.
const REMEMBERED: usize = 20;
/// What nobody built for so long is forgotten.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// The id of the durations of all builds.
const ALL: &str = "*";

/// The newest durations, the newest last, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations(Vec<u64>);

impl Durations {
    fn add(&mut self, took: Duration) {
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// The one in the middle, which single long ones do not move.
    #[must_use]
    pub fn usual(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().map(Duration::from_millis)
    }
}

/// Whose durations.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    Everybody,
    Owner(&'a Owner),
    Project(&'a Owner, &'a str),
}

impl Of<'_> {
    fn id(self) -> String {
        match self {
            Self::Everybody => ALL.to_owned(),
            Self::Owner(owner) => owner.to_string(),
            Self::Project(owner, project) => format!("{owner}/{}", hex::encode(Sha256::digest(project.as_bytes()))),
        }
    }
}

impl Store {
    pub async fn durations(&self, of: Of<'_>) -> Result<Durations> {
        let object = self.object(&Scope::All, Kind::Durations, &of.id()).await?;
        Ok(object.map(|object| object.body).unwrap_or_default())
    }

    /// Remembers how long a build took. Of two at the same moment one may be left out: it is only an estimate.
    pub async fn add_duration(&self, owner: &Owner, project: &str, took: Duration) -> Result<()> {
        let mut writes = Vec::new();
        for of in [Of::Everybody, Of::Owner(owner), Of::Project(owner, project)] {
            let known = self.object::<Durations>(&Scope::All, Kind::Durations, &of.id()).await?;
            let expect = known.as_ref().map_or(Expect::Absent, |known| Expect::Revision(known.revision));
            let mut durations = known.map(|known| known.body).unwrap_or_default();
            durations.add(took);
            writes.push(Write::put(Kind::Durations, of.id(), owner, expect, &durations).keep(KEPT));
        }
        match self.commit(&writes).await {
            Err(StoreError::Conflict) => Ok(()),
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_count_and_the_one_in_the_middle_is_told() {
        let mut durations = Durations::default();
        assert_eq!(durations.usual(), None);
        for seconds in (1..=30).chain([1000]) {
            durations.add(Duration::from_secs(seconds));
        }
        assert_eq!(durations.0.len(), REMEMBERED);
        assert_eq!(durations.usual(), Some(Duration::from_secs(21)), "of 12 … 30 and 1000");
    }
}
