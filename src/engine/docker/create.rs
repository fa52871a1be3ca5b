//! `POST /containers/create`: the request for a container, field by field, with what no caller can turn off.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Docker;
use super::calls::part;
use super::errors::Refused;
use crate::domain::{ErrorKind, Healthcheck, RestartPolicy};
use crate::engine::containers::{APP, CreateContainer, EngineMount, INSTALLATION, OWNER, PublishedPort, RUN};
use crate::engine::{EngineError, Result};

/// All that is given back after every capability was taken. Of Docker's usual fourteen:
///
/// - `CHOWN DAC_OVERRIDE FOWNER`: images that begin as root and hand their data to another user (postgres, mysql, redis);
/// - `SETGID SETUID`: the same, as they become that user (gosu, su-exec), and servers with workers of another user (nginx);
/// - `KILL`: the root of such a server ends its workers;
/// - `NET_BIND_SERVICE`: a program whose file has this capability does not even start without it (caddy).
///
/// Left out are `AUDIT_WRITE FSETID MKNOD NET_RAW SETFCAP SETPCAP SYS_CHROOT`: `ping` works without `NET_RAW` (the engine opens
/// `net.ipv4.ping_group_range`); an ssh or ftp server that locks itself in (`SYS_CHROOT`) does not.
pub(super) const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];
/// The engine keeps this much of the output of each container, compressed.
const LOG_FILE_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// The first API with control-group namespaces for containers.
const CGROUP_NAMESPACES: (u32, u32) = (1, 41);
/// The first API with a time between the checks of a container that has just started, and that time: Docker's own.
const START_INTERVALS: (u32, u32) = (1, 44);
const START_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

impl Docker {
    pub(super) async fn create_container(&self, request: CreateContainer) -> Result<String> {
        for mount in &request.mounts {
            // The engine would make a missing one, without our labels.
            if let EngineMount::Volume { name, .. } = mount {
                self.must_have_volume(name).await?;
            }
        }
        let body = body(&request, self.transport.api().await?);
        let made: Result<Value, Refused> = self.post(&format!("/containers/create?name={}", part(&request.name)), &body).await;
        let made = made?;
        made["Id"].as_str().map(str::to_owned).ok_or_else(|| super::errors::fault("the engine made a container without an id"))
    }

    async fn must_have_volume(&self, name: &str) -> Result<()> {
        let found: Option<Value> = self.find(&format!("/volumes/{}", part(name))).await?;
        found.map(|_| ()).ok_or_else(|| EngineError {
            kind: ErrorKind::User,
            code: "volume_not_found",
            message: format!("no such volume: {name}"),
            dockerfile_line: None,
            transient: false,
        })
    }
}

fn body(request: &CreateContainer, api: (u32, u32)) -> Value {
    let ports = request.ports.iter().map(|port| (key(port), json!({})));
    let mut body = json!({
        "Image": request.image.as_str(),
        "Hostname": request.hostname,
        "Env": request.env.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect::<Vec<_>>(),
        "Labels": labels(&request.labels),
        "Tty": request.tty,
        // With a terminal and a closed input a shell ends at once, as it does in `docker run -t`.
        "OpenStdin": false,
        "ExposedPorts": ports.collect::<Map<_, _>>(),
        "HostConfig": host(request, api),
    });
    let mut set = |field: &str, value: Value| body[field] = value;
    if !request.command.is_empty() {
        set("Cmd", json!(request.command));
    }
    if !request.entrypoint.is_empty() {
        set("Entrypoint", json!(request.entrypoint));
    }
    if let Some(user) = &request.user {
        set("User", json!(user));
    }
    if let Some(folder) = &request.workdir {
        set("WorkingDir", json!(folder));
    }
    if let Some(check) = &request.healthcheck {
        set("Healthcheck", health(check, api));
    }
    if let Some(network) = &request.network {
        set("NetworkingConfig", json!({"EndpointsConfig": {network: {"Aliases": request.aliases}}}));
    }
    body
}

/// Ours are always set: an image's own labels come with its containers, and must not speak for us.
fn labels(given: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let empty = [INSTALLATION, OWNER, RUN, APP].map(|label| (label, ""));
    let given = given.iter().map(|(label, value)| (label.as_str(), value.as_str()));
    empty.into_iter().chain(given).collect()
}

