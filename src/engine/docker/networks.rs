//! Bridge networks, each for one owner.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Docker;
use super::calls::{filters, part};
use super::errors::{Refused, fault};
use super::summaries::known_labels;
use crate::domain::ErrorKind;
use crate::engine::containers::{EngineNetwork, INSTALLATION, Networks};
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
struct Named {
    id: String,
    name: String,
    created: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Addresses {
    config: Option<Vec<Value>>,
}

#[async_trait]
impl Networks for Docker {
    async fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let _one_at_a_time = self.networks.lock().await;
        let found = self.named(name).await?;
        if let Some(first) = found.first() {
            must_be_ours("network", name, labels, first.labels.as_ref())?;
        } else {
            match self.make_network(name, labels).await {
                // Somebody was faster.
                Err(refused) if refused.status == Some(409) => {}
                made => made?,
            }
        }
        self.keep_the_first(name, labels).await
    }

    async fn remove_network(&self, name: &str) -> Result<bool> {
        let _one_at_a_time = self.networks.lock().await;
        let mut removed = false;
        for network in self.named(name).await? {
            removed |= self.remove_by_id(&network.id).await?;
        }
        Ok(removed)
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
    async fn make_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), Refused> {
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
        self.post::<Value>("/networks/create", &body).await.map(|_| ())
    }

    /// The engine looks for a network of the same name before it makes one, and holds nobody up meanwhile: two services that ask at
    /// once both get one, and the name says nothing any more. All take the oldest for the one, and remove the others of ours.
    async fn keep_the_first(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let mut found = self.named(name).await?.into_iter();
        let first = found.next().ok_or_else(|| fault(format!("the engine lost the network {name:?} that it had just made")))?;
        must_be_ours("network", name, labels, first.labels.as_ref())?;
        for other in found.filter(|other| must_be_ours("network", name, labels, other.labels.as_ref()).is_ok()) {
            self.remove_by_id(&other.id).await?;
        }
        Ok(())
    }

    /// All networks of exactly this name, the oldest first.
    async fn named(&self, name: &str) -> Result<Vec<Named>> {
        let query = filters(&json!({"name": [name]}));
        let mut found: Vec<Named> = self.get(&format!("/networks?{}", query.0)).await?;
        found.retain(|network| network.name == name);
        found.sort_by_key(|network| (network.created.parse::<jiff::Timestamp>().ok(), network.id.clone()));
        Ok(found)
    }

    /// False when there was none.
    async fn remove_by_id(&self, id: &str) -> Result<bool> {
        match self.act(Method::DELETE, &format!("/networks/{}", part(id)), None, Duration::ZERO).await {
            Ok(()) => Ok(true),
            Err(Refused { status: Some(404), .. }) => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }

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

/// What was there under this name before is only taken when it is of the same installation. Whose it is there says the record: a
/// volume that was handed on keeps its first owner's label.
pub(super) fn must_be_ours(
    what: &str,
    name: &str,
    wanted: &BTreeMap<String, String>,
    found: Option<&BTreeMap<String, String>>,
) -> Result<()> {
    if wanted.contains_key(INSTALLATION) && wanted.get(INSTALLATION) == found.and_then(|found| found.get(INSTALLATION)) {
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
