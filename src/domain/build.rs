//! The record of a build and the one place where its states change.
//!
//! ```text
//! queued ─▶ building ─▶ pushing ─▶ published
//!              │  └────────────────▶ built        (asked not to push)
//!              └─▶ queued                          (worker lost, or handed back)
//! any live state ─▶ failed | cancelled             terminal states never change
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Base, BuildError, BuildId, BuildSpec, BuildState, BuilderKind, ContextInfo, ContextWarning, Destination, DestinationState,
    Digest, ErrorKind, Landed, Layer, LegacyUpload, NodeId, Owner, Stage, StageName, StageState, Step, Timestamp, WorkerId,
};

/// A build whose worker was lost this many times is not tried again.
pub const MAX_CRASHES: u32 = 3;

/// Everything that is known of a build. Holds no secret. The fence and the lease live beside it in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    pub id: BuildId,
    pub owner: Owner,
    pub state: BuildState,
    /// One line for people.
    pub message: String,
    pub spec: BuildSpec,
    pub context: ContextInfo,
    pub stages: Vec<Stage>,
    pub destinations: Vec<Destination>,
    pub builder: Option<BuilderKind>,
    pub image_id: Option<Digest>,
    pub size_bytes: Option<u64>,
    /// Labels of the image, as the engine tells them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub image_labels: BTreeMap<String, String>,
    /// What is surprising about the context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ContextWarning>,
    /// The newest layers of the image, oldest first; empty ones too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// The steps of the newest attempt that built, once it has ended; before, the log tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    pub node: Option<NodeId>,
    pub worker: Option<WorkerId>,
    /// How often the build was claimed; equals the fence of the newest claim.
    pub attempt: u64,
    /// How often a worker was lost while it had the build.
    pub crashes: u32,
    pub cancel_requested: bool,
    pub error: Option<BuildError>,
    pub legacy: Option<LegacyUpload>,
    /// The build that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<BuildId>,
    /// The order of that build's acceptance, if this one is to be as old as that for its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats_order: Option<u64>,
    /// Whether only the push can be repeated, because what it takes to build is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub push_only: bool,
    /// The node that alone has its image, when nothing but that image can be pushed and no registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<NodeId>,
    /// Whether it was sent by somebody who is limited to some destinations, and so ends no older build that has others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
    /// The younger build for which this one was ended, or which has its tags; `None` also when that is another owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<BuildId>,
    /// The build whose image this one took or waits for, because that one did the very same on the same engine when this one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_to: Option<BuildId>,
    /// When other submissions have joined it; the newest [`super::limits::JOINS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Timestamp>,
    /// Lower-case hexadecimal SHA-256 of all that was sent and asked for: builds of one owner with the same one do the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// What the named images were when the build began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Base>,
    /// Whether the whole log stands in its archive, so that the hot copy may go.
    pub log_archived: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// A change that the state machine does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {from:?} build cannot become {to:?}")]
pub struct IllegalTransition {
    pub from: BuildState,
    pub to: BuildState,
}

/// Where a claimed build goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStart {
    Build,
    /// The image of an earlier attempt is on this very node, or at a registry: only the push is left.
    Push,
}

/// What became of a build whose lease ended without being settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    Requeued,
    Cancelled,
    Poisoned,
}

impl BuildRecord {
    #[must_use]
    pub fn new(
        id: BuildId,
        owner: Owner,
        spec: BuildSpec,
        context: ContextInfo,
        legacy: Option<LegacyUpload>,
        now: Timestamp,
    ) -> Self {
        let stage = |name| Stage { name, state: StageState::Waiting, started_at: None, finished_at: None, worker: None };
        let stages =
            if spec.push { vec![stage(StageName::Build), stage(StageName::Push)] } else { vec![stage(StageName::Build)] };
        let destinations =
            if spec.push { spec.images.clone() } else { Vec::new() }.into_iter().map(Destination::waiting).collect();
        Self {
            id,
            owner,
            state: BuildState::Queued,
            message: "Build is queued".into(),
            spec,
            context,
            stages,
            destinations,
            builder: None,
            image_id: None,
            size_bytes: None,
            image_labels: BTreeMap::new(),
            warnings: Vec::new(),
            layers: Vec::new(),
            steps: Vec::new(),
            node: None,
            worker: None,
            attempt: 0,
            crashes: 0,
            cancel_requested: false,
            error: None,
            legacy,
            retry_of: None,
            repeats_order: None,
            push_only: false,
            bound_to: None,
            limited: false,
            superseded_by: None,
            joined_to: None,
            joins: Vec::new(),
            identity: String::new(),
            bases: Vec::new(),
            log_archived: false,
            created_at: now,
            started_at: None,
            finished_at: None,
        }
    }

