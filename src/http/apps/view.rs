//! Apps as clients see them, and the fields of a container as they are sent and shown.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::apps::spec;
use crate::domain::{self, Timestamp};
use crate::error::Result;
use crate::http::App;

/// An app: what its containers are to be, and what it does now.
#[derive(Serialize, ToSchema)]
#[schema(as = App)]
pub struct AppView {
    #[schema(format = "uuid")]
    id: String,
    owner: String,
    name: String,
    /// Grows at each change; it is the `ETag`, too.
    generation: u64,
    state: AppStateView,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
    links: AppLinks,
    #[serde(flatten)]
    #[schema(value_type = ContainerFields)]
    spec: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AppState)]
struct AppStateView {
    /// Ids of its runs that are not over.
    live: Vec<String>,
    /// Whether one of these was made before the last change.
    restart_needed: bool,
    /// The fields in which one of these differs from what it would be now, `name` among them.
    restart_fields: Vec<&'static str>,
    /// Id of its newest run.
    last_run: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct AppLinks {
    #[serde(rename = "self")]
    own: String,
    runs: String,
}

impl AppView {
    /// # Errors
    /// When the store cannot be asked.
    pub async fn of(service: &App, app: &domain::App) -> Result<Self> {
        let state = service.apps.app_state(app).await?;
        let own = format!("/api/v1/apps/{}", app.id);
        Ok(Self {
            id: app.id.to_string(),
            owner: app.owner.to_string(),
            name: app.name.to_string(),
            generation: app.generation,
            state: AppStateView {
                live: state.live.iter().map(ToString::to_string).collect(),
                restart_needed: state.restart_needed,
                restart_fields: state.restart_fields,
                last_run: state.last.map(|id| id.to_string()),
            },
            created_at: app.created_at,
            updated_at: app.updated_at,
            links: AppLinks { runs: format!("{own}/runs"), own },
            spec: spec::show(&app.spec),
        })
    }
}

#[derive(Serialize, ToSchema)]
pub struct AppPage {
    pub items: Vec<AppView>,
    pub next_cursor: Option<String>,
}

/// An app as it is sent.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct AppForm {
    /// 1 to 63 of a-z 0-9 -; its containers' name in the owner's network. Needed for a new app.
    #[schema(required = false)]
    name: String,
    #[serde(flatten)]
    fields: ContainerFields,
}

/// What a container is to be. What is left out has a default, which the answer shows. `docs/apps.md` tells of each.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ContainerFields {
    /// By name, or by name and digest; or else `build`.
    #[schema(required = false)]
    image: String,
    /// The id of a build whose image it is.
    #[schema(required = false, format = "uuid")]
    build: String,
    /// Arguments; empty: the image's own.
    #[schema(required = false)]
    command: Vec<String>,
    /// Empty: the image's own.
    #[schema(required = false)]
    entrypoint: Vec<String>,
    /// By name: a text, or `{"secret": "…"}`, which is shown as `{"secret": true}` ever after.
    #[schema(required = false)]
    env: BTreeMap<String, EnvField>,
    #[schema(required = false)]
    ports: Vec<PortField>,
    #[schema(required = false)]
    volumes: Vec<VolumeField>,
    /// `default`, `none`, or a network of your own.
    #[schema(required = false)]
    network: String,
    /// Memory and swap together, like `512m`.
    #[schema(required = false)]
    memory: String,
    /// Like `1.5`.
    #[schema(required = false)]
    cpus: String,
    /// Most processes and threads.
    #[schema(required = false)]
    pids: u64,
    /// `no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
    #[schema(required = false)]
    restart: String,
    /// `user[:group]`, by name or number.
    #[schema(required = false)]
    user: Option<String>,
    #[schema(required = false)]
    workdir: Option<String>,
    /// Whether the image's files cannot be written to.
    #[schema(required = false)]
    read_only: bool,
    #[schema(required = false)]
    healthcheck: Option<HealthcheckField>,
    #[schema(required = false)]
    labels: BTreeMap<String, String>,
    /// Whether its process has a terminal.
    #[schema(required = false)]
    tty: bool,
    /// Folders of the host; for admins alone.
    #[schema(required = false)]
    binds: Vec<BindField>,
    /// The address of the host that ports are published on; for admins alone.
    #[schema(required = false)]
    publish_on: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Variable)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum EnvField {
    Plain(String),
    Secret(SecretField),
}

#[derive(Serialize, ToSchema)]
#[schema(as = SecretVariable)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct SecretField {
    /// The value when it is sent; `true` when it is shown, or is to stay as it is.
    secret: SecretValue,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum SecretValue {
    New(String),
    Kept(bool),
}

#[derive(Serialize, ToSchema)]
#[schema(as = Port)]
#[allow(dead_code, reason = "only its schema is used")]
struct PortField {
    container: u16,
    /// A free one of the allowed range when absent.
    #[schema(required = false)]
    host: Option<u16>,
    /// `tcp` or `udp`.
    #[schema(required = false)]
    protocol: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = VolumeMount)]
#[allow(dead_code, reason = "only its schema is used")]
struct VolumeField {
    /// The name of a volume of your own; it is made when there is none.
    volume: String,
    path: String,
    #[schema(required = false)]
    read_only: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Bind)]
#[allow(dead_code, reason = "only its schema is used")]
struct BindField {
    source: String,
    path: String,
    #[schema(required = false)]
    read_only: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Healthcheck)]
#[allow(dead_code, reason = "only its schema is used")]
struct HealthcheckField {
    /// A line for the shell, or a list: arguments, or Docker's own form (`["CMD", …]`).
    #[schema(required = false)]
    test: HealthTest,
    #[schema(required = false)]
    interval: Option<String>,
    #[schema(required = false)]
    timeout: Option<String>,
    #[schema(required = false)]
    start_period: Option<String>,
    #[schema(required = false)]
    retries: Option<u32>,
    /// The image's own check is not made.
    #[schema(required = false)]
    disable: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum HealthTest {
    Line(String),
    Arguments(Vec<String>),
}
