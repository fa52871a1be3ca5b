//! `dockwright doctor`: what is there, what is not, and what to do about it.

use std::process::ExitCode;
use std::time::Duration;

use super::say;
use crate::config::{Config, StoreUrl};
use crate::context::storage::ContextStorage;
use crate::engine::Engine;
use crate::engine::docker::Docker;
use crate::wiring::{open_store, open_vault};

/// What one check found: what is well, or what is wrong and what to do.
type Finding = Result<String, (String, String)>;

/// Success only when every check is.
pub fn run(config: Config, registry: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(async {
        vec![
            ("settings", settings(&config)),
            ("disk", disk(&config)),
            ("store", store(&config).await),
            ("engine", engine(&config).await),
            ("registry", reachable(registry).await),
        ]
    });
    let healthy = findings.iter().all(|(_, finding)| finding.is_ok());
    for (name, finding) in findings {
        match finding {
            Ok(detail) => say(&format!("ok    {name:9} {detail}\n")),
            Err((wrong, remedy)) => say(&format!("FAIL  {name:9} {wrong}\n                what to do: {remedy}\n")),
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settings(config: &Config) -> Finding {
    if let Err(error) = std::fs::create_dir_all(&config.data_dir) {
        return Err((
            format!("the data folder {} cannot be made: {error}", config.data_dir.display()),
            "choose another with --data-dir".into(),
        ));
    }
    if !config.listen.ip().is_loopback() {
        return Err((
            format!("{} is open to other machines, and this version speaks no TLS", config.listen),
            "listen on 127.0.0.1 behind a reverse proxy that does".into(),
        ));
    }
    match open_vault(config) {
        Ok(_) => Ok(format!("data in {}, listening on {}", config.data_dir.display(), config.listen)),
        Err(error) => Err((format!("the key cannot be used: {error:#}"), "mend the key file, or set DOCKWRIGHT_KEY".into())),
    }
}

fn disk(config: &Config) -> Finding {
    let floor = config.min_free_disk;
    let free = ContextStorage::open(&config.data_dir, floor.0).and_then(|contexts| contexts.free_bytes());
    match free {
        Ok(free) if free >= floor.0 => Ok(format!("{} MiB are free below {}", free >> 20, config.data_dir.display())),
        Ok(free) => Err((
            format!("only {} MiB are free, less than {floor}", free >> 20),
            "free some room, or lower --min-free-disk".into(),
        )),
        Err(error) => Err((format!("the free room is not known: {error}"), "check the data folder's rights".into())),
    }
}

async fn store(config: &Config) -> Finding {
    let remedy = match config.store {
        StoreUrl::Sqlite => {
            "check the data folder's rights; a dockwright that runs already holds the store, which is then no fault"
        }
        StoreUrl::Redis(_) => "check that the Redis server runs and that --store names it",
    };
    let opened = tokio::time::timeout(Duration::from_secs(5), async {
        let store = open_store(config).await?;
        store.ping().await?;
        anyhow::Ok(store.warnings().await.unwrap_or_default())
    });
    match opened.await {
        Ok(Ok(warnings)) if warnings.is_empty() => Ok("answers, and keeps what it acknowledged".into()),
        Ok(Ok(warnings)) => {
            Err((warnings.join("; "), "set appendonly yes, appendfsync always and maxmemory-policy noeviction in Redis".into()))
        }
        Ok(Err(error)) => Err((format!("{error:#}"), remedy.into())),
        Err(_) => Err(("does not answer within 5 s".into(), remedy.into())),
    }
}

async fn engine(config: &Config) -> Finding {
    let connected = Docker::connect(config.engine.as_deref());
    let info = match &connected {
        Ok(docker) => docker.info().await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match info {
        Ok(info) => Ok(format!("version {}, {} on {}, {}", info.version, info.architecture, info.os, info.storage_driver)),
        Err(wrong) => Err((wrong, "start the Docker engine (dockerd), or name it with --engine or DOCKER_HOST".into())),
    }
}

/// A registry answers `/v2/` with 200 or, when it asks for a password, 401.
async fn reachable(registry: &str) -> Finding {
    let remedy = format!(
        "start one (for example: docker-registry serve), or check another with --registry; pushes to {registry} would fail"
    );
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).build().map_err(|e| (e.to_string(), remedy.clone()))?;
    let mut wrong = String::new();
    for scheme in ["https", "http"] {
        match client.get(format!("{scheme}://{registry}/v2/")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(format!("{registry} answers over {scheme}")),
            Ok(answer) if answer.status().as_u16() == 401 => {
                return Ok(format!("{registry} answers over {scheme} and asks for a password"));
            }
            Ok(answer) => wrong = format!("{registry} answers /v2/ with {}", answer.status()),
            Err(error) => wrong = format!("{registry} does not answer: {error}"),
        }
    }
    Err((wrong, remedy))
}
