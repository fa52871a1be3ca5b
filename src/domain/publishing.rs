//! What becomes of a build by what becomes of its destinations, and of a build that is made again.

use super::{
    BuildError, BuildId, BuildRecord, BuildState, Destination, DestinationState, Digest, IllegalTransition, MAX_CRASHES, Stage,
    StageName, StageState, Timestamp, WorkerId, limits,
};

/// A destination (by its index) of a cancelled push that has the image already, or may yet get it.
pub type Landed = (usize, Result<Digest, BuildError>);

/// What the push stage came to, when nothing of it is under way any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEnd {
    /// At least one destination has the image, and none failed.
    Published,
    /// Younger builds have all of its tags.
    Superseded(Option<BuildId>),
    Failed(BuildError),
}

impl BuildRecord {
    /// Whether it is not tried again when its worker is lost once more, and so is done alone.
    #[must_use]
    pub const fn is_last_try(&self) -> bool {
        self.crashes + 1 >= MAX_CRASHES
    }

    /// What the destinations say together. An error tells which of several failed, one a line; its code is that of the first that
    /// somebody has to mend, because a build with such a one fails again however often it is tried, else of the first.
    #[must_use]
    pub fn push_end(&self) -> PushEnd {
        let failed = || self.destinations.iter().filter_map(|d| Some((&d.image, d.error.as_ref()?)));
        let alone = self.destinations.len() == 1;
        if let Some((_, first)) = failed().min_by_key(|(_, error)| !error.kind.needs_a_person()) {
            let told: Vec<String> = failed().map(|(image, error)| format!("{image}: {}", error.message)).collect();
            let message = if alone { first.message.clone() } else { told.join("\n") };
            return PushEnd::Failed(BuildError { message, ..first.clone() });
        }
        let superseded = self.destinations.iter().filter(|d| d.state == DestinationState::Superseded);
        if !self.destinations.is_empty() && superseded.clone().count() == self.destinations.len() {
            return PushEnd::Superseded(superseded.filter_map(|d| d.superseded_by).max());
        }
        PushEnd::Published
    }

    /// Whether younger builds have ended this one: by taking its place, or by having all of its tags.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        let overtaken = || self.superseded_by.is_some() || matches!(self.push_end(), PushEnd::Superseded(_));
        self.state == BuildState::Cancelled && overtaken()
    }

    /// Another submission is answered with this build.
    pub fn join(&mut self, now: Timestamp) {
        self.joins.push(now);
        let many = self.joins.len().saturating_sub(limits::JOINS);
        self.joins.drain(..many);
    }

    /// One line for people about a push that has succeeded.
    pub(super) fn told_of_push(&self) -> String {
        let state = |state| self.destinations.iter().filter(move |d| d.state == state);
        let mut hosts: Vec<&str> = state(DestinationState::Pushed).map(|d| d.image.host()).collect();
        hosts.dedup();
        let mut told = format!("Docker Image is successfully pushed to {}", hosts.join(", "));
        for left in state(DestinationState::Superseded) {
            told.push_str(&format!("; {} was superseded by {}", left.image, younger(left.superseded_by)));
        }
        told
    }

    /// Ends because younger builds have all of its tags.
    ///
    /// # Errors
    /// When the build has ended already.
    pub fn superseded(&mut self, by: Option<BuildId>, now: Timestamp) -> Result<(), IllegalTransition> {
        self.go(BuildState::Cancelled)?;
        self.message = format!("Superseded by {}", younger(by));
        self.superseded_by = by;
        self.end_running_stages(StageState::Cancelled, now);
        self.finished_at = Some(now);
        Ok(())
    }

    /// The image is made anew: nothing that was told of an earlier one is true of it.
    pub(super) fn forget_image(&mut self) {
        self.image_id = None;
        self.size_bytes = None;
        self.image_labels.clear();
        self.layers.clear();
        self.steps.clear();
        self.joined_to = None;
        self.forget_pushes();
    }

    /// Whether this very build has pushed its image somewhere: it can have no other image then.
    #[must_use]
    pub fn has_pushed(&self) -> bool {
        self.pushed().any(|(destination, _)| destination.carried_from.is_none())
    }

    /// The image of an earlier attempt is gone: the attempt starts over with the build.
    ///
    /// # Errors
    /// When the build is not being pushed, or has pushed that image somewhere: a build has but one.
    pub fn restart_build(&mut self, worker: &WorkerId, now: Timestamp) -> Result<(), IllegalTransition> {
        if self.has_pushed() {
            return Err(IllegalTransition { from: self.state, to: BuildState::Building });
        }
        self.go(BuildState::Queued)?;
        self.go(BuildState::Building)?;
        self.message = "Build is starting".into();
        for stage in &mut self.stages {
            *stage = Stage { name: stage.name, state: StageState::Waiting, started_at: None, finished_at: None, worker: None };
        }
        self.forget_image();
        self.start_stage(StageName::Build, worker, now);
        Ok(())
    }

    /// Nothing that was pushed by a build before this one counts, because the image is made anew.
    pub(super) fn forget_pushes(&mut self) {
        for destination in self.destinations.iter_mut().filter(|d| d.carried_from.is_some() || d.error.is_some()) {
            destination.put_off();
        }
    }

    /// Makes this new record one that repeats `first`, with other credentials perhaps: where its image may still stand, only what
    /// is missing is pushed.
    pub fn repeats(&mut self, first: &Self) {
        self.retry_of = Some(first.id);
        let kept = first.image_id.is_some() && !matches!(first.state, BuildState::Built | BuildState::Cancelled);
        if !self.spec.push || !kept {
            return;
        }
        self.node.clone_from(&first.node);
        self.image_id.clone_from(&first.image_id);
        self.size_bytes = first.size_bytes;
        self.builder = first.builder;
        self.bases.clone_from(&first.bases);
        self.layers.clone_from(&first.layers);
        self.image_labels.clone_from(&first.image_labels);
        for (own, earlier) in self.destinations.iter_mut().zip(&first.destinations) {
            if let (DestinationState::Pushed, Some(digest)) = (earlier.state, &earlier.digest) {
                own.state = DestinationState::Pushed;
                own.digest = Some(digest.clone());
                own.carried_from = Some(first.id);
            }
        }
    }

    /// Its image was made by an earlier build: the stage is done, and took no time of this one.
    pub fn built_before(&mut self) {
        for stage in self.stages.iter_mut().filter(|stage| stage.name == StageName::Build) {
            stage.state = StageState::Done;
        }
    }

    /// The destinations that have not got the image.
    pub fn missing(&self) -> impl Iterator<Item = &Destination> {
        self.destinations.iter().filter(|d| d.state != DestinationState::Pushed)
    }

    /// Where all of a published build's image is to be found.
    pub fn pushed(&self) -> impl Iterator<Item = (&Destination, &Digest)> {
        let pushed = self.destinations.iter().filter(|d| d.state == DestinationState::Pushed);
        pushed.filter_map(|d| Some((d, d.digest.as_ref()?)))
    }
}

fn younger(build: Option<BuildId>) -> String {
    build.map_or_else(|| "a younger build of another account".to_owned(), |build| format!("build {build}"))
}

#[cfg(test)]
#[path = "publishing_tests.rs"]
mod tests;
