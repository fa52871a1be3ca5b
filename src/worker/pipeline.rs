//! A build's whole way, from its claim to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::bases::Bases;
use super::lease;
use super::log::Log;
use super::pen::Pen;
use super::readiness::Readiness;
use super::redact::Redactor;
use super::settle::settle;
use super::tag::Turns;
use super::{Parts, blame, caches, ending, exact, fetch, joined, publish, told};
use crate::context::archive::ArchiveLimits;
use crate::context::dockerfile;
use crate::context::stream::{self, Assemble, Source};
use crate::domain::{
    AttemptStart, BUILDING_AGAIN, Base, BuildError, BuildId, BuildRecord, BuildSecret, BuilderKind, ContextKind, Credentials,
    Digest, Entrusted, ErrorKind, Owner, Scope, StageName, Timestamp, WorkerId, local_tag,
};
use crate::engine::{BuildRequest, BuiltImage, EngineError, RegistryAuth as _, VANISHED};
use crate::registry;
use crate::store::{Claim, StoreError};
use crate::vault::Vault;

/// An attempt that found its engine away goes back to the queue, this often at most.
pub(super) const MAX_ATTEMPTS: u64 = 10;
/// The pause before a build that found its engine away goes back to the queue.
const AWAY: Duration = Duration::from_millis(500);
/// How often an attempt builds again because its image was taken away by the removal of another build's, which is the same.
const BUILT_AGAIN: u32 = 5;
/// What the engine says of an image that it does not have.
const IMAGE_MISSING: &str = "image_missing";

/// One claim and what its work needs.
pub(super) struct Job {
    pub parts: Arc<Parts>,
    pub worker: WorkerId,
    pub record: BuildRecord,
    pub pen: Pen,
    /// How old the build is ([`crate::store::Stored::age`]).
    pub age: u64,
    pub turns: Turns,
    /// Those that came with the build, one registry host each.
    pub credentials: Vec<Credentials>,
    pub secrets: Vec<BuildSecret>,
    /// Private keys.
    pub ssh: Vec<BuildSecret>,
    pub log: Log,
}

/// How the work on a claim succeeded. It is written only after the log's last line, for an ended build takes no more lines.
#[derive(Debug)]
pub(super) enum Success {
    Built(BuiltImage),
    Published,
    /// Younger builds have all of its tags.
    Superseded(Option<BuildId>),
}

/// How the work on a claim failed.
#[derive(Debug)]
pub(super) enum Failure {
    Build(BuildError),
    /// The engine or the store went away; the build is not at fault.
    Away(String),
    /// The store refused a write: another has the build.
    Lost,
}

/// Does a claimed build and settles it, whatever happens. Whoever finds the engine away says so in `readiness`.
pub(super) async fn run(parts: Arc<Parts>, worker: WorkerId, claim: Claim, hand_back: CancellationToken, readiness: &Readiness) {
    let Claim { stored, fence, start, sealed } = claim;
    let (age, record, turns) = (stored.age(), stored.record, Turns::default());
    let id = record.id;
    let (vault, owner) = (Arc::clone(&parts.vault), record.owner.clone());
    let opening = tokio::task::spawn_blocking(move || opened(&vault, &owner, id, sealed));
    let watch = lease::watch(&parts.store, id, fence, parts.settings.lease, &hand_back);
    tokio::pin!(watch);
    // Megabytes of secrets take their time, and the lease goes on.
    let (stopped, (known, redactor)) = tokio::select! {
        biased;
        stop = &mut watch => (Some(stop), Default::default()),
        opened = opening => (None, opened.expect("it does not panic, and nobody ends it")),
    };
    let pen = Pen::new(parts.store.clone(), id, fence, redactor.clone());
    let log = Log::open(parts.store.clone(), id, fence, redactor, parts.settings.max_log);
    let is_open = known.is_some();
    let Entrusted { credentials, secrets, ssh } = known.unwrap_or_default();
    let mut job = Job { parts: Arc::clone(&parts), worker, record, pen, age, turns, credentials, secrets, ssh, log };
    let timeout = job.record.spec.timeout();

    let ended = match stopped {
        Some(stop) => Err(stop),
        None => tokio::select! {
            biased;
            stop = &mut watch => Err(stop),
            ended = tokio::time::timeout(timeout, job.work(is_open, start)) => Ok(ended.unwrap_or_else(|_| Err(Failure::Build(timed_out(timeout))))),
        },
    };
    if matches!(ended, Ok(Err(Failure::Away(_)))) {
        readiness.doubt(Instant::now());
        tokio::time::sleep(AWAY.min(parts.settings.lease / 4)).await;
    }
    settle(job, ended).await;
}

