//! What carries our labels and has no record.

use std::collections::HashSet;
use std::time::Duration;

use super::{Fleet, Whose};
use crate::domain::{Network, Scope, Timestamp, Volume};
use crate::engine::containers::INSTALLATION;
use crate::store::objects::Kind;

/// Removes containers (older than `settled`) and networks of this installation that have no record. Those of others are never touched.
///
/// # Errors
/// When the engine or the store is away; the next pass goes on.
pub async fn sweep_once(fleet: &Fleet, settled: Duration) -> anyhow::Result<()> {
    if !fleet.is_whole() {
        return Ok(());
    }
    for seen in fleet.containers(&Scope::All)? {
        let age = Timestamp::now().since(seen.summary.created_at);
        if seen.whose == Whose::Orphan && age > settled {
            // Its record may be there by now.
            fleet.look_at(&seen.summary.id).await?;
            let still =
                fleet.containers(&Scope::All)?.iter().any(|now| now.summary.id == seen.summary.id && now.whose == Whose::Orphan);
            if still {
                tracing::warn!(container = %seen.summary.name, "removing a container of ours that has no record");
                if let Err(error) = fleet.engine().remove(&seen.summary.id, true).await {
                    tracing::warn!(container = %seen.summary.name, %error, "it stays for now");
                }
            }
        }
    }
    sweep_places(fleet).await
}

async fn sweep_places(fleet: &Fleet) -> anyhow::Result<()> {
    let label = (INSTALLATION, fleet.settings().installation.as_str());
    let store = fleet.store();
    // Listed before the records are read: what is made meanwhile has a record first.
    let (networks, volumes) = (fleet.engine().networks(label).await?, fleet.engine().volumes(label, false).await?);
    let known: HashSet<String> =
        store.all_objects::<Network>(&Scope::All, Kind::Network).await?.into_iter().map(|o| o.body.engine_name).collect();
    for network in networks.iter().filter(|network| !known.contains(&network.name) && network.containers.is_empty()) {
        tracing::warn!(network = %network.name, "removing a network of ours that has no record");
        if let Err(error) = fleet.engine().remove_network(&network.name).await {
            tracing::warn!(network = %network.name, %error, "it stays for now");
        }
    }
    let known: HashSet<String> =
        store.all_objects::<Volume>(&Scope::All, Kind::Volume).await?.into_iter().map(|o| o.body.engine_name).collect();
    for volume in volumes.iter().filter(|volume| !known.contains(&volume.name)) {
        tracing::warn!(volume = %volume.name, "a volume of ours has no record; it is left, for it may hold what somebody wants");
    }
    Ok(())
}
