//! The commands of volumes and networks.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::json;

use super::commands::Remote;
use super::complain;
use super::container_commands::{Named, Network, Volume};
use super::remote::{path, with};
use super::show::{show, show_all};
use crate::client::Client;

const VOLUME: [&str; 4] = ["owner", "name", "used_by", "created_at"];
const VOLUME_USAGE: [&str; 5] = ["owner", "name", "bytes", "used_by", "created_at"];
const VOLUMES: &str = "/api/v1/volumes";
const NETWORK: [&str; 4] = ["owner", "name", "used_by", "created_at"];
const NETWORKS: &str = "/api/v1/networks";

pub(super) async fn volume(client: &Client, remote: &Remote, command: Volume) -> anyhow::Result<ExitCode> {
    match command {
        Volume::List { of, usage } => {
            let volumes = client.all(&with(VOLUMES, [("owner", of.owner), ("usage", usage.then(|| "true".into()))])?).await?;
            show_all(remote, volumes, if usage { &VOLUME_USAGE } else { &VOLUME });
        }
        Volume::Create { name } => {
            show(remote, &client.call(Method::POST, VOLUMES, Some(&json!({"name": name}))).await?, &VOLUME);
        }
        Volume::Show(volume) => show(remote, &client.call(Method::GET, &one("volumes", volume)?, None).await?, &VOLUME),
        Volume::Rm(volume) => remove(client, &one("volumes", volume)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn network(client: &Client, remote: &Remote, command: Network) -> anyhow::Result<ExitCode> {
    match command {
        Network::List(of) => show_all(remote, client.all(&with(NETWORKS, [("owner", of.owner)])?).await?, &NETWORK),
        Network::Create { name } => {
            show(remote, &client.call(Method::POST, NETWORKS, Some(&json!({"name": name}))).await?, &NETWORK);
        }
        Network::Show(network) => show(remote, &client.call(Method::GET, &one("networks", network)?, None).await?, &NETWORK),
        Network::Rm(network) => remove(client, &one("networks", network)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of what has a name, and of its owner where one is said.
pub(super) fn one(kind: &str, named: Named) -> anyhow::Result<String> {
    with(&path(kind, &named.name)?, [("owner", named.of.owner)])
}

pub(super) async fn remove(client: &Client, path: &str) -> anyhow::Result<()> {
    client.wait(Method::DELETE, path, None).await?;
    complain("removed");
    Ok(())
}