/// What the build was given, if the present key opens it, and what finds it in a log.
fn opened(vault: &Vault, owner: &Owner, id: BuildId, sealed: Option<Vec<u8>>) -> (Option<Entrusted>, Redactor) {
    let known = sealed.map_or(Ok(Entrusted::default()), |sealed| vault.open_for_build(owner, id, &sealed)).ok();
    let redactor = known.as_ref().map(Redactor::of).unwrap_or_default();
    (known, redactor)
}

impl Job {
    async fn work(&mut self, is_open: bool, start: AttemptStart) -> Result<Success, Failure> {
        let unable = |why: &str| Failure::Build(internal(StageName::Build, why));
        if !is_open {
            return Err(unable("the credentials of this build cannot be opened with the present key"));
        }
        let entered = self.parts.ledger.enter(self.record.id);
        entered.map_err(|e| unable(&format!("the data folder cannot be written: {e}")))?;
        told::warnings(self).await;
        self.supersede_older().await?;
        self.make(start).await
    }

    /// Build and push, or as much of it as is left and was asked for.
    async fn make(&mut self, start: AttemptStart) -> Result<Success, Failure> {
        let mut earlier = self.earlier_image(start).await?;
        let mut again = 0..BUILT_AGAIN;
        loop {
            let image = match earlier.take() {
                Some(image) => image,
                None => {
                    let built = match self.build().await {
                        Err(Failure::Build(error)) if error.code == VANISHED && again.next().is_some() => {
                            self.log.say(format!("{}{BUILDING_AGAIN}", error.message)).await;
                            continue;
                        }
                        built => built?,
                    };
                    if !self.record.spec.push {
                        return Ok(Success::Built(built));
                    }
                    let (worker, image) = (self.worker.clone(), built.id.clone());
                    self.write(move |record, now| built_by(record, &built, &worker, now)).await?;
                    image
                }
            };
            match publish::publish(self, &image).await {
                Err(Failure::Build(_)) if self.image_has_gone().await? && again.next().is_some() => {
                    earlier = self.fetched_or_anew("The image was removed from the engine before it was pushed").await?;
                }
                published => return published,
            }
        }
    }

    /// Whether a push failed because the image has gone from the engine.
    async fn image_has_gone(&self) -> Result<bool, Failure> {
        let mut errors = self.record.destinations.iter().filter_map(|destination| destination.error.as_ref());
        Ok(errors.any(|error| error.code == IMAGE_MISSING) && !self.image_is_here().await?)
    }

    /// Whether the image stands under this build's own name on this very engine.
    async fn image_is_here(&self) -> Result<bool, Failure> {
        let there = self.parts.engine.image_id(&local_tag(self.record.id)).await.map_err(|e| failure(StageName::Push, e))?;
        Ok(there.is_some() && there == self.record.image_id)
    }

    /// As it was when the build was accepted; once more, because the process may have died after that.
    async fn supersede_older(&self) -> Result<(), Failure> {
        if !self.record.spec.supersede {
            return Ok(());
        }
        patiently(|| self.parts.store.supersede_older(&self.record, self.age)).await.map_err(|e| Failure::Away(e.to_string()))
    }

    pub(super) async fn start_over(&mut self, why: &str) -> Result<(), Failure> {
        self.log.say(format!("{why}{BUILDING_AGAIN}")).await;
        let worker = self.worker.clone();
        self.write(move |record, now| record.restart_build(&worker, now)).await
    }

