//! Containers, volumes and networks of one test, removed when it ends, however it ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use dockwright::domain::{Digest, Protocol, RestartPolicy};
use dockwright::engine::containers::{
    ContainerDetails, ContainerState, Containers, CreateContainer, INSTALLATION, OutputLine, OutputRange, PublishedPort,
};
use dockwright::engine::docker::Docker;
use dockwright::engine::{EngineError, Images};
use futures::{StreamExt, TryStreamExt};

use super::docker;
use crate::support::{seen, unique};

pub struct Own {
    pub docker: Docker,
    /// The value of [`INSTALLATION`] on all that is its own.
    pub token: String,
    image: Digest,
}

impl Own {
    pub async fn new() -> Self {
        let docker = docker();
        let image = docker.image_id("busybox:latest").await.expect("answers").expect("the base image is there");
        Self { docker, token: unique("own"), image }
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(INSTALLATION.to_owned(), self.token.clone())])
    }

    /// A small container without network.
    pub fn request(&self, command: &[&str]) -> CreateContainer {
        CreateContainer {
            name: unique("c"),
            image: self.image.clone(),
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            entrypoint: Vec::new(),
            env: Vec::new(),
            labels: self.labels(),
            user: None,
            workdir: None,
            hostname: "box".into(),
            tty: false,
            read_only: false,
            memory_bytes: 64 << 20,
            milli_cpus: 1000,
            pids: 64,
            restart: RestartPolicy::No,
            healthcheck: None,
            ports: Vec::new(),
            mounts: Vec::new(),
            network: None,
            aliases: Vec::new(),
        }
    }

    pub async fn start(&self, request: CreateContainer) -> Result<String, EngineError> {
        let id = self.docker.create(request).await?;
        self.docker.start(&id).await.map(|()| id)
    }

    /// Starts a container with this shell script.
    pub async fn shell(&self, script: &str) -> String {
        self.start(self.request(&["sh", "-c", script])).await.expect("starts")
    }

    pub async fn details(&self, id: &str) -> ContainerDetails {
        self.docker.inspect(id, false).await.expect("answers").expect("is there")
    }

    /// Waits for its end.
    pub async fn ended(&self, id: &str) -> ContainerDetails {
        self.until(id, |details| details.summary.state == ContainerState::Exited).await
    }

    pub async fn until(&self, id: &str, holds: impl Fn(&ContainerDetails) -> bool) -> ContainerDetails {
        seen("the container is as wanted", async || Some(self.details(id).await).filter(&holds)).await
    }

    /// Runs a script to its end; what it said.
    pub async fn says(&self, request: CreateContainer) -> Vec<String> {
        let id = self.start(request).await.expect("starts");
        self.lines(&id, true).await.into_iter().map(|line| line.text).collect()
    }

    pub async fn lines(&self, id: &str, follow: bool) -> Vec<OutputLine> {
        let range = OutputRange { follow, ..OutputRange::default() };
        let lines = self.docker.output(id, range).await.expect("answers");
        tokio::time::timeout(Duration::from_secs(60), lines.try_collect()).await.expect("it ends").expect("to its end")
    }

    /// Waits until it has written this line.
    pub async fn line(&self, id: &str, wanted: &str) {
        let range = OutputRange { follow: true, ..OutputRange::default() };
        let mut lines = self.docker.output(id, range).await.expect("answers");
        while let Some(line) = lines.next().await {
            if line.expect("a line").text == wanted {
                return;
            }
        }
        panic!("it ended without {wanted:?}");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let label = format!("label={INSTALLATION}={}", self.token);
        let docker = |arguments: &[&str]| Command::new("docker").args(arguments).output().expect("docker's command runs").stdout;
        let remove = |list: &[&str], remove: &[&str]| {
            let found = docker(&[list, &["--filter", &label]].concat());
            let found = String::from_utf8_lossy(&found).into_owned();
            let names: Vec<&str> = found.split_whitespace().collect();
            if !names.is_empty() {
                docker(&[remove, &names].concat());
            }
        };
        remove(&["ps", "-aq"], &["rm", "-fv"]);
        remove(&["volume", "ls", "-q"], &["volume", "rm", "-f"]);
        remove(&["network", "ls", "-q"], &["network", "rm"]);
    }
}

/// Port 80 of the container on one of these of the host.
pub fn published(host: (u16, u16)) -> PublishedPort {
    PublishedPort { container: 80, protocol: Protocol::Tcp, address: IpAddr::V4(Ipv4Addr::LOCALHOST), host }
}

/// The first of two ports of this host that follow each other and are free.
pub fn two_free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let seed = (uuid::Uuid::new_v4().as_u128() % 9000) as u16;
    let mut found = (0..9000).map(|step| 20_000 + (seed + step) % 9000);
    found.find(|port| free(*port) && free(port + 1)).expect("two free ports")
}
