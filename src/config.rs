//! The settings: one typed schema for flags, environment (`DOCKWRIGHT_*`) and a TOML file, in this order of precedence.
//! An unknown key is an error in each of the three.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::domain::quantity::{Bytes, Cpus, Span};
use crate::egress::Outlet;

mod checks;
mod values;

pub use values::{Network, PortRange, StoreUrl};
use values::{masked, masked_url, store_url};

/// What an operator may set. Every field is optional; [`Settings::resolve`] fills in the defaults.
#[derive(clap::Args, Deserialize, Default, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of everything that is kept on this machine [default: ./dockwright-data]
    #[arg(long, env = "DOCKWRIGHT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP server [default: 127.0.0.1:8080]
    #[arg(long, env = "DOCKWRIGHT_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// `sqlite` (embedded) or the URL of a Redis server [default: sqlite]
    #[arg(long, env = "DOCKWRIGHT_STORE", value_name = "sqlite|redis://…", hide_env_values = true)]
    pub store: Option<String>,
    /// Prefix of all keys in Redis [default: dockwright]
    #[arg(long, env = "DOCKWRIGHT_STORE_PREFIX", value_name = "PREFIX")]
    pub store_prefix: Option<String>,
    /// What this process does [default: all]
    #[arg(long, env = "DOCKWRIGHT_ROLE", value_enum)]
    pub role: Option<Role>,
    /// Address of the engine [default: $DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKWRIGHT_ENGINE", value_name = "URL")]
    pub engine: Option<String>,
    /// Builds that this process does at once [default: the number of cores]
    #[arg(long, env = "DOCKWRIGHT_WORKERS", value_name = "N")]
    pub workers: Option<u32>,
    /// Largest upload [default: 1g]
    #[arg(long, env = "DOCKWRIGHT_MAX_UPLOAD", value_name = "BYTES")]
    pub max_upload: Option<Bytes>,
    /// Largest context when expanded [default: 1g]
    #[arg(long, env = "DOCKWRIGHT_MAX_CONTEXT", value_name = "BYTES")]
    pub max_context: Option<Bytes>,
    /// Most entries in a context [default: 100000]
    #[arg(long, env = "DOCKWRIGHT_MAX_ENTRIES", value_name = "N")]
    pub max_entries: Option<u64>,
    /// Time for a build that names none [default: 30m]
    #[arg(long, env = "DOCKWRIGHT_BUILD_TIMEOUT", value_name = "TIME")]
    pub build_timeout: Option<Span>,
    /// Longest time that a build may ask for [default: 2h]
    #[arg(long, env = "DOCKWRIGHT_MAX_BUILD_TIMEOUT", value_name = "TIME")]
    pub max_build_timeout: Option<Span>,
    /// Most memory that a build may ask for [default: 4g]
    #[arg(long, env = "DOCKWRIGHT_MAX_MEMORY", value_name = "BYTES")]
    pub max_memory: Option<Bytes>,
    /// Most CPUs that a build may ask for [default: 4]
    #[arg(long, env = "DOCKWRIGHT_MAX_CPUS", value_name = "N")]
    pub max_cpus: Option<Cpus>,
    /// Longest log of a build; its tail is always kept [default: 16m]
    #[arg(long, env = "DOCKWRIGHT_MAX_LOG", value_name = "BYTES")]
    pub max_log: Option<Bytes>,
    /// How long a worker has a build without a sign of life [default: 15s]
    #[arg(long, env = "DOCKWRIGHT_LEASE", value_name = "TIME")]
    pub lease: Option<Span>,
    /// How long running builds may go on after a stop was asked for; then they are handed back [default: 30s]
    #[arg(long, env = "DOCKWRIGHT_DRAIN", value_name = "TIME")]
    pub drain: Option<Span>,
    /// Hosts, addresses or networks of this machine's surroundings that git sources and webhooks may go to [default: none]
    #[arg(long = "allow-egress", env = "DOCKWRIGHT_ALLOW_EGRESS", value_name = "HOST|ADDRESS|NETWORK", value_delimiter = ',')]
    pub allow_egress: Option<Vec<Outlet>>,
    /// Hosts, addresses or networks of this machine's surroundings where registries may be; with it, all others there are left out
    /// [default: everywhere but link-local addresses]
    #[arg(
        long = "allow-registry",
        env = "DOCKWRIGHT_ALLOW_REGISTRY",
        value_name = "HOST|ADDRESS|NETWORK",
        value_delimiter = ','
    )]
    pub allow_registry: Option<Vec<Outlet>>,
    /// The pause after the first try of a webhook's delivery; later ones are longer, up to 6h [default: 5s]
    #[arg(long, env = "DOCKWRIGHT_WEBHOOK_RETRY", value_name = "TIME")]
    pub webhook_retry: Option<Span>,
    /// A webhook to which nothing could be delivered for this long is disabled [default: 3d]
    #[arg(long, env = "DOCKWRIGHT_WEBHOOK_DISABLE_AFTER", value_name = "TIME")]
    pub webhook_disable_after: Option<Span>,
    /// Longest time that a git source may take to fetch, at most 30m [default: 5m]
    #[arg(long, env = "DOCKWRIGHT_GIT_TIMEOUT", value_name = "TIME")]
    pub git_timeout: Option<Span>,
    /// File with the certificates, in PEM, of the authorities that git servers are trusted by, in place of this machine's own
    #[arg(long, env = "DOCKWRIGHT_GIT_CA", value_name = "FILE")]
    pub git_ca: Option<PathBuf>,
    /// Git sources that are fetched at once; one account has half of them at most [default: 4]
    #[arg(long, env = "DOCKWRIGHT_MAX_FETCHES", value_name = "N")]
    pub max_fetches: Option<u16>,
    /// A registry that does not move a push for this long is given up [default: 60s]
    #[arg(long, env = "DOCKWRIGHT_PUSH_STALL", value_name = "TIME")]
    pub push_stall: Option<Span>,
    /// Builds without credentials may use this host's own `docker login` for the registry they push to
    #[arg(long, env = "DOCKWRIGHT_HOST_CREDENTIALS", num_args = 0..=1, default_missing_value = "true")]
    pub host_credentials: Option<bool>,
    /// File with the key that seals credentials, made at the first start [default: DATA_DIR/key]
    #[arg(long, env = "DOCKWRIGHT_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The key itself, 32 bytes in base64: from `DOCKWRIGHT_KEY` or the TOML file, never a flag.
    #[arg(skip)]
    pub key: Option<SecretString>,
    /// Intake stops when the disk has less room than this [default: 512m]
    #[arg(long, env = "DOCKWRIGHT_MIN_FREE_DISK", value_name = "BYTES")]
    pub min_free_disk: Option<Bytes>,
    /// Proxies (addresses or networks) whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed
    #[arg(long = "trusted-proxy", env = "DOCKWRIGHT_TRUSTED_PROXIES", value_name = "ADDRESS|NETWORK", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<Network>>,
    /// Names under which browsers may use sessions, besides localhost and addresses
    #[arg(long = "public-host", env = "DOCKWRIGHT_PUBLIC_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub public_hosts: Option<Vec<String>>,
    /// Speak TLS with the certificates in this PEM file
    #[arg(long, env = "DOCKWRIGHT_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, env = "DOCKWRIGHT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Ports of the host that containers may have [default: 20000-29999]
    #[arg(long, env = "DOCKWRIGHT_HOST_PORTS", value_name = "FIRST-LAST")]
    pub host_ports: Option<PortRange>,
    /// Address of the host that containers' ports are published on [default: 127.0.0.1]
    #[arg(long, env = "DOCKWRIGHT_PUBLISH_ADDRESS", value_name = "ADDRESS")]
    pub publish_address: Option<IpAddr>,
    /// Memory of a container that asks for none [default: 512m]
    #[arg(long, env = "DOCKWRIGHT_CONTAINER_MEMORY", value_name = "BYTES")]
    pub container_memory: Option<Bytes>,
    /// Most memory that a container may ask for [default: 4g]
    #[arg(long, env = "DOCKWRIGHT_MAX_CONTAINER_MEMORY", value_name = "BYTES")]
    pub max_container_memory: Option<Bytes>,
    /// CPUs of a container that asks for none [default: 1]
    #[arg(long, env = "DOCKWRIGHT_CONTAINER_CPUS", value_name = "N")]
    pub container_cpus: Option<Cpus>,
    /// Most CPUs that a container may ask for [default: 4, or what this machine has]
    #[arg(long, env = "DOCKWRIGHT_MAX_CONTAINER_CPUS", value_name = "N")]
    pub max_container_cpus: Option<Cpus>,
    /// Most processes that a container may ask for; without asking it has 256 [default: 4096]
    #[arg(long, env = "DOCKWRIGHT_MAX_CONTAINER_PIDS", value_name = "N")]
    pub max_container_pids: Option<u64>,
    /// Folders of the host below which admins may mount into containers [default: none]
    #[arg(long = "bind-root", env = "DOCKWRIGHT_BIND_ROOTS", value_name = "DIR", value_delimiter = ',')]
    pub bind_roots: Option<Vec<PathBuf>>,
    /// How long a terminal's process waits for somebody to come back to it [default: 60s]
    #[arg(long, env = "DOCKWRIGHT_TERMINAL_KEEP", value_name = "TIME")]
    pub terminal_keep: Option<Span>,
    /// Newest builds that are kept of each project that no rule of its owner's is for [default: all]
    #[arg(long, env = "DOCKWRIGHT_KEEP_BUILDS", value_name = "N")]
    pub keep_builds: Option<u64>,
    /// How many days ended builds are kept of projects that no rule of their owner's is for [default: for ever]
    #[arg(long, env = "DOCKWRIGHT_KEEP_DAYS", value_name = "DAYS")]
    pub keep_days: Option<u64>,
    /// Whether the engine keeps images that were published, of projects that no rule of their owner's is for [default: true]
    #[arg(long, env = "DOCKWRIGHT_KEEP_LOCAL_IMAGES", value_name = "true|false")]
    pub keep_local_images: Option<bool>,
    /// A disk that is fuller than this, in percent, is cleaned of old caches, uploads and images of builds; 100: never [default: 85]
    #[arg(long, env = "DOCKWRIGHT_DISK_HIGH", value_name = "PERCENT")]
    pub disk_high: Option<u8>,
    /// Until it is this full [default: 80]
    #[arg(long, env = "DOCKWRIGHT_DISK_LOW", value_name = "PERCENT")]
    pub disk_low: Option<u8>,
    /// Newest runs that are kept of an app, and of an owner's without one; older ones go when they are over [default: 200]
    #[arg(long, env = "DOCKWRIGHT_KEEP_RUNS", value_name = "N")]
    pub keep_runs: Option<u64>,
    /// How long pieces of contexts that no build uses any more are kept, for the next upload to be small [default: 7d]
    #[arg(long, env = "DOCKWRIGHT_KEEP_BLOBS", value_name = "TIME")]
    pub keep_blobs: Option<Span>,
    /// How long the log of an ended build stays in the store before its archive alone serves it [default: 10m]
    #[arg(long, env = "DOCKWRIGHT_KEEP_HOT_LOG", value_name = "TIME")]
    pub keep_hot_log: Option<Span>,
    /// [default: text]
    #[arg(long, env = "DOCKWRIGHT_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Level of the service's own log, as for `RUST_LOG` [default: info]
    #[arg(long, env = "DOCKWRIGHT_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<String>,
}

