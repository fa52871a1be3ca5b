//! Containers as clients see them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::apps::engine::{ContainerDetails, ContainerState, Health, OpenPort, Seen, Stats, Whose};
use crate::apps::{PlaceNames, spec};
use crate::domain::quantity::{Bytes, Cpus};
use crate::domain::{Protocol, Run, Timestamp};
use crate::http::apps::SecretField;

/// A container in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Container)]
pub struct ContainerView {
    /// The engine's.
    id: String,
    name: String,
    owner: Option<String>,
    run: Option<String>,
    /// The name of its app.
    app: Option<String>,
    image: String,
    image_id: String,
    #[schema(pattern = "^(created|running|paused|restarting|removing|exited|dead)$")]
    state: &'static str,
    #[schema(pattern = "^(starting|healthy|unhealthy)$")]
    health: Option<&'static str>,
    ports: Vec<PortView>,
    /// By their owner's names.
    networks: Vec<String>,
    volumes: Vec<String>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// Whether it is Dockwright's and has a record; only admins see others, and nobody can change those here.
    managed: bool,
    /// It was Dockwright's, but its record is gone; the service removes it after a while.
    orphan: bool,
    links: ContainerLinks,
}

#[derive(Serialize, ToSchema)]
struct ContainerLinks {
    #[serde(rename = "self")]
    own: String,
    logs: String,
    run: Option<String>,
}

/// A port that is open now.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenPort)]
struct PortView {
    container: u16,
    #[schema(pattern = "^(tcp|udp)$")]
    protocol: &'static str,
    /// The port of the host; null when it is not published.
    host: Option<u16>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Where a browser finds it, if it speaks HTTP.
    url: Option<String>,
}

impl PortView {
    fn of(port: &OpenPort) -> Self {
        let url = port.host.filter(|_| port.protocol == Protocol::Tcp).map(|(address, host)| {
            let local = address.is_unspecified();
            match address {
                _ if local => format!("http://127.0.0.1:{host}"),
                IpAddr::V4(address) => format!("http://{address}:{host}"),
                IpAddr::V6(address) => format!("http://[{address}]:{host}"),
            }
        });
        let (address, host) = port.host.unzip();
        Self { container: port.container, protocol: port.protocol.as_str(), host, address, url }
    }
}

impl ContainerView {
    #[must_use]
    pub fn of(seen: &Seen, names: &PlaceNames) -> Self {
        let summary = &seen.summary;
        let run = seen.run().map(|run| run.to_string());
        let own = format!("/api/v1/containers/{}", summary.id);
        let network = |name: &String| names.networks.get(name).unwrap_or(name).clone();
        let volume = |(name, _): &(String, String)| names.volumes.get(name).cloned();
        Self {
            id: summary.id.clone(),
            name: summary.name.clone(),
            owner: seen.owner().map(ToString::to_string),
            app: seen.app().map(str::to_owned),
            image: seen.image().to_owned(),
            image_id: summary.image_id.clone(),
            state: summary.state.as_str(),
            health: summary.health.map(|health| match health {
                Health::Starting => "starting",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            }),
            ports: summary.ports.iter().map(PortView::of).collect(),
            networks: summary.networks.iter().map(network).collect(),
            volumes: summary.mounts.iter().filter_map(volume).collect(),
            created_at: summary.created_at,
            managed: run.is_some(),
            orphan: seen.whose == Whose::Orphan,
            links: ContainerLinks {
                logs: format!("{own}/logs"),
                run: run.as_ref().map(|run| format!("/api/v1/runs/{run}")),
                own,
            },
            run,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct ContainerPage {
    pub items: Vec<ContainerView>,
    pub next_cursor: Option<String>,
}

/// A container as the engine has it now.
#[derive(Serialize, ToSchema)]
#[schema(as = ContainerDetails)]
pub struct DetailsView {
    #[serde(flatten)]
    container: ContainerView,
    /// Of its last life; null while it runs.
    exit_code: Option<i64>,
    oom_killed: bool,
    /// The engine's own words about why it could not start.
    error: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    finished_at: Option<Timestamp>,
    /// How often the engine has started it again.
    restarts: u64,
    /// What its healthcheck said last, the newest last.
    health_log: Vec<HealthView>,
    tty: bool,
    /// By name: the values that its run gave, `{"secret": true}` for secret ones, and null for those of the image.
    #[schema(value_type = BTreeMap<String, ShownVariable>)]
    env: Map<String, Value>,
    /// Null for a container that is not Dockwright's.
    limits: Option<LimitsView>,
    mounts: Vec<MountView>,
    /// Its address in each of its networks, by the owner's names.
    addresses: BTreeMap<String, String>,
    /// With `?size=true`.
    size: Option<SizeView>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum ShownVariable {
    Given(String),
    Secret(SecretField),
    OfTheImage,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HealthResult)]
struct HealthView {
    exit_code: i64,
    output: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Limits)]
struct LimitsView {
    /// Memory and swap together.
    memory: String,
    memory_bytes: u64,
    cpus: String,
    pids: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Mount)]
struct MountView {
    /// The name of the volume; null for a folder of the host, or a volume that the image asks for.
    volume: Option<String>,
    path: String,
    /// What the engine calls it.
    source: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Size)]
