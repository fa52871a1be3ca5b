//! From a checked spec to what the engine is asked: field by field, nothing passed through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use secrecy::SecretString;

use super::containers::{APP, CreateContainer, EngineMount, INSTALLATION, OWNER, PublishedPort, RUN};
use crate::domain::{ContainerSpec, Digest, EnvValue, NetworkChoice, ObjectName, Owner, RunId, SecretEnv};
use crate::error::{Error, Result};

/// Longest host name (Linux `HOST_NAME_MAX` is 64, one part of a name in the DNS 63).
const HOSTNAME_BYTES: usize = 63;

/// What a spec does not say of one container that is made from it.
pub struct Placement<'a> {
    /// The container's name; its host name too.
    pub name: &'a str,
    /// The image's id, looked up on the engine.
    pub image: Digest,
    pub installation: &'a str,
    pub owner: &'a Owner,
    pub run: RunId,
    pub app: Option<&'a ObjectName>,
    /// The engine's names of the owner's volumes; at least of those that the spec mounts.
    pub volumes: &'a BTreeMap<ObjectName, String>,
    /// The engine's name of the chosen network; not used where the spec wants none.
    pub network: Option<&'a str>,
    /// Other names of the container in that network.
    pub aliases: Vec<String>,
    /// The address of the host that ports are published on, unless an admin has chosen another in the spec.
    pub publish_on: IpAddr,
    /// The ports of the host of which the engine takes a free one where the spec names none.
    pub host_ports: RangeInclusive<u16>,
}

/// What the engine is to be asked for.
///
/// # Errors
/// [`Error::Internal`] when a secret value, or the engine's name of a volume or of the network, was not handed in: nothing is left out silently.
pub fn request(spec: &ContainerSpec, secrets: &SecretEnv, place: Placement<'_>) -> Result<CreateContainer> {
    let network = network(spec, &place)?;
    let hostname: String = place.name.chars().take(HOSTNAME_BYTES).collect();
    Ok(CreateContainer {
        env: env(spec, secrets)?,
        labels: labels(spec, &place),
        ports: ports(spec, &place),
        mounts: mounts(spec, &place)?,
        aliases: if network.is_some() { place.aliases } else { Vec::new() },
        network,
        name: place.name.to_owned(),
        image: place.image,
        command: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        user: spec.user.clone(),
        workdir: spec.workdir.clone(),
        hostname: hostname.trim_end_matches('-').to_owned(),
        tty: spec.tty,
        read_only: spec.read_only,
        memory_bytes: spec.memory_bytes,
        milli_cpus: spec.milli_cpus,
        pids: spec.pids,
        restart: spec.restart,
        healthcheck: spec.healthcheck.clone(),
    })
}

fn missing(what: &str, name: &str) -> Error {
    Error::internal(anyhow::anyhow!("{what} of {name} was not handed in"))
}

fn env(spec: &ContainerSpec, secrets: &SecretEnv) -> Result<Vec<(String, SecretString)>> {
    let value = |name: &str, value: &EnvValue| match value {
        EnvValue::Plain(text) => Ok(SecretString::from(text.clone())),
        EnvValue::Secret => secrets.get(name).cloned().ok_or_else(|| missing("the secret value", name)),
    };
    spec.env.iter().map(|(name, given)| Ok((name.clone(), value(name, given)?))).collect()
}

/// The owner's, and ours over them.
fn labels(spec: &ContainerSpec, place: &Placement<'_>) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    let app = place.app.map(|name| (APP, name.to_string()));
    let ours = [(INSTALLATION, place.installation.to_owned()), (OWNER, place.owner.to_string()), (RUN, place.run.to_string())];
    labels.extend(ours.into_iter().chain(app).map(|(key, value)| (key.to_owned(), value)));
    labels
}

fn ports(spec: &ContainerSpec, place: &Placement<'_>) -> Vec<PublishedPort> {
    let address = spec.admin.publish_on.unwrap_or(place.publish_on);
    let free = (*place.host_ports.start(), *place.host_ports.end());
    let published = spec.ports.iter().map(|port| PublishedPort {
        container: port.container,
        protocol: port.protocol,
        address,
        host: port.host.map_or(free, |host| (host, host)),
    });
    published.collect()
}

fn mounts(spec: &ContainerSpec, place: &Placement<'_>) -> Result<Vec<EngineMount>> {
    let volumes = spec.volumes.iter().map(|mount| {
        let name = place.volumes.get(&mount.volume).ok_or_else(|| missing("the engine's name", mount.volume.as_str()))?;
        Ok(EngineMount::Volume { name: name.clone(), path: mount.path.clone(), read_only: mount.read_only })
    });
    let binds =
        spec.admin.binds.iter().map(|bind| {
            Ok(EngineMount::Bind { source: bind.source.clone(), path: bind.path.clone(), read_only: bind.read_only })
        });
    volumes.chain(binds).collect()
}

fn network(spec: &ContainerSpec, place: &Placement<'_>) -> Result<Option<String>> {
    let wanted = match &spec.network {
        NetworkChoice::None => return Ok(None),
        NetworkChoice::Default => "default",
        NetworkChoice::Named(name) => name.as_str(),
    };
    place.network.map(|name| Some(name.to_owned())).ok_or_else(|| missing("the engine's name of the network", wanted))
}