/// What a process does.
#[derive(clap::ValueEnum, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, in one process.
    All,
    /// The HTTP server alone.
    Api,
    /// Builds alone.
    Worker,
}

impl Role {
    #[must_use]
    pub fn serves(self) -> bool {
        self != Self::Worker
    }

    #[must_use]
    pub fn works(self) -> bool {
        self != Self::Api
    }
}

#[derive(clap::ValueEnum, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// The settings in force.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    #[serde(serialize_with = "masked_url")]
    pub store: StoreUrl,
    pub store_prefix: String,
    pub role: Role,
    pub engine: Option<String>,
    pub workers: u32,
    pub max_upload: Bytes,
    pub max_context: Bytes,
    pub max_entries: u64,
    pub build_timeout: Span,
    pub max_build_timeout: Span,
    pub max_memory: Bytes,
    pub max_cpus: Cpus,
    pub max_log: Bytes,
    pub lease: Span,
    pub drain: Span,
    pub allow_egress: Vec<Outlet>,
    /// `None`: everywhere but link-local addresses.
    pub allow_registry: Option<Vec<Outlet>>,
    pub webhook_retry: Span,
    pub webhook_disable_after: Span,
    pub git_timeout: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_ca: Option<PathBuf>,
    pub max_fetches: u16,
    pub push_stall: Span,
    pub host_credentials: bool,
    pub key_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "masked")]
    pub key: Option<SecretString>,
    pub min_free_disk: Bytes,
    pub trusted_proxies: Vec<Network>,
    pub public_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    pub host_ports: PortRange,
    pub publish_address: IpAddr,
    pub container_memory: Bytes,
    pub max_container_memory: Bytes,
    pub container_cpus: Cpus,
    pub max_container_cpus: Cpus,
    pub max_container_pids: u64,
    pub bind_roots: Vec<PathBuf>,
    pub terminal_keep: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_builds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u64>,
    pub keep_local_images: bool,
    pub disk_high: u8,
    pub disk_low: u8,
    pub keep_runs: u64,
    pub keep_blobs: Span,
    pub keep_hot_log: Span,
    pub log_format: LogFormat,
    pub log_level: String,
}

