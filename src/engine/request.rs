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
    /// The container's name; its host name too, unless it is an app's.
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
/// [`Error::Internal`] when a secret value, or the engine's name of a volume or of the network, was not handed in: nothing is left
/// out silently.
pub fn request(spec: &ContainerSpec, secrets: &SecretEnv, place: Placement<'_>) -> Result<CreateContainer> {
    let network = network(spec, &place)?;
    let hostname = place.app.map_or(place.name, ObjectName::as_str);
    let hostname: String = hostname.chars().take(HOSTNAME_BYTES).collect();
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::{AdminOnly, Bind, BuildId, Healthcheck, ImageSource, Port, Protocol, RestartPolicy, VolumeMount};

    fn spec() -> ContainerSpec {
        ContainerSpec {
            image: ImageSource::Build(BuildId::new()),
            command: vec!["httpd".into(), "-f".into()],
            entrypoint: vec!["/init".into()],
            env: [("MODE".into(), EnvValue::Plain("test".into())), ("TOKEN".into(), EnvValue::Secret)].into(),
            ports: vec![
                Port { container: 80, protocol: Protocol::Tcp, host: Some(20_080) },
                Port { container: 53, protocol: Protocol::Udp, host: None },
            ],
            volumes: vec![VolumeMount { volume: "data".parse().expect("a name"), path: "/data".into(), read_only: true }],
            network: NetworkChoice::Default,
            memory_bytes: 64 << 20,
            milli_cpus: 500,
            pids: 99,
            restart: RestartPolicy::OnFailure(3),
            user: Some("1000".into()),
            workdir: Some("/srv".into()),
            read_only: true,
            tty: true,
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                interval_ms: Some(5000),
                timeout_ms: None,
                start_period_ms: None,
                retries: Some(2),
            }),
            // A record of an older version may hold what would be refused now.
            labels: [("team".into(), "blue".into()), (OWNER.into(), "root".into()), (RUN.into(), "x".into())].into(),
            admin: AdminOnly::default(),
        }
    }

    fn made(
        spec: &ContainerSpec,
        secrets: &SecretEnv,
        volumes: &[(&str, &str)],
        network: Option<&str>,
    ) -> Result<CreateContainer> {
        let volumes = volumes.iter().map(|(name, engine)| (name.parse().expect("a name"), (*engine).to_owned())).collect();
        let (owner, app) = ("ada".parse().expect("an owner"), "web".parse().expect("a name"));
        let place = Placement {
            name: "brave-otter",
            image: format!("sha256:{}", "a".repeat(64)).parse().expect("a digest"),
            installation: "here",
            owner: &owner,
            run: RunId::new(),
            app: Some(&app),
            volumes: &volumes,
            network,
            aliases: vec!["web".into()],
            publish_on: IpAddr::from([127, 0, 0, 1]),
            host_ports: 20_000..=29_999,
        };
        request(spec, secrets, place)
    }

    fn secrets() -> SecretEnv {
        let mut secrets = SecretEnv::default();
        secrets.insert("TOKEN", SecretString::from("s3cret"));
        secrets.insert("OTHER", SecretString::from("not asked for"));
        secrets
    }

    const VOLUMES: [(&str, &str); 2] = [("data", "engine-data"), ("unused", "engine-unused")];

    #[test]
    fn each_field_of_a_spec_has_its_place_in_the_request() {
        let wanted = spec();
        let made = made(&wanted, &secrets(), &VOLUMES, Some("engine-net")).expect("complete");
        assert_eq!((made.command, made.entrypoint), (wanted.command, wanted.entrypoint));
        let env: Vec<(&str, &str)> = made.env.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(env, [("MODE", "test"), ("TOKEN", "s3cret")]);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let ports: Vec<_> = made.ports.iter().map(|p| (p.container, p.protocol, p.address, p.host)).collect();
        let free = (20_000, 29_999);
        assert_eq!(ports, [(80, Protocol::Tcp, loopback, (20_080, 20_080)), (53, Protocol::Udp, loopback, free)]);
        let volume = EngineMount::Volume { name: "engine-data".into(), path: "/data".into(), read_only: true };
        assert_eq!(made.mounts, [volume]);
        assert_eq!((made.network.as_deref(), made.aliases), (Some("engine-net"), vec!["web".to_owned()]));
        assert_eq!((made.memory_bytes, made.milli_cpus, made.pids), (64 << 20, 500, 99));
        assert_eq!((made.restart, made.healthcheck), (wanted.restart, wanted.healthcheck));
        assert_eq!((made.user, made.workdir, made.read_only, made.tty), (wanted.user, wanted.workdir, true, true));
        assert_eq!((made.name.as_str(), made.hostname.as_str()), ("brave-otter", "web"));
    }

    #[test]
    fn the_reserved_labels_are_ours_whatever_a_spec_says() {
        let labels = made(&spec(), &secrets(), &VOLUMES, Some("net")).expect("complete").labels;
        let told: Vec<&str> = ["team", OWNER, INSTALLATION, APP].iter().map(|key| labels[*key].as_str()).collect();
        assert_eq!(told, ["blue", "ada", "here", "web"]);
        assert!(labels[RUN].parse::<RunId>().is_ok() && labels.len() == 5, "{labels:?}");
    }

    #[test]
    fn nothing_that_was_asked_for_is_left_out_silently() {
        assert!(made(&spec(), &SecretEnv::default(), &VOLUMES, Some("net")).is_err(), "a secret's value");
        assert!(made(&spec(), &secrets(), &[], Some("net")).is_err(), "a volume");
        assert!(made(&spec(), &secrets(), &VOLUMES, None).is_err(), "the network");
        let alone = ContainerSpec { network: NetworkChoice::None, ports: Vec::new(), ..spec() };
        let alone = made(&alone, &secrets(), &VOLUMES, Some("net")).expect("complete");
        assert_eq!((alone.network, alone.aliases.len()), (None, 0), "no network was wanted, whatever there is");
    }

    #[test]
    fn what_admins_ask_for_is_passed_on() {
        let bind = Bind { source: "/srv/x".into(), path: "/x".into(), read_only: false };
        let publish_on = Some(IpAddr::from([0, 0, 0, 0]));
        let given = ContainerSpec { admin: AdminOnly { binds: vec![bind], publish_on }, ..spec() };
        let made = made(&given, &secrets(), &VOLUMES, Some("net")).expect("complete");
        assert_eq!(made.mounts[1], EngineMount::Bind { source: "/srv/x".into(), path: "/x".into(), read_only: false });
        assert!(made.ports.iter().all(|port| Some(port.address) == publish_on));
    }
}