    /// The image that an earlier attempt made: here, or else where it was pushed.
    async fn earlier_image(&mut self, start: AttemptStart) -> Result<Option<Digest>, Failure> {
        if start == AttemptStart::Build {
            return Ok(None);
        }
        if self.image_is_here().await? {
            self.log.say("The image of an earlier attempt is still here: going on with the push").await;
            return Ok(self.record.image_id.clone());
        }
        if let Some(image) = super::retry::image_of_first(self).await? {
            return Ok(Some(image));
        }
        self.fetched_or_anew("The image of an earlier attempt is gone from the engine").await
    }

    /// The image from a registry that has it; if none has, the build starts over.
    async fn fetched_or_anew(&mut self, gone: &str) -> Result<Option<Digest>, Failure> {
        let fetched = fetch::from_registry(self).await?;
        if fetched.is_none() {
            super::retry::may_build(&self.record)?;
            self.start_over(gone).await?;
        }
        Ok(fetched)
    }

    async fn build(&mut self) -> Result<BuiltImage, Failure> {
        let fail = |e| failure(StageName::Build, e);
        super::retry::may_build(&self.record)?;
        let engine = Arc::clone(&self.parts.engine);
        let builder = engine.choose_builder(self.record.spec.has_limits()).await.map_err(fail)?;
        let dockerfile = self.dockerfile().await?;
        let bases = self.bases(&dockerfile).await;
        let noted = bases.clone().unwrap_or_default();
        self.write(move |record, _| {
            record.builder = Some(builder);
            record.bases.clone_from(&noted);
            Ok(())
        })
        .await?;
        if let Some(bases) = bases
            && let Some(image) = joined::image_of_same(self, &bases).await?
        {
            return Ok(image);
        }
        if builder == BuilderKind::Classic && self.record.spec.needs_secrets() {
            return Err(Failure::Build(no_buildkit()));
        }
        exact::check(self, builder, &dockerfile).await.map_err(fail)?;
        let context = self.context(builder, dockerfile.clone()).await?;
        let credentials = self.credentials_for(builder).await;
        let buildkit = caches::buildkit_only(self, builder).await?;
        let spec = &self.record.spec;
        let request = BuildRequest {
            id: self.record.id,
            dockerfile: spec.dockerfile.clone(),
            stages: dockerfile::check(&dockerfile).map(|outline| outline.stage_names()).unwrap_or_default(),
            build_args: spec.build_args.clone(),
            labels: spec.labels.clone(),
            target: spec.target.clone(),
            platform: spec.platform.clone(),
            no_cache: spec.no_cache || spec.cold,
            pull: spec.pull,
            network: spec.network,
            memory_bytes: spec.memory_bytes,
            milli_cpus: spec.milli_cpus,
            credentials,
            registries: Arc::clone(&self.parts.registry) as _,
            builder,
            buildkit,
        };
        let _bases = Bases::of(&engine, &request, &dockerfile).await.map_err(fail)?;
        let mut error = match engine.build(request, context, self.log.lines()).await {
            Ok(built) => return Ok(built),
            Err(error) => error,
        };
        if ending::is_ending(&*engine, &error).await {
            return Err(Failure::Away("The engine ended during the build".into()));
        }
        let text = String::from_utf8_lossy(&dockerfile);
        error.dockerfile_line = error.dockerfile_line.or_else(|| blame::line_of(&text, error.code, &error.message));
        Err(fail(error))
    }

    /// What the images that it names are now, so that the same build can be known again; none when it cannot be.
    async fn bases(&self, dockerfile: &[u8]) -> Option<Vec<Base>> {
        let spec = &self.record.spec;
        let names = dockerfile::check(dockerfile).ok().and_then(|outline| outline.all_images(&spec.build_args));
        let names = names.filter(|_| !self.record.identity.is_empty())?;
        Some(registry::bases(&*self.parts.engine, &self.parts.registry, &names, spec.pull, &self.credentials).await)
    }