struct SizeView {
    /// Bytes that it has written itself.
    own_bytes: u64,
    /// With its image.
    all_bytes: u64,
}

impl DetailsView {
    #[must_use]
    pub fn of(seen: &Seen, details: ContainerDetails, run: Option<&Run>, names: &PlaceNames) -> Self {
        let ContainerDetails { summary, exit_code, oom_killed, error, started_at, finished_at, restarts, .. } = details;
        let runs = matches!(summary.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
        let mount = |(source, path): &(String, String)| MountView {
            volume: names.volumes.get(source).cloned(),
            path: path.clone(),
            source: source.clone(),
        };
        let addresses = details.addresses.into_iter();
        Self {
            exit_code: (!runs && started_at.is_some()).then_some(exit_code),
            oom_killed,
            error: Some(error).filter(|error| !error.is_empty()),
            started_at,
            finished_at: finished_at.filter(|_| !runs),
            restarts,
            health_log: details.health_log.into_iter().map(|(exit_code, output)| HealthView { exit_code, output }).collect(),
            tty: details.tty,
            env: env(&details.env_names, run),
            limits: run.map(|run| LimitsView {
                memory: Bytes(run.spec.memory_bytes).to_string(),
                memory_bytes: run.spec.memory_bytes,
                cpus: Cpus(run.spec.milli_cpus).to_string(),
                pids: run.spec.pids,
            }),
            mounts: summary.mounts.iter().map(mount).collect(),
            addresses: addresses.map(|(network, at)| (names.networks.get(&network).cloned().unwrap_or(network), at)).collect(),
            size: details.size.map(|(own_bytes, all_bytes)| SizeView { own_bytes, all_bytes }),
            container: ContainerView::of(&Seen { summary, whose: seen.whose.clone() }, names),
        }
    }
}

fn env(names: &[String], run: Option<&Run>) -> Map<String, Value> {
    let mut env: Map<String, Value> = names.iter().map(|name| (name.clone(), Value::Null)).collect();
    let mut shown = run.map(|run| spec::show(&run.spec)).unwrap_or_default();
    if let Some(Value::Object(given)) = shown.remove("env") {
        env.extend(given);
    }
    env
}

/// What a container uses at one moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsView {
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// Thousandths of a CPU since the sample before.
    milli_cpus: u64,
    /// Without the page cache that can be given up.
    memory_bytes: u64,
    memory_limit_bytes: u64,
    pids: u64,
    received_bytes: u64,
    sent_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> Self {
        let Stats {
            at,
            milli_cpus,
            memory_bytes,
            memory_limit_bytes,
            pids,
            received_bytes,
            sent_bytes,
            read_bytes,
            written_bytes,
        } = stats;
        Self { at, milli_cpus, memory_bytes, memory_limit_bytes, pids, received_bytes, sent_bytes, read_bytes, written_bytes }
    }
}

/// Processes, as `ps` tells them.
#[derive(Serialize, ToSchema)]
#[schema(as = Processes)]
pub struct ProcessesView {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Changes)]
pub struct ChangesView {
    pub items: Vec<ChangeView>,
    /// Whether there are more than these 10,000.
    pub truncated: bool,
}

/// A difference between a container's files and its image.
#[derive(Serialize, ToSchema)]
#[schema(as = Change)]
pub struct ChangeView {
    pub path: String,
    #[schema(pattern = "^(modified|added|deleted)$")]
    pub kind: &'static str,
}
