//! Containers: made, started, ended, removed.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;

use super::Docker;
use super::calls::part;
use super::errors::Refused;
use crate::engine::Result;
use crate::engine::containers::{
    ContainerDetails, ContainerSummary, Containers, CreateContainer, EngineEvent, FileChange, FileChangeKind, OutputLine,
    OutputRange, Processes, Stats, Told,
};

/// How long a removal that somebody else began may take.
const REMOVED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[async_trait]
impl Containers for Docker {
    async fn create(&self, request: CreateContainer) -> Result<String> {
        self.create_container(request).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        unless_so_already(self.act(Method::POST, &format!("/containers/{}/start", part(id)), None, Duration::ZERO).await)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let uri = format!("/containers/{}/stop?t={}", part(id), seconds(grace));
        unless_so_already(self.act(Method::POST, &uri, None, grace).await)
    }

    async fn restart(&self, id: &str, grace: Duration) -> Result<()> {
        let uri = format!("/containers/{}/restart?t={}", part(id), seconds(grace));
        Ok(self.act(Method::POST, &uri, None, grace).await?)
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let uri = format!("/containers/{}/kill?signal={}", part(id), part(signal));
        Ok(self.act(Method::POST, &uri, None, Duration::ZERO).await?)
    }

    async fn remove(&self, id: &str, force: bool) -> Result<bool> {
        let uri = format!("/containers/{}?v=1&force={force}", part(id));
        match self.act(Method::DELETE, &uri, None, Duration::ZERO).await {
            Ok(()) => Ok(true),
            Err(Refused { status: Some(404), .. }) => Ok(false),
            Err(refused) if refused.error.code == "container_removing" => self.wait_for_removal(id, refused).await,
            Err(refused) => Err(refused.error),
        }
    }

    async fn inspect(&self, id: &str, sizes: bool) -> Result<Option<ContainerDetails>> {
        self.details(id, sizes).await
    }

    async fn containers(&self, id: Option<&str>) -> Result<Vec<ContainerSummary>> {
        self.summaries(id).await
    }

    async fn events(&self, since: Option<i64>) -> Result<Told<EngineEvent>> {
        self.watch_events(since).await
    }

    async fn output(&self, id: &str, range: OutputRange) -> Result<Told<OutputLine>> {
        self.read_output(id, range).await
    }

    async fn stats(&self, id: &str) -> Result<Told<Stats>> {
        self.watch_stats(id).await
    }

    async fn processes(&self, id: &str) -> Result<Processes> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Top {
            titles: Vec<String>,
            processes: Option<Vec<Vec<String>>>,
        }
        let top: Top = self.get(&format!("/containers/{}/top", part(id))).await?;
        Ok(Processes { titles: top.titles, rows: top.processes.unwrap_or_default() })
    }

    async fn changes(&self, id: &str) -> Result<Vec<FileChange>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Change {
            path: String,
            kind: u8,
        }
        let changes: Option<Vec<Change>> = self.get(&format!("/containers/{}/changes", part(id))).await?;
        let kind = |number| match number {
            0 => FileChangeKind::Modified,
            1 => FileChangeKind::Added,
            _ => FileChangeKind::Deleted,
        };
        Ok(changes.unwrap_or_default().into_iter().map(|one| FileChange { path: one.path, kind: kind(one.kind) }).collect())
    }
}

impl Docker {
    /// Somebody else's removal is under way: it is removed when it is gone.
    async fn wait_for_removal(&self, id: &str, refused: Refused) -> Result<bool> {
        let give_up = tokio::time::Instant::now() + REMOVED_WITHIN;
        while tokio::time::Instant::now() < give_up {
            if !self.is_there(id).await? {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(refused.error)
    }
}

/// 304: it was so before.
fn unless_so_already(done: Result<(), Refused>) -> Result<()> {
    match done {
        Err(Refused { status: Some(304), .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// Whole seconds, the engine's unit, and not less than was asked for.
fn seconds(grace: Duration) -> u64 {
    grace.as_secs() + u64::from(grace.subsec_nanos() > 0)
}
