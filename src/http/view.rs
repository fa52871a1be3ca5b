//! A build as clients see it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::quantity::{Cpus, Span};
use crate::domain::{
    BuildError, BuildRecord, BuildState, BuilderKind, DestinationState, ErrorKind, NetworkMode, StageName, StageState,
};
use crate::store::Stored;

mod origin;

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
    /// What was made; null before.
    result: Option<ResultView>,
    options: OptionsView,
    error: Option<ErrorView>,
    cancel_requested: bool,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    started_at: Option<String>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    links: LinksView,
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

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Destination)]
struct DestinationView {
    image: String,
    #[schema(value_type = DestinationStateView)]
    state: DestinationState,
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: Option<String>,
    error: Option<ErrorView>,
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
    project: String,
    cache_from: Vec<String>,
    inline_cache: bool,
    cold: bool,
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
    BuildStateView as BuildState { Queued, Building, Pushing, Published, Built, Failed, Cancelled }
    StageNameView as StageName { Build, Push }
    StageStateView as StageState { Waiting, Running, Done, Failed, Cancelled }
    DestinationStateView as DestinationState { Waiting, Pushing, Pushed, Failed }
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
            queue: QueueView { position },
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
            destinations: record
                .destinations
                .iter()
                .map(|d| DestinationView {
                    image: d.image.to_string(),
                    state: d.state,
                    digest: d.digest.as_ref().map(ToString::to_string),
                    error: d.error.as_ref().map(ErrorView::of),
                })
                .collect(),
            image_id: record.image_id.as_ref().map(ToString::to_string),
            size_bytes: record.size_bytes,
            builder: record.builder,
            context: ContextView::of(&record.context),
            warnings: record.warnings.iter().map(WarningView::of).collect(),
            result: ResultView::of(record),
            options: OptionsView::of(record),
            error: record.error.as_ref().map(ErrorView::of),
            cancel_requested: record.cancel_requested,
            created_at: record.created_at.to_string(),
            started_at: at(record.started_at),
            finished_at: at(record.finished_at),
            links: LinksView { logs: format!("{own}/logs"), dockerfile: format!("{own}/dockerfile"), own },
        }
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
            project: spec.project.clone(),
            cache_from: spec.cache_from.iter().map(ToString::to_string).collect(),
            inline_cache: spec.inline_cache,
            cold: spec.cold,
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
