//! The engine adapter against the real engine.

mod builds;
mod containers;
mod defaults;
mod ends;
mod events;
mod images;
mod library;
mod networks;
mod output;
mod own;
mod push;
mod refusals;
mod stats;
mod terminals;
mod volumes;

use std::collections::BTreeMap;

use dockwright::domain::{BuildId, BuilderKind, LogLine, LogStream, NetworkMode, local_tag};
use dockwright::egress::Egress;
use dockwright::engine::docker::Docker;
use dockwright::engine::{BuildRequest, Builder, BuiltImage, ContextStream, EngineError, Images, VANISHED};
use dockwright::registry::{RegistryClient, Timeouts};
use tokio::sync::mpsc;

pub fn docker() -> Docker {
    Docker::connect(std::env::var("DOCKER_HOST").ok().as_deref()).expect("an address")
}

/// An uncompressed tar of these files, in memory.
pub fn context(files: &[(&str, &str)]) -> ContextStream {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).expect("memory takes it");
    }
    let bytes = tar.into_inner().expect("memory takes it");
    Box::pin(futures::stream::iter([Ok(bytes.into())]))
}

pub fn request(builder: BuilderKind) -> BuildRequest {
    BuildRequest {
        stages: Vec::new(),
        id: BuildId::new(),
        dockerfile: "Dockerfile".into(),
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        target: None,
        platform: None,
        no_cache: false,
        pull: false,
        network: NetworkMode::Default,
        memory_bytes: None,
        milli_cpus: None,
        credentials: Vec::new(),
        registries: std::sync::Arc::new(RegistryClient::new(Timeouts::default(), Egress::near())),
        builder,
        buildkit: dockwright::engine::BuildkitOnly::default(),
    }
}

/// How a build ended, and what it said.
pub struct Outcome {
    pub id: BuildId,
    pub result: Result<BuiltImage, EngineError>,
    pub lines: Vec<LogLine>,
}

impl Outcome {
    pub fn image(&self) -> &BuiltImage {
        self.result.as_ref().unwrap_or_else(|e| panic!("{e:?}\n{:#?}", self.lines))
    }

    pub fn error(&self) -> &EngineError {
        match &self.result {
            Err(error) => error,
            Ok(image) => panic!("{image:?} was built\n{:#?}", self.lines),
        }
    }

    pub fn texts(&self, stream: LogStream) -> Vec<&str> {
        self.lines.iter().filter(|line| line.stream == stream).map(|line| line.text.as_str()).collect()
    }

    pub async fn clean_up(self) {
        docker().untag(&local_tag(self.id)).await.expect("the tag goes");
    }
}

/// Builds as a worker does: an image that another test's removal took away is built again.
pub async fn build(request: BuildRequest, files: &[(&str, &str)]) -> Outcome {
    let mut outcome = build_once(request.clone(), files).await;
    for _ in 0..5 {
        match &outcome.result {
            Err(error) if error.code == VANISHED => outcome = build_once(request.clone(), files).await,
            _ => break,
        }
    }
    outcome
}

async fn build_once(request: BuildRequest, files: &[(&str, &str)]) -> Outcome {
    let (lines, mut told) = mpsc::channel(16);
    let id = request.id;
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(line) = told.recv().await {
            all.push(line);
        }
        all
    });
    let result = docker().build(request, context(files), lines).await;
    Outcome { id, result, lines: read.await.expect("the reader ends") }
}

pub async fn build_dockerfile(builder: BuilderKind, dockerfile: &str) -> Outcome {
    build(request(builder), &[("Dockerfile", dockerfile)]).await
}

/// `docker` itself, to see with other eyes than the code under test.
pub fn cli(arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(arguments).output().expect("docker's command runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

pub use crate::support::watch::watch_for as eventually;