/// What binds the container to its host: the whole of it, so that nothing else of the engine's `HostConfig` is ever set.
fn host(request: &CreateContainer, api: (u32, u32)) -> Value {
    let mut host = json!({
        "Privileged": false,
        "CapDrop": ["ALL"],
        "CapAdd": CAPABILITIES,
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": request.pids,
        "Memory": request.memory_bytes,
        // Together with swap: none beside it.
        "MemorySwap": request.memory_bytes,
        "NanoCpus": request.milli_cpus.saturating_mul(1_000_000),
        "ReadonlyRootfs": request.read_only,
        // Reaps the processes that its children leave behind, and hands signals on.
        "Init": true,
        "IpcMode": "private",
        "PublishAllPorts": false,
        "AutoRemove": false,
        "LogConfig": {"Type": "local", "Config": {"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES}},
        "RestartPolicy": restart(request.restart),
        "NetworkMode": request.network.as_deref().unwrap_or("none"),
        "PortBindings": bindings(&request.ports),
        "Mounts": request.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if api >= CGROUP_NAMESPACES {
        host["CgroupnsMode"] = json!("private");
    }
    host
}

fn key(port: &PublishedPort) -> String {
    format!("{}/{}", port.container, port.protocol.as_str())
}

fn bindings(ports: &[PublishedPort]) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let (first, last) = port.host;
        // From a range the engine takes a free one, at each start.
        let host = if first == last { first.to_string() } else { format!("{first}-{last}") };
        all.entry(key(port)).or_default().push(json!({"HostIp": port.address.to_string(), "HostPort": host}));
    }
    all
}

fn mount(mount: &EngineMount) -> Value {
    match mount {
        EngineMount::Volume { name, path, read_only } => {
            json!({"Type": "volume", "Source": name, "Target": path, "ReadOnly": read_only})
        }
        // A mount of the host that is made later does not show in it, nor the other way round.
        EngineMount::Bind { source, path, read_only } => json!({
            "Type": "bind", "Source": source, "Target": path, "ReadOnly": read_only, "BindOptions": {"Propagation": "rprivate"},
        }),
    }
}

fn restart(policy: RestartPolicy) -> Value {
    match policy {
        RestartPolicy::No => json!({"Name": "no"}),
        RestartPolicy::OnFailure(times) => json!({"Name": "on-failure", "MaximumRetryCount": times}),
        RestartPolicy::Always => json!({"Name": "always"}),
        RestartPolicy::UnlessStopped => json!({"Name": "unless-stopped"}),
    }
}

/// Times in nanoseconds; 0 is the engine's own.
fn health(check: &Healthcheck, api: (u32, u32)) -> Value {
    let nanos = |millis: Option<u64>| millis.unwrap_or_default().saturating_mul(1_000_000);
    let mut health = json!({
        "Test": check.test,
        "Interval": nanos(check.interval_ms),
        "Timeout": nanos(check.timeout_ms),
        "StartPeriod": nanos(check.start_period_ms),
        "Retries": check.retries.unwrap_or_default(),
    });
    if api >= START_INTERVALS {
        // Left open, it would be the image's, whatever that is.
        health["StartInterval"] = json!(START_INTERVAL.as_nanos());
    }
    health
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::domain::Protocol;

    fn request() -> CreateContainer {
        let port = |container, first, last| PublishedPort {
            container,
            protocol: Protocol::Tcp,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host: (first, last),
        };
        CreateContainer {
            name: "n".into(),
            image: format!("sha256:{}", "a".repeat(64)).parse().expect("a digest"),
            command: Vec::new(),
            entrypoint: Vec::new(),
            env: vec![("A".into(), "b=c".into())],
            labels: BTreeMap::from([(OWNER.to_owned(), "ada".to_owned()), ("x".to_owned(), "y".to_owned())]),
            user: None,
            workdir: None,
            hostname: "h".into(),
            tty: false,
            read_only: true,
            memory_bytes: 64 << 20,
            milli_cpus: 1500,
            pids: 9,
            restart: RestartPolicy::OnFailure(3),
            healthcheck: None,
            ports: vec![port(80, 1000, 1000), port(81, 1000, 1010)],
            mounts: vec![EngineMount::Volume { name: "v".into(), path: "/v".into(), read_only: true }],
            network: None,
            aliases: Vec::new(),
        }
    }

    /// Also says when somebody adds a field: each is a decision.
    #[test]
    fn the_whole_of_what_is_asked_of_the_host() {
        let expected = json!({
            "Privileged": false, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
            "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            "PidsLimit": 9, "Memory": 67_108_864, "MemorySwap": 67_108_864, "NanoCpus": 1_500_000_000, "ReadonlyRootfs": true,
            "Init": true, "IpcMode": "private", "CgroupnsMode": "private", "PublishAllPorts": false, "AutoRemove": false,
            "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "NetworkMode": "none",
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1000"}],
                "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1000-1010"}],
            },
            "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v", "ReadOnly": true}],
        });
        assert_eq!(host(&request(), (1, 41)), expected);
        assert_eq!(host(&request(), (1, 40)).get("CgroupnsMode"), None);
    }

    #[test]
    fn how_often_a_starting_container_is_checked_is_never_the_images_word() {
        let test = vec!["CMD".to_owned(), "true".to_owned()];
        let check = Healthcheck { test, interval_ms: Some(1000), timeout_ms: None, start_period_ms: None, retries: None };
        let told = health(&check, (1, 44));
        assert_eq!((&told["Interval"], &told["StartInterval"]), (&json!(1_000_000_000), &json!(5_000_000_000_u64)));
        assert_eq!(health(&check, (1, 43)).get("StartInterval"), None);
    }

    #[test]
    fn what_is_not_asked_is_the_images() {
        let body = body(&request(), (1, 41));
        for field in ["Cmd", "Entrypoint", "User", "WorkingDir", "Healthcheck", "NetworkingConfig"] {
            assert_eq!(body.get(field), None, "{field}");
        }
        assert_eq!(body["Env"], json!(["A=b=c"]));
        assert_eq!(body["Labels"], json!({OWNER: "ada", INSTALLATION: "", RUN: "", APP: "", "x": "y"}));
    }
}
