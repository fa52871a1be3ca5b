//! A build as clients see it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::builds::{Waiting, WaitsFor};
use crate::domain::quantity::{Cpus, Span};
use crate::domain::{BuildError, BuildRecord, BuildState, BuilderKind, ErrorKind, Layer, NetworkMode, StageName, StageState};
use crate::store::Stored;

mod destination;
mod origin;

use destination::DestinationView;
use origin::{ContextView, ResultView, WarningView};

/// See `docs/api.md`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Build)]
pub struct BuildView {
    #[schema(format = "uuid")]
    id: String,
    owner: String,
    #[schema(value_type = BuildStateView)]
    state: BuildState,
    /// One line for people.
    message: String,
    queue: QueueView,
    /// How often a worker has taken the build.
    attempt: u64,
    node: Option<String>,
    stages: Vec<StageView>,
    destinations: Vec<DestinationView>,
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    image_id: Option<String>,
    size_bytes: Option<u64>,
    #[schema(value_type = Option<BuilderView>)]
    builder: Option<BuilderKind>,
    context: ContextView,
    /// What is surprising about the context.
    warnings: Vec<WarningView>,
    /// What each instruction added to the image, empty ones too: the newest 500, the newest last; none before it is built.
    layers: Vec<LayerView>,
    /// What was made; null before.
    result: Option<ResultView>,
    options: OptionsView,
    error: Option<ErrorView>,
    cancel_requested: bool,
    /// The build that this one repeats.
    #[schema(format = "uuid")]
    retry_of: Option<String>,
    /// The younger build for which this one was ended, or which has its tags; null also when that belongs to another account.
    #[schema(format = "uuid")]
    superseded_by: Option<String>,
    /// The build whose image this one took or waits for: it did the very same on the same engine when this one began.
    #[schema(format = "uuid")]
    joined_to: Option<String>,
    /// When other submissions have joined it (`reuse`): the newest 100. Absent when none has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    joins: Vec<String>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    started_at: Option<String>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    links: LinksView,
    /// Present and true when a submission was answered with this build, which does the very same and was under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<bool>,
    /// Present and true when a submission was answered with this build, whose result is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<bool>,
}

/// What a list answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BuildPage {
    pub items: Vec<BuildView>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QueuePlace)]
struct QueueView {
    /// How many builds go before this one; null when it does not wait.
    position: Option<u64>,
    /// What has to happen before it begins: `turn` (others go before it), `quota` (its owner has as many under way as it may),
    /// `worker`, `engine` or `disk`; null when it does not wait.
    #[schema(value_type = Option<WaitsForView>)]
    waits_for: Option<WaitsFor>,
    /// The same in words.
    detail: Option<String>,
    /// Seconds until it begins, by how long builds took lately; null when that is not known.
    estimate_seconds: Option<u64>,
    /// How long builds of its project usually took lately, in seconds.
    build_seconds: Option<u64>,
}

impl QueueView {
    fn of(position: Option<u64>, waiting: Option<Waiting>) -> Self {
        let whole = |span: std::time::Duration| u64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        let seconds = |span: Option<std::time::Duration>| span.map(whole);
        let Some(Waiting { waits_for, detail, estimate, usual }) = waiting else {
            return Self { position, waits_for: None, detail: None, estimate_seconds: None, build_seconds: None };
        };
        Self {
            position,
            waits_for: Some(waits_for),
            detail: Some(detail),
            estimate_seconds: seconds(estimate),
            build_seconds: seconds(usual),
        }
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Stage)]
struct StageView {
    #[schema(value_type = StageNameView)]
    name: StageName,
    #[schema(value_type = StageStateView)]
    state: StageState,
    #[schema(format = "date-time")]
    started_at: Option<String>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    worker: Option<String>,
}

/// What one instruction added to the image.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Layer)]
struct LayerView {
    /// Its keyword, like `RUN`; those of the base image are among them.
    instruction: String,
    bytes: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = BuildError)]
struct ErrorView {
    #[schema(value_type = StageNameView)]
    stage: StageName,
    #[schema(value_type = ErrorKindView)]
    kind: ErrorKind,
    code: String,
    /// Verbatim from the engine or the registry.
    message: String,
    dockerfile_line: Option<u32>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Options)]
struct OptionsView {
    dockerfile: String,
    build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    target: Option<String>,
    platform: Option<String>,
    no_cache: bool,
    pull: bool,
    push: bool,
    #[schema(value_type = NetworkView)]
    network: NetworkMode,
    memory: Option<u64>,
    cpus: Option<String>,
    timeout: String,
    priority: i8,
    username: Option<String>,
    /// Names of the kept credentials that it was given.
    registries: Vec<String>,
    project: String,
    cache_from: Vec<String>,
    inline_cache: bool,
    cold: bool,
    supersede: bool,
    /// Ids of the build secrets.
    secrets: Vec<String>,
    /// Ids of the forwarded ssh keys.
    ssh: Vec<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Links)]
struct LinksView {
    #[serde(rename = "self")]
    own: String,
    logs: String,
    dockerfile: String,
    steps: String,
}

/// Mirrors of the domain's enums for the OpenAPI: the domain itself knows nothing of HTTP.
macro_rules! mirrors {
    ($($name:ident as $shown:ident { $($variant:ident),* })*) => {$(
        #[derive(utoipa::ToSchema)]
        #[schema(as = $shown, rename_all = "snake_case")]
        #[allow(dead_code, reason = "only its schema is used")]
        pub(super) enum $name { $($variant),* }
    )*};
}

