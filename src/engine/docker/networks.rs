//! Bridge networks, each for one owner.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Docker;
use super::calls::{filters, part};
use super::errors::Refused;
use super::summaries::known_labels;
use crate::domain::ErrorKind;
use crate::engine::containers::{EngineNetwork, Networks};
use crate::engine::{EngineError, Result};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "IPAM", default)]
    addresses: Option<Addresses>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Addresses {
    config: Option<Vec<Value>>,
}

#[async_trait]
impl Networks for Docker {
    async fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let body = json!({
            "Name": name,
            "CheckDuplicate": true,
            "Driver": "bridge",
            "Internal": false,
            "Attachable": false,
            "EnableIPv6": false,
            "Labels": labels,
            // Its members talk with each other, whatever the engine's default is; other networks are out of reach.
            "Options": {"com.docker.network.bridge.enable_icc": "true"},
        });
        let made: Result<Value, Refused> = self.post("/networks/create", &body).await;
        match made {
            Ok(_) => Ok(()),
            Err(Refused { status: Some(409), error }) => {
                let found: Option<Network> = self.find(&format!("/networks/{}", part(name))).await?;
                let found = found.filter(|found| found.name == name).ok_or(error)?;
                must_be_ours("network", name, labels, &found.labels.unwrap_or_default())
            }
            Err(refused) => Err(refused.error),
        }
    }

    async fn remove_network(&self, name: &str) -> Result<bool> {
        match self.act(Method::DELETE, &format!("/networks/{}", part(name)), None, Duration::ZERO).await {
            Ok(()) => Ok(true),
            Err(Refused { status: Some(404), .. }) => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }

    async fn networks(&self, label: (&str, &str)) -> Result<Vec<EngineNetwork>> {
        let query = filters(&json!({"label": [format!("{}={}", label.0, label.1)]}));
        let networks: Vec<Network> = self.get(&format!("/networks?{}", query.0)).await?;
        // A list of networks does not tell who is in them, but the list of containers does.
        let members = if networks.is_empty() { BTreeMap::new() } else { self.members().await? };
        Ok(networks.into_iter().map(|network| described(network, &members)).collect())
    }
}

impl Docker {
    /// Ids of the running containers, by network.
    async fn members(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let running: Vec<Value> = self.get("/containers/json").await?;
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in &running {
            let id = container["Id"].as_str().unwrap_or_default();
            for network in container["NetworkSettings"]["Networks"].as_object().into_iter().flat_map(|all| all.keys()) {
                members.entry(network.clone()).or_default().push(id.to_owned());
            }
        }
        Ok(members)
    }
}

fn described(network: Network, members: &BTreeMap<String, Vec<String>>) -> EngineNetwork {
    let ranges = network.addresses.and_then(|addresses| addresses.config).unwrap_or_default();
    EngineNetwork {
        containers: members.get(&network.name).cloned().unwrap_or_default(),
        labels: known_labels(network.labels.unwrap_or_default()),
        subnet: ranges.iter().find_map(|range| range["Subnet"].as_str()).map(str::to_owned),
        name: network.name,
    }
}

/// What was there under this name before is only taken when it carries the very labels that it was to get.
pub(super) fn must_be_ours(
    what: &str,
    name: &str,
    wanted: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Result<()> {
    if wanted.iter().all(|(label, value)| found.get(label) == Some(value)) {
        return Ok(());
    }
    Err(EngineError {
        kind: ErrorKind::User,
        code: "name_taken",
        message: format!("the {what} name {name:?} is already in use by one that is not ours"),
        dockerfile_line: None,
        transient: false,
    })
}
