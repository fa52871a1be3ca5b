//! What the engine tells of containers, in a list and one by one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Docker;
use super::calls::{filters, part};
use crate::domain::{Protocol, Timestamp};
use crate::engine::Result;
use crate::engine::containers::{
    ContainerDetails, ContainerState, ContainerSummary, Containers as _, Health, OpenPort, OutputRange,
};

/// Labels of ours that are empty are not there: see `create`.
const OURS: &str = crate::domain::RESERVED_LABELS;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(rename = "ImageID", default)]
    image_id: String,
    #[serde(default)]
    command: String,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
    labels: Option<BTreeMap<String, String>>,
    ports: Option<Vec<ListedPort>>,
    network_settings: Option<ListedNetworks>,
    mounts: Option<Vec<ListedMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPort {
    #[serde(rename = "IP")]
    ip: Option<String>,
    private_port: u16,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct ListedNetworks {
    networks: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedMount {
    name: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    destination: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    state: InspectedState,
    #[serde(default)]
    restart_count: u64,
    config: InspectedConfig,
    size_rw: Option<i64>,
    size_root_fs: Option<i64>,
    #[serde(default)]
    network_settings: ListedNetworks,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
    #[serde(default)]
    restarting: bool,
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    #[serde(default)]
    status: String,
    log: Option<Vec<HealthResult>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthResult {
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    tty: bool,
    env: Option<Vec<String>>,
}

impl Docker {
    pub(super) async fn summaries(&self, id: Option<&str>) -> Result<Vec<ContainerSummary>> {
        let only = id.map(|id| format!("&{}", filters(&json!({"id": [id]})).0)).unwrap_or_default();
        let listed: Vec<Listed> = self.get(&format!("/containers/json?all=1{only}")).await?;
        // The engine's filter takes the beginning of an id, too.
        Ok(listed.into_iter().filter(|one| id.is_none_or(|id| one.id == id)).map(ContainerSummary::from).collect())
    }

    pub(super) async fn details(&self, id: &str, sizes: bool) -> Result<Option<ContainerDetails>> {
        let uri = format!("/containers/{}/json?size={}", part(id), sizes);
        let Some(mut inspected) = self.find::<Inspected>(&uri).await? else { return Ok(None) };
        let Some(summary) = self.summaries(Some(&inspected.id)).await?.pop() else { return Ok(None) };
        if inspected.state.error.is_empty() && state(&inspected.state.status) == ContainerState::Exited {
            inspected.state.error = self.word_of_init(&inspected).await;
        }
        Ok(Some(details(inspected, summary, sizes)))
    }

    pub(super) async fn is_there(&self, id: &str) -> Result<bool> {
        Ok(self.find::<Value>(&format!("/containers/{}/json", part(id))).await?.is_some())
    }

    /// Whether the container's own process has a terminal.
    pub(super) async fn has_terminal(&self, id: &str) -> Result<bool> {
        let inspected: Inspected = self.get(&format!("/containers/{}/json", part(id))).await?;
        Ok(inspected.config.tty)
    }

    /// The engine's init starts the command, and so it is this that cannot when the command is not there: the engine knows only
    /// its exit code (127: not found, 126: not to be run) and its last line. Empty when that is another's.
    async fn word_of_init(&self, inspected: &Inspected) -> String {
        use futures::TryStreamExt as _;
        if !matches!(inspected.state.exit_code, 126 | 127) {
            return String::new();
        }
        let last = OutputRange { tail: Some(1), ..OutputRange::default() };
        let Ok(lines) = self.output(&inspected.id, last).await else { return String::new() };
        let lines: Vec<_> = lines.try_collect().await.unwrap_or_default();
        let word = lines.into_iter().map(|line| line.text).find(|text| text.starts_with("[FATAL tini ("));
        word.unwrap_or_default()
    }
}

impl From<Listed> for ContainerSummary {
    fn from(one: Listed) -> Self {
        Self {
            name: own_name(one.names.unwrap_or_default()),
            image: one.image,
            image_id: one.image_id,
            command: one.command,
            state: state(&one.state),
            health: health(&one.status),
            labels: known_labels(one.labels.unwrap_or_default()),
            ports: one.ports.unwrap_or_default().iter().filter_map(port).collect(),
            networks: one.network_settings.unwrap_or_default().networks.unwrap_or_default().into_keys().collect(),
            mounts: one.mounts.unwrap_or_default().into_iter().map(mount).collect(),
            created_at: Timestamp::from_millis(one.created.saturating_mul(1000)),
            id: one.id,
        }
    }
}

/// State, health and how it ended are of one look: what the list tells is from a moment later.
fn details(inspected: Inspected, summary: ContainerSummary, sizes: bool) -> ContainerDetails {
    let now = state(&inspected.state.status);
    let Inspected { state, restart_count, config, size_rw, size_root_fs, network_settings, .. } = inspected;
    let bytes = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    let health = state.health.as_ref().and_then(|health| health_named(&health.status));
    let log = state.health.and_then(|health| health.log).unwrap_or_default();
    let address = |value: &Value| value["IPAddress"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    ContainerDetails {
        summary: ContainerSummary { state: now, health, ..summary },
        exit_code: state.exit_code,
        oom_killed: state.oom_killed,
        error: state.error,
        started_at: happened(&state.started_at),
        finished_at: happened(&state.finished_at),
        // The engine counts a restart when it decides on it, a while before it begins.
        restarts: restart_count.saturating_sub(u64::from(state.restarting)),
        health_log: log.into_iter().map(|one| (one.exit_code, one.output)).collect(),
        tty: config.tty,
        env_names: config.env.unwrap_or_default().into_iter().map(name_of).collect(),
        size: sizes.then(|| (bytes(size_rw), bytes(size_root_fs))),
        addresses: {
            let networks = network_settings.networks.unwrap_or_default();
            networks.into_iter().filter_map(|(name, value)| Some((name, address(&value)?))).collect()
        },
    }
}

/// A container that others link to has names of theirs, too (`/other/alias`).
fn own_name(names: Vec<String>) -> String {
    let own = names.into_iter().find(|name| name.matches('/').count() == 1);
    own.map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default()
}

pub(super) fn known_labels(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|label, value| !(label.starts_with(OURS) && value.is_empty()));
    labels
}

fn state(word: &str) -> ContainerState {
    ContainerState::ALL.into_iter().find(|state| state.as_str() == word).unwrap_or(ContainerState::Dead)
}

fn health_named(word: &str) -> Option<Health> {
    let known = [("healthy", Health::Healthy), ("unhealthy", Health::Unhealthy), ("starting", Health::Starting)];
    known.into_iter().find(|(known, _)| *known == word).map(|(_, health)| health)
}

fn health(status: &str) -> Option<Health> {
    let known = [("(healthy)", Health::Healthy), ("(unhealthy)", Health::Unhealthy), ("(health: starting)", Health::Starting)];
    known.into_iter().find(|(words, _)| status.contains(words)).map(|(_, health)| health)
}

/// Protocols that we never publish (SCTP) are left out.
fn port(port: &ListedPort) -> Option<OpenPort> {
    let protocol = match port.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let address = port.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    Some(OpenPort { container: port.private_port, protocol, host: address.zip(port.public_port) })
}

fn mount(mount: ListedMount) -> (String, String) {
    (mount.name.filter(|name| !name.is_empty()).unwrap_or(mount.source), mount.destination)
}

fn name_of(variable: String) -> String {
    variable.split_once('=').map(|(name, _)| name.to_owned()).unwrap_or(variable)
}

/// The engine writes what never happened as the year 1.
pub(super) fn happened(text: &str) -> Option<Timestamp> {
    let json = Value::String(text.to_owned());
    serde_json::from_value::<Timestamp>(json).ok().filter(|at| at.as_millis() > 0)
}