    /// What the builder may pull base images with. BuildKit asks for each when it needs it; the classic builder is handed
    /// all of them, and so only those that their registries ask for.
    async fn credentials_for(&self, builder: BuilderKind) -> Vec<Credentials> {
        if builder == BuilderKind::Buildkit {
            return self.credentials.clone();
        }
        let mut asked_for = Vec::new();
        for one in &self.credentials {
            match self.parts.registry.asks_for(one).await {
                Ok(true) => asked_for.push(one.clone()),
                Ok(false) => {}
                Err(error) => {
                    self.log.say(format!("Base images of {} are pulled without credentials: {error}", one.host())).await;
                }
            }
        }
        asked_for
    }

    async fn dockerfile(&self) -> Result<Vec<u8>, Failure> {
        match self.parts.store.dockerfile(&Scope::All, self.record.id).await {
            Ok(text) => text.ok_or(Failure::Lost),
            // The build is not at fault: it goes back to the queue.
            Err(error) => Err(Failure::Away(error.to_string())),
        }
    }

    async fn context(&self, builder: BuilderKind, dockerfile: Vec<u8>) -> Result<crate::engine::ContextStream, Failure> {
        let (id, spec) = (self.record.id, &self.record.spec);
        // What was accepted is not judged anew by bounds that an operator may have lowered since.
        let limits = ArchiveLimits { expanded_bytes: u64::MAX, entries: u64::MAX, ratio: u64::MAX };
        let plan = Assemble { dockerfile: spec.dockerfile.clone(), builder, limits };
        if self.record.context.kind == ContextKind::File {
            return Ok(stream::open(Source::Dockerfile(dockerfile), plan));
        }
        let path = self.parts.contexts.path(id);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Err(Failure::Build(internal(StageName::Build, "the stored context is not there")));
        }
        let replacement = spec.dockerfile_replaced.then_some(dockerfile);
        let source = if self.record.context.kind == ContextKind::Manifest {
            Source::Manifest { path, root: self.parts.contexts.blobs().root().to_owned(), replacement }
        } else {
            Source::Archive { path, replacement }
        };
        Ok(stream::open(source, plan))
    }

    /// Changes the record under this claim's fence, and the copy here with it. While the store is away, it is tried again.
    pub(super) async fn write<F>(&mut self, change: F) -> Result<(), Failure>
    where
        F: Fn(&mut BuildRecord, Timestamp) -> Result<(), crate::domain::IllegalTransition> + Clone + Send + Sync + 'static,
    {
        self.record = self.pen.write(change).await?;
        Ok(())
    }
}

pub(super) fn built_by(
    record: &mut BuildRecord,
    built: &BuiltImage,
    worker: &WorkerId,
    now: Timestamp,
) -> Result<(), crate::domain::IllegalTransition> {
    record.layers.clone_from(&built.layers);
    record.image_labels.clone_from(&built.labels);
    record.image_built(built.id.clone(), built.size_bytes, worker, now)
}

/// Asks the store until it is there; for what can be repeated. The claim's own heartbeat ends the wait when it is in vain.
pub(super) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> Result<T, StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match ask().await {
            Err(StoreError::Unavailable(_) | StoreError::Full) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            answer => return answer,
        }
    }
}

pub(super) fn failure(stage: StageName, error: EngineError) -> Failure {
    if error.code == "engine_unavailable" {
        return Failure::Away(error.message);
    }
    Failure::Build(BuildError {
        stage,
        kind: error.kind,
        code: error.code.into(),
        message: error.message,
        dockerfile_line: error.dockerfile_line,
    })
}

pub(super) fn internal(stage: StageName, message: &str) -> BuildError {
    BuildError { stage, kind: ErrorKind::Internal, code: "internal".into(), message: message.into(), dockerfile_line: None }
}

fn no_buildkit() -> BuildError {
    BuildError {
        stage: StageName::Build,
        kind: ErrorKind::Engine,
        code: "buildkit_missing".into(),
        message: "secrets and ssh keys need BuildKit, and this engine has none".into(),
        dockerfile_line: None,
    }
}

fn timed_out(limit: Duration) -> BuildError {
    let message = format!("the build took longer than its limit of {}", humantime::format_duration(limit));
    BuildError { stage: StageName::Build, kind: ErrorKind::Limit, code: "timeout".into(), message, dockerfile_line: None }
}