mirrors! {
    WaitsForView as WaitsFor { Turn, Quota, Worker, Engine, Disk }
    BuildStateView as BuildState { Queued, Building, Pushing, Published, Built, Failed, Cancelled }
    StageNameView as StageName { Build, Push }
    StageStateView as StageState { Waiting, Running, Done, Failed, Cancelled }
    DestinationStateView as DestinationState { Waiting, Pushing, Pushed, Failed, Superseded }
    ErrorKindView as ErrorKind { User, Auth, Registry, Engine, Limit, Infra, Internal }
    BuilderView as Builder { Buildkit, Classic }
    ContextKindView as ContextKind { File, Tar, TarGz, TarZst, Zip, Manifest }
    NetworkView as Network { Default, None }
}

impl BuildView {
    #[must_use]
    pub fn of(stored: &Stored, position: Option<u64>) -> Self {
        Self::of_record(&stored.record, position)
    }

    /// With the reason why it waits. The `ETag` knows nothing of it: an estimate is another at each look.
    #[must_use]
    pub fn waiting(mut self, waiting: Option<Waiting>) -> Self {
        self.queue = QueueView::of(self.queue.position, waiting);
        self
    }

    #[must_use]
    pub fn joined(self) -> Self {
        Self { joined: Some(true), ..self }
    }

    #[must_use]
    pub fn reused(self) -> Self {
        Self { reused: Some(true), ..self }
    }

    /// From a record as an event kept it.
    #[must_use]
    pub fn of_record(record: &BuildRecord, position: Option<u64>) -> Self {
        let at = |time: Option<crate::domain::Timestamp>| time.map(|t| t.to_string());
        let own = format!("/api/v1/builds/{}", record.id);
        Self {
            id: record.id.to_string(),
            owner: record.owner.to_string(),
            state: record.state,
            message: record.message.clone(),
            queue: QueueView::of(position, None),
            attempt: record.attempt,
            node: record.node.as_ref().map(ToString::to_string),
            stages: record
                .stages
                .iter()
                .map(|s| StageView {
                    name: s.name,
                    state: s.state,
                    started_at: at(s.started_at),
                    finished_at: at(s.finished_at),
                    worker: s.worker.as_ref().map(ToString::to_string),
                })
                .collect(),
            destinations: record.destinations.iter().map(DestinationView::of).collect(),
            image_id: record.image_id.as_ref().map(ToString::to_string),
            size_bytes: record.size_bytes,
            builder: record.builder,
            context: ContextView::of(&record.context),
            warnings: record.warnings.iter().map(WarningView::of).collect(),
            layers: record.layers.iter().map(LayerView::of).collect(),
            result: ResultView::of(record),
            options: OptionsView::of(record),
            error: record.error.as_ref().map(ErrorView::of),
            cancel_requested: record.cancel_requested,
            retry_of: record.retry_of.map(|id| id.to_string()),
            superseded_by: record.superseded_by.map(|id| id.to_string()),
            joined_to: record.joined_to.map(|id| id.to_string()),
            joins: record.joins.iter().map(ToString::to_string).collect(),
            created_at: record.created_at.to_string(),
            started_at: at(record.started_at),
            finished_at: at(record.finished_at),
            links: LinksView::of(own),
            joined: None,
            reused: None,
        }
    }
}

impl LinksView {
    fn of(own: String) -> Self {
        let below = |name: &str| format!("{own}/{name}");
        Self { logs: below("logs"), dockerfile: below("dockerfile"), steps: below("steps"), own }
    }
}

impl LayerView {
    fn of(layer: &Layer) -> Self {
        Self { instruction: layer.instruction.clone(), bytes: layer.bytes }
    }
}

impl OptionsView {
    fn of(record: &BuildRecord) -> Self {
        let spec = &record.spec;
        Self {
            dockerfile: spec.dockerfile.clone(),
            build_args: spec.build_args.clone(),
            labels: spec.labels.clone(),
            target: spec.target.clone(),
            platform: spec.platform.clone(),
            no_cache: spec.no_cache,
            pull: spec.pull,
            push: spec.push,
            network: spec.network,
            memory: spec.memory_bytes,
            cpus: spec.milli_cpus.map(|milli| Cpus(milli).to_string()),
            timeout: Span(spec.timeout()).to_string(),
            priority: spec.priority.get(),
            username: spec.username.clone(),
            registries: spec.registries.clone(),
            project: spec.project.clone(),
            cache_from: spec.cache_from.iter().map(ToString::to_string).collect(),
            inline_cache: spec.inline_cache,
            cold: spec.cold,
            supersede: spec.supersede,
            secrets: spec.secrets.clone(),
            ssh: spec.ssh.clone(),
        }
    }
}

impl ErrorView {
    fn of(error: &BuildError) -> Self {
        Self {
            stage: error.stage,
            kind: error.kind,
            code: error.code.clone(),
            message: error.message.clone(),
            dockerfile_line: error.dockerfile_line,
        }
    }
}

/// Names exactly this representation: the record's revision and, while it waits, its place in the queue.
#[must_use]
pub fn etag(stored: &Stored, position: Option<u64>) -> String {
    match position {
        Some(position) => format!("\"{}-{position}\"", stored.revision),
        None => format!("\"{}\"", stored.revision),
    }
}

/// A build as it is shown, for those who tell of it elsewhere.
#[must_use]
pub fn build_json(record: &BuildRecord) -> serde_json::Value {
    serde_json::to_value(BuildView::of_record(record, None))
        .expect("serialises, because its maps have text keys and it holds no floats")
}
