//! From what a run is to be to what the engine is told.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::FleetSettings;
use crate::domain::{Digest, EnvValue, ObjectName, Run, SecretEnv};
use crate::engine::containers::{APP, CreateContainer, EngineMount, IMAGE, INSTALLATION, OWNER, PublishedPort, RUN};

/// What the run's names mean on this engine.
pub(super) struct Found {
    pub image: Digest,
    pub network: Option<String>,
    pub volumes: BTreeMap<ObjectName, String>,
    /// The values of its secret variables.
    pub secrets: SecretEnv,
}

/// Field by field: what is not named here does not reach the engine.
pub(super) fn request(run: &Run, found: Found, settings: &FleetSettings) -> CreateContainer {
    let spec = &run.spec;
    let env = spec.env.iter().filter_map(|(name, value)| match value {
        EnvValue::Plain(value) => Some((name.clone(), SecretString::from(value.clone()))),
        EnvValue::Secret => Some((name.clone(), found.secrets.get(name)?.clone())),
    });
    CreateContainer {
        name: run.name.clone(),
        env: env.collect(),
        image: found.image,
        command: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        labels: labels(run, settings),
        user: spec.user.clone(),
        workdir: spec.workdir.clone(),
        hostname: run.app.as_ref().map_or(run.name.as_str(), |app| app.name.as_str()).chars().take(63).collect(),
        tty: spec.tty,
        read_only: spec.read_only,
        memory_bytes: spec.memory_bytes,
        milli_cpus: spec.milli_cpus,
        pids: spec.pids,
        restart: spec.restart,
        healthcheck: spec.healthcheck.clone(),
        ports: ports(run, settings),
        mounts: mounts(run, &found.volumes),
        network: found.network,
        aliases: run.app.iter().map(|app| app.name.to_string()).collect(),
    }
}

/// Ours stand above the owner's, whatever those are called.
fn labels(run: &Run, settings: &FleetSettings) -> BTreeMap<String, String> {
    let mut labels = run.spec.labels.clone();
    labels.insert(INSTALLATION.into(), settings.installation.clone());
    labels.insert(OWNER.into(), run.owner.to_string());
    labels.insert(RUN.into(), run.id.to_string());
    if let Some(image) = &run.image {
        labels.insert(IMAGE.into(), image.clone());
    }
    if let Some(app) = &run.app {
        labels.insert(APP.into(), app.name.to_string());
    }
    labels
}

fn ports(run: &Run, settings: &FleetSettings) -> Vec<PublishedPort> {
    let address = run.spec.admin.publish_on.unwrap_or(settings.publish_address);
    let published = run.spec.ports.iter().map(|port| PublishedPort {
        container: port.container,
        protocol: port.protocol,
        address,
        host: port.host.map_or(settings.host_ports, |host| (host, host)),
    });
    published.collect()
}

fn mounts(run: &Run, volumes: &BTreeMap<ObjectName, String>) -> Vec<EngineMount> {
    let own = run.spec.volumes.iter().filter_map(|mount| {
        let name = volumes.get(&mount.volume)?.clone();
        Some(EngineMount::Volume { name, path: mount.path.clone(), read_only: mount.read_only })
    });
    let binds = run.spec.admin.binds.iter().map(|bind| EngineMount::Bind {
        source: bind.source.clone(),
        path: bind.path.clone(),
        read_only: bind.read_only,
    });
    own.chain(binds).collect()
}