    /// Moves to `to` if the state machine allows it: the single `match` that knows all transitions.
    pub(super) fn go(&mut self, to: BuildState) -> Result<(), IllegalTransition> {
        use BuildState::{Building, Built, Cancelled, Failed, Published, Pushing, Queued};
        let legal = match (self.state, to) {
            (Queued, Building | Pushing) | (Building, Pushing | Built) | (Pushing, Published) => true,
            (Building | Pushing, Queued) => true,
            (from, Failed | Cancelled) => !from.is_terminal(),
            _ => false,
        };
        if !legal {
            return Err(IllegalTransition { from: self.state, to });
        }
        self.state = to;
        Ok(())
    }

    fn stage_mut(&mut self, name: StageName) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.name == name)
    }

    pub(super) fn start_stage(&mut self, name: StageName, worker: &WorkerId, now: Timestamp) {
        if let Some(stage) = self.stage_mut(name) {
            *stage = Stage {
                name,
                state: StageState::Running,
                started_at: Some(now),
                finished_at: None,
                worker: Some(worker.clone()),
            };
        }
    }

    pub(super) fn end_running_stages(&mut self, state: StageState, now: Timestamp) {
        for stage in self.stages.iter_mut().filter(|stage| stage.state == StageState::Running) {
            stage.state = state;
            stage.finished_at = Some(now);
        }
    }

    /// A worker has claimed the build. `attempt` is the number of its claim.
    ///
    /// # Errors
    /// When the build is not queued.
    pub fn start_attempt(
        &mut self,
        worker: &WorkerId,
        node: &NodeId,
        attempt: u64,
        now: Timestamp,
    ) -> Result<AttemptStart, IllegalTransition> {
        let somewhere = self.node.as_ref() == Some(node) || self.pushed().next().is_some();
        let start = if self.image_id.is_some() && somewhere && self.spec.push { AttemptStart::Push } else { AttemptStart::Build };
        match start {
            AttemptStart::Push => {
                self.go(BuildState::Pushing)?;
                self.message = "Image successfully built. To be published.".into();
                self.start_stage(StageName::Push, worker, now);
            }
            AttemptStart::Build => {
                self.go(BuildState::Building)?;
                self.message = "Build is starting".into();
                self.forget_image();
                self.start_stage(StageName::Build, worker, now);
            }
        }
        self.attempt = attempt;
        self.worker = Some(worker.clone());
        self.node = Some(node.clone());
        self.started_at.get_or_insert(now);
        Ok(start)
    }

    /// The image exists on the engine. Goes on to the push, or ends as `built` when none was asked for.
    ///
    /// # Errors
    /// When the build is not in its build stage.
    pub fn image_built(
        &mut self,
        image_id: Digest,
        size_bytes: u64,
        worker: &WorkerId,
        now: Timestamp,
    ) -> Result<(), IllegalTransition> {
        if self.spec.push {
            self.go(BuildState::Pushing)?;
            self.message = "Image successfully built. To be published.".into();
        } else {
            self.go(BuildState::Built)?;
            self.message = "Image successfully built.".into();
            self.finished_at = Some(now);
        }
        self.end_running_stages(StageState::Done, now);
        self.image_id = Some(image_id);
        self.size_bytes = Some(size_bytes);
        if self.spec.push {
            self.start_stage(StageName::Push, worker, now);
        }
        Ok(())
    }

    /// Every destination holds the image, or was left to a younger build.
    ///
    /// # Errors
    /// When the build is not in its push stage.
    pub fn published(&mut self, now: Timestamp) -> Result<(), IllegalTransition> {
        self.go(BuildState::Published)?;
        self.message = self.told_of_push();
        self.superseded_by = None;
        self.end_running_stages(StageState::Done, now);
        self.finished_at = Some(now);
        Ok(())
    }

    /// # Errors
    /// When the build has ended already.
    pub fn failed(&mut self, error: BuildError, now: Timestamp) -> Result<(), IllegalTransition> {
        self.go(BuildState::Failed)?;
        self.message = error.message.lines().next().unwrap_or_default().to_owned();
        for destination in self.destinations.iter_mut().filter(|d| d.state == DestinationState::Pushing) {
            destination.failed(error.clone(), now);
        }
        self.error = Some(error);
        self.superseded_by = None;
        self.end_running_stages(StageState::Failed, now);
        self.finished_at = Some(now);
        Ok(())
    }

    /// Ends by somebody's wish. `landed` is what is true of single destinations all the same.
    ///
    /// # Errors
    /// When the build has ended already.
    pub fn cancelled(&mut self, landed: &[Landed], now: Timestamp) -> Result<(), IllegalTransition> {
        self.go(BuildState::Cancelled)?;
        self.message = self.superseded_by.map_or_else(|| "Build was cancelled".into(), |by| format!("Superseded by build {by}"));
        self.cancel_requested = true;
        self.end_running_stages(StageState::Cancelled, now);
        for (index, outcome) in landed {
            let Some(destination) = self.destinations.get_mut(*index) else { continue };
            match outcome {
                Ok(digest) => destination.pushed(digest.clone(), now),
                Err(error) => destination.error = Some(error.clone()),
            }
        }
        for destination in self.destinations.iter_mut().filter(|d| d.state == DestinationState::Pushing) {
            destination.state = DestinationState::Waiting;
            destination.finished_at = Some(now);
        }
        self.finished_at = Some(now);
        Ok(())
    }

    /// Back into the queue, by a worker that stops or by the end of its lease.
    ///
    /// # Errors
    /// When the build is not being worked on.
    pub fn requeued(&mut self, why: &str) -> Result<(), IllegalTransition> {
        // A claim that never got as far as its first write left the build in `queued`.
        if self.state != BuildState::Queued {
            self.go(BuildState::Queued)?;
        }
        self.message = why.to_owned();
        for stage in self.stages.iter_mut().filter(|s| s.state == StageState::Running) {
            *stage = Stage { name: stage.name, state: StageState::Waiting, started_at: None, finished_at: None, worker: None };
        }
        for destination in self.destinations.iter_mut().filter(|d| d.state == DestinationState::Pushing) {
            destination.put_off();
        }
        self.worker = None;
        Ok(())
    }

    /// The lease ended without a word of the worker: count the crash, then requeue, or end the build
    /// when its cancel was asked for or it has lost [`MAX_CRASHES`] workers.
    ///
    /// # Errors
    /// When the build has ended already.
    pub fn lapsed(&mut self, now: Timestamp) -> Result<Lapse, IllegalTransition> {
        if self.cancel_requested {
            self.cancelled(&[], now)?;
            return Ok(Lapse::Cancelled);
        }
        self.crashes += 1;
        if self.crashes < MAX_CRASHES {
            self.requeued("The worker was lost. The build waits for another one.")?;
            return Ok(Lapse::Requeued);
        }
        let stage = self.current_stage();
        self.failed(
            BuildError {
                stage,
                kind: ErrorKind::Infra,
                code: "poisoned".into(),
                message: format!("{MAX_CRASHES} workers were lost while they had this build; it is not tried again"),
                dockerfile_line: None,
            },
            now,
        )?;
        Ok(Lapse::Poisoned)
    }

    /// The stage that is running, or the one that would be next.
    #[must_use]
    pub fn current_stage(&self) -> StageName {
        self.stages.iter().find(|s| !matches!(s.state, StageState::Done)).map_or(StageName::Push, |s| s.name)
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
