//! The engine traits on a Docker Engine, through bollard where bollard is sound and raw HTTP where it is not.
//!
//! ```text
//! transport   one connection per request over the unix socket or TCP; API version negotiated, again after a break
//! session     BuildKit's callbacks (health, credentials) served on an upgraded connection
//! build       POST /build, its stream decoded by trace (BuildKit) or classic
//! images      tags, ids, clean-up                         (bollard's typed calls, over our transport)
//! push        POST /images/…/push and /distribution/…
//! errors      the engine's texts, sorted into kinds and codes (container_errors: those of containers and pulls)
//!
//! calls       plain requests of JSON
//! containers  start, stop, remove …;  create: the request for one, field by field;  summaries: what is told of them
//! output      /containers/…/logs, its messages cut into lines by cutter;  stats, events: the other streams
//! exec        a process in a container, over an upgraded connection;  endings: how it is ended for sure
//! volumes  networks  library                                          (library: pulls, and the images there are)
//! ```
//!
//! Build, session, push and distribution are raw, because bollard 0.21.1 leaks a connection and a task per BuildKit
//! build, hides the progress of a push, takes memory limits as 32 bits, and writes the credentials' headers in
//! an alphabet that the engine refuses. Everything of containers is raw, too: its types lag behind or run ahead of the engines' answers, its
//! decoder of a terminal stalls on bytes 0 to 2, and one time limit for all calls would cut a slow stop short.

mod build;
mod calls;
mod classic;
mod container_errors;
mod containers;
mod create;
mod cutter;
mod endings;
mod entrusted;
mod errors;
mod events;
mod exec;
mod images;
mod keyring;
mod leftovers;
mod library;
mod lines;
mod networks;
mod output;
mod push;
mod session;
mod stats;
mod stream;
mod summaries;
mod trace;
mod transport;
mod volumes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{Engine, EngineInfo, Result};
use crate::domain::{BuilderKind, NodeId};
use errors::{from_bollard, unavailable};
use leftovers::Leftovers;
use transport::Transport;

/// Where the engine listens when nobody says otherwise.
pub const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to say who it is.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take over an inspect, a tag or a removal (a removal deletes layers from the disk).
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A Docker Engine (or what speaks its API). Cheap to clone; connects anew for each request.
#[derive(Clone)]
pub struct Docker {
    transport: Arc<Transport>,
    /// Typed calls; they go over `transport` too.
    typed: bollard::Docker,
    /// Set once the engine has answered a session with 101; forgotten when the connection breaks.
    has_session: Arc<AtomicBool>,
    leftovers: Arc<Leftovers>,
    /// Held for reading by each removal of a tag: see [`Docker::size_of_built`].
    removals: Arc<tokio::sync::RwLock<()>>,
    /// Held during a walk through the engine's files, of which it refuses a second.
    walks: Arc<tokio::sync::Mutex<()>>,
    /// Held while a network is made or removed: the engine itself makes two of the same name when two ask at once.
    networks: Arc<tokio::sync::Mutex<()>>,
    marks: Arc<endings::Marks>,
}

impl Docker {
    /// An engine at `unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`; `None` is [`DEFAULT_ADDRESS`].
    /// Nothing is connected yet: the engine may be down now and come back.
    ///
    /// # Errors
    /// When the address is of another form (TLS and ssh are not supported).
    pub fn connect(address: Option<&str>) -> Result<Self> {
        let transport = Arc::new(Transport::new(address.unwrap_or(DEFAULT_ADDRESS).parse()?));
        let typed = transport::typed_client(Arc::clone(&transport), CALL_TIMEOUT)?;
        Ok(Self {
            transport,
            typed,
            has_session: Arc::default(),
            leftovers: Arc::default(),
            removals: Arc::default(),
            walks: Arc::default(),
            networks: Arc::default(),
            marks: Arc::default(),
        })
    }

    async fn serves_sessions(&self) -> Result<bool> {
        if self.has_session.load(Ordering::Relaxed) && self.transport.is_negotiated() {
            return Ok(true);
        }
        let answered = session::probe(&self.transport).await?;
        self.has_session.store(answered, Ordering::Relaxed);
        Ok(answered)
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo> {
        let info = tokio::time::timeout(INFO_TIMEOUT, self.typed.info())
            .await
            .map_err(|_| unavailable(format!("the engine did not answer within {} s", INFO_TIMEOUT.as_secs())))?
            .map_err(from_bollard)?;
        Ok(EngineInfo {
            node: NodeId::new(info.id.unwrap_or_default()),
            version: info.server_version.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
            architecture: docker_architecture(&info.architecture.unwrap_or_default()).to_owned(),
            storage_driver: info.driver.unwrap_or_default(),
            data_root: info.docker_root_dir.map(Into::into),
            insecure_registries: info.registry_config.map(insecure).unwrap_or_default(),
        })
    }

    async fn choose_builder(&self, limits: bool) -> Result<BuilderKind> {
        // BuildKit ignores memory and CPU limits of the build call.
        if !limits && self.serves_sessions().await? { Ok(BuilderKind::Buildkit) } else { Ok(BuilderKind::Classic) }
    }
}

/// Hosts and networks without TLS verification; 127.0.0.0/8 always is one, and is left out.
fn insecure(config: bollard::models::RegistryServiceConfig) -> Vec<String> {
    let networks = config.insecure_registry_cidrs.unwrap_or_default();
    let hosts = config.index_configs.unwrap_or_default();
    let hosts = hosts.into_iter().filter(|(_, index)| index.secure == Some(false)).map(|(host, _)| host);
    let mut all: Vec<String> = networks.into_iter().filter(|network| network != "127.0.0.0/8").chain(hosts).collect();
    all.sort();
    all
}

/// The name that image platforms use (`amd64`) for the one that the kernel uses (`x86_64`).
fn docker_architecture(kernel: &str) -> &str {
    match kernel {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        "i686" | "i386" => "386",
        other => other,
    }
}
