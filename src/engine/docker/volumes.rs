//! Volumes of the `local` driver, never with options: those could mount anything of the host.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Docker;
use super::calls::{filters, part};
use super::errors::Refused;
use super::networks::must_be_ours;
use super::summaries::known_labels;
use crate::engine::Result;
use crate::engine::containers::{EngineVolume, Volumes};

/// The first API that reckons the use of volumes alone; before it the engine walks through images and containers as well.
const USAGE_BY_TYPE: (u32, u32) = (1, 42);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    usage_data: Option<UsageData>,
}

/// -1 is what the engine does not know.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    size: i64,
    ref_count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct All {
    volumes: Option<Vec<Volume>>,
}

#[async_trait]
impl Volumes for Docker {
    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let body = json!({"Name": name, "Driver": "local", "DriverOpts": {}, "Labels": labels});
        // The engine answers with the one that was there before.
        let made: Result<Volume, Refused> = self.post("/volumes/create", &body).await;
        must_be_ours("volume", name, labels, made?.labels.as_ref())
    }

    async fn remove_volume(&self, name: &str) -> Result<bool> {
        match self.act(Method::DELETE, &format!("/volumes/{}", part(name)), None, Duration::ZERO).await {
            Ok(()) => Ok(true),
            Err(Refused { status: Some(404), .. }) => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }

    async fn volumes(&self, label: (&str, &str), usage: bool) -> Result<Vec<EngineVolume>> {
        let all: All = if usage {
            // The engine refuses a second walk beside the first.
            let _alone = self.walks.lock().await;
            let by_type = self.transport.api().await? >= USAGE_BY_TYPE;
            self.get(if by_type { "/system/df?type=volume" } else { "/system/df" }).await?
        } else {
            let query = filters(&json!({"label": [format!("{}={}", label.0, label.1)]}));
            self.get(&format!("/volumes?{}", query.0)).await?
        };
        let volumes = all.volumes.unwrap_or_default().into_iter().map(EngineVolume::from);
        Ok(volumes.filter(|volume| volume.labels.get(label.0).is_some_and(|value| value == label.1)).collect())
    }
}

impl From<Volume> for EngineVolume {
    fn from(volume: Volume) -> Self {
        let known = |number: i64| u64::try_from(number).ok();
        let usage = volume.usage_data.and_then(|usage| known(usage.size).zip(known(usage.ref_count)));
        Self { name: volume.name, labels: known_labels(volume.labels.unwrap_or_default()), usage }
    }
}