/// Variables of ours that are no settings of the server: clients, tests and scripts read them.
const FOREIGN: [&str; 5] = ["DOCKWRIGHT_URL", "DOCKWRIGHT_TOKEN", "DOCKWRIGHT_CA_FILE", "DOCKWRIGHT_STATE", "DOCKWRIGHT_CONFIG"];

impl Settings {
    /// Flags and environment over the file over the defaults.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or two settings contradict.
    pub fn resolve(self, file: Option<&Path>) -> anyhow::Result<Config> {
        refuse_unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
        let file = file.map(read_file).transpose()?.unwrap_or_default();
        let key = std::env::var("DOCKWRIGHT_KEY").ok().map(SecretString::from).or(self.key).or(file.key);
        macro_rules! pick {
            ($name:ident, $default:expr) => {
                self.$name.or(file.$name).unwrap_or_else(|| $default)
            };
        }
        let data_dir = pick!(data_dir, "dockwright-data".into());
        let cores = std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2));
        let max_container_memory = pick!(max_container_memory, Bytes(4 << 30));
        let max_container_cpus = pick!(max_container_cpus, Cpus(1000 * u64::from(cores.min(4))));
        let config = Config {
            listen: pick!(listen, SocketAddr::from(([127, 0, 0, 1], 8080))),
            store: store_url(&pick!(store, "sqlite".into()))?,
            store_prefix: pick!(store_prefix, "dockwright".into()),
            role: pick!(role, Role::All),
            engine: self.engine.or(file.engine).or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())),
            workers: pick!(workers, cores),
            max_upload: pick!(max_upload, Bytes(1 << 30)),
            max_context: pick!(max_context, Bytes(1 << 30)),
            max_entries: pick!(max_entries, 100_000),
            build_timeout: pick!(build_timeout, Span(Duration::from_secs(30 * 60))),
            max_build_timeout: pick!(max_build_timeout, Span(Duration::from_secs(2 * 3600))),
            max_memory: pick!(max_memory, Bytes(4 << 30)),
            max_cpus: pick!(max_cpus, Cpus(4000)),
            max_log: pick!(max_log, Bytes(16 << 20)),
            lease: pick!(lease, Span(Duration::from_secs(15))),
            drain: pick!(drain, Span(Duration::from_secs(30))),
            allow_egress: pick!(allow_egress, Vec::new()),
            allow_registry: self.allow_registry.or(file.allow_registry),
            webhook_retry: pick!(webhook_retry, Span(Duration::from_secs(5))),
            webhook_disable_after: pick!(webhook_disable_after, Span(Duration::from_secs(3 * 24 * 3600))),
            git_timeout: pick!(git_timeout, Span(Duration::from_secs(300))),
            git_ca: self.git_ca.or(file.git_ca),
            max_fetches: pick!(max_fetches, 4),
            push_stall: pick!(push_stall, Span(Duration::from_secs(60))),
            host_credentials: pick!(host_credentials, false),
            key_file: self.key_file.or(file.key_file).unwrap_or_else(|| data_dir.join("key")),
            key,
            min_free_disk: pick!(min_free_disk, Bytes(512 << 20)),
            trusted_proxies: pick!(trusted_proxies, Vec::new()),
            public_hosts: pick!(public_hosts, Vec::new()),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            host_ports: pick!(host_ports, PortRange::new(20_000, 29_999).expect("a range, because the first is less")),
            publish_address: pick!(publish_address, IpAddr::from([127, 0, 0, 1])),
            container_memory: pick!(container_memory, Bytes(512 << 20).min(max_container_memory)),
            max_container_memory,
            container_cpus: pick!(container_cpus, Cpus(1000).min(max_container_cpus)),
            max_container_cpus,
            max_container_pids: pick!(max_container_pids, 4096),
            bind_roots: pick!(bind_roots, Vec::new()),
            terminal_keep: pick!(terminal_keep, Span(Duration::from_secs(60))),
            keep_builds: self.keep_builds.or(file.keep_builds),
            keep_days: self.keep_days.or(file.keep_days),
            keep_local_images: pick!(keep_local_images, true),
            disk_high: pick!(disk_high, 85),
            disk_low: pick!(disk_low, 80),
            keep_runs: pick!(keep_runs, 200),
            keep_blobs: pick!(keep_blobs, Span(Duration::from_secs(7 * 24 * 3600))),
            keep_hot_log: pick!(keep_hot_log, Span(Duration::from_secs(600))),
            log_format: pick!(log_format, LogFormat::Text),
            log_level: pick!(log_level, "info".into()),
            data_dir,
        };
        config.check()?;
        Ok(config)
    }
}

fn read_file(path: &Path) -> anyhow::Result<Settings> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // Of the line only the key, where the whole error would quote all of it: it may hold a password.
        let before = &text[..error.span().map_or(0, |span| span.start)];
        let number = before.matches('\n').count() + 1;
        let key = text.lines().nth(number - 1).and_then(|line| line.split_once('=')).map(|(key, _)| format!("{}: ", key.trim()));
        anyhow::anyhow!(
            "in the configuration file {}, line {number}: {}{}",
            path.display(),
            key.unwrap_or_default(),
            error.message()
        )
    })
}

fn refuse_unknown_variables(names: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let command = <Settings as clap::Args>::augment_args(clap::Command::new("dockwright"));
    let known: Vec<&str> =
        command.get_arguments().filter_map(|a| a.get_env()?.to_str()).chain(["DOCKWRIGHT_KEY"]).chain(FOREIGN).collect();
    for name in names.filter(|n| n.starts_with("DOCKWRIGHT_") && !n.starts_with("DOCKWRIGHT_TEST_")) {
        if !known.contains(&name.as_str()) {
            bail!("the environment variable {name} is no setting; `dockwright serve --help` lists them");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
