//! Networks and volumes: an owner's own, under names that nobody else's can be taken for.

use std::collections::BTreeMap;

use crate::domain::{Network, NetworkChoice, ObjectName, Owner, Run, Scope, Timestamp, Volume};
use crate::engine::EngineError;
use crate::engine::containers::{INSTALLATION, OWNER};
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, Write};

use super::Fleet;
use super::images::user_error;
use super::room::NewPlace;
use super::steps::{Fault, Result};

/// Label: the name that the owner gave.
const NAME: &str = "dockwright.name";

impl Fleet {
    /// The engine's name of a run's network, which is made when it is the owner's default and not there.
    pub(super) async fn network_of(&self, run: &Run) -> Result<Option<String>> {
        let name = match &run.spec.network {
            NetworkChoice::None => return Ok(None),
            NetworkChoice::Default => ObjectName::default_network(),
            NetworkChoice::Named(name) => name.clone(),
        };
        let id = own_id(&run.owner, &name);
        let found: Option<Object<Network>> = self.store().object(&Scope::Owner(run.owner.clone()), Kind::Network, &id).await?;
        let network = match found {
            Some(found) => found.body,
            None if run.spec.network == NetworkChoice::Default => self.record_network(&run.owner, &name, None).await?,
            None => return Err(user_error("no_such_network", format!("there is no network {name}"))),
        };
        // Also when there is a record: an engine that was set up anew has lost it.
        self.have_network(&network).await?;
        Ok(Some(network.engine_name))
    }

    /// Makes an owner's network, if it has room for one beside `limit`, or the service's own where there is none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one of that name; [`StoreError::OverQuota`].
    pub async fn make_network(&self, owner: &Owner, name: &ObjectName, limit: Option<u64>) -> Result<Network> {
        let network = self.record_network(owner, name, limit).await?;
        if let Err(error) = self.have_network(&network).await {
            self.store().commit(&[Write::remove(Kind::Network, own_id(owner, name), Expect::Anything)]).await?;
            return Err(error.into());
        }
        Ok(network)
    }

    async fn have_network(&self, network: &Network) -> Result<(), EngineError> {
        let _one_at_a_time = self.inner.making.lock().await;
        self.engine().create_network(&network.engine_name, &self.labels(&network.owner, &network.name)).await
    }

    async fn record_network(&self, owner: &Owner, name: &ObjectName, limit: Option<u64>) -> Result<Network> {
        let network = Network {
            name: name.clone(),
            owner: owner.clone(),
            engine_name: format!("dockwright-{}", uuid::Uuid::now_v7().simple()),
            node: self.node().ok_or_else(super::seen::away)?,
            created_at: Timestamp::now(),
        };
        let id = own_id(owner, name);
        match self.records().add_place(NewPlace::Network(&network), limit).await {
            // Two first runs at once: one of them made it.
            Err(StoreError::Conflict) if *name == ObjectName::default_network() => {
                let found: Option<Object<Network>> =
                    self.store().object(&Scope::Owner(owner.clone()), Kind::Network, &id).await?;
                Ok(found.ok_or(StoreError::Conflict)?.body)
            }
            done => Ok(done.map(|()| network)?),
        }
    }

    /// Makes an owner's volume, if it has room for one within `limit`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one of that name; [`StoreError::OverQuota`]; the engine's words when it refuses.
    pub async fn make_volume(&self, owner: &Owner, name: &ObjectName, limit: Option<u64>) -> Result<Volume> {
        let volume = self.record_volume(owner, name, limit).await?;
        if let Err(error) = self.have_volume(&volume).await {
            self.forget_volume(&volume).await?;
            return Err(error.into());
        }
        Ok(volume)
    }

    async fn record_volume(&self, owner: &Owner, name: &ObjectName, limit: Option<u64>) -> Result<Volume> {
        let volume = Volume {
            name: name.clone(),
            owner: owner.clone(),
            engine_name: format!("dockwright-{}", uuid::Uuid::now_v7().simple()),
            node: self.node().ok_or_else(super::seen::away)?,
            created_at: Timestamp::now(),
        };
        self.records().add_place(NewPlace::Volume(&volume), limit).await?;
        Ok(volume)
    }

    async fn have_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.engine().create_volume(&volume.engine_name, &self.labels(&volume.owner, &volume.name)).await
    }

    async fn forget_volume(&self, volume: &Volume) -> Result<()> {
        let id = own_id(&volume.owner, &volume.name);
        Ok(self.store().commit(&[Write::remove(Kind::Volume, id, Expect::Anything)]).await?)
    }

    async fn volume(&self, owner: &Owner, name: &ObjectName) -> Result<Option<Volume>> {
        let found: Option<Object<Volume>> =
            self.store().object(&Scope::Owner(owner.clone()), Kind::Volume, &own_id(owner, name)).await?;
        Ok(found.map(|found| found.body))
    }

    /// A run's volume, for which there was room when the run was accepted.
    async fn volume_for_run(&self, owner: &Owner, name: &ObjectName) -> Result<Volume> {
        let (volume, is_new) = match self.volume(owner, name).await? {
            Some(there) => (there, false),
            None => match self.record_volume(owner, name, None).await {
                Ok(fresh) => (fresh, true),
                // Two runs at once: one of them made it.
                Err(Fault::Store(StoreError::Conflict)) => (self.volume(owner, name).await?.ok_or(StoreError::Conflict)?, false),
                Err(other) => return Err(other),
            },
        };
        // Also when there is a record: an engine that was set up anew has lost it.
        if let Err(error) = self.have_volume(&volume).await {
            // While the engine is away the run waits, and finds its record again.
            if is_new && !error.transient {
                self.forget_volume(&volume).await?;
            }
            return Err(error.into());
        }
        Ok(volume)
    }

    /// The engine's names of a run's volumes, by the owner's names.
    pub(super) async fn volumes_of(&self, run: &Run) -> Result<BTreeMap<ObjectName, String>> {
        let mut volumes = BTreeMap::new();
        for mount in &run.spec.volumes {
            if !volumes.contains_key(&mount.volume) {
                let volume = self.volume_for_run(&run.owner, &mount.volume).await?;
                volumes.insert(mount.volume.clone(), volume.engine_name);
            }
        }
        Ok(volumes)
    }

    fn labels(&self, owner: &Owner, name: &ObjectName) -> BTreeMap<String, String> {
        let labels = [(INSTALLATION, self.settings().installation.as_str()), (OWNER, owner.as_str()), (NAME, name.as_str())];
        labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}

/// The id of something that an owner has named. Neither part holds a `/`, so that no two are taken for each other.
#[must_use]
pub fn own_id(owner: &Owner, name: &ObjectName) -> String {
    format!("{owner}/{name}")
}
