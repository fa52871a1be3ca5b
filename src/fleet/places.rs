//! Networks and volumes: an owner's own, under names that nobody else's can be taken for.

use std::collections::BTreeMap;

use crate::domain::{Network, NetworkChoice, ObjectName, Owner, Run, Scope, Timestamp, Volume};
use crate::engine::EngineError;
use crate::engine::containers::{INSTALLATION, OWNER};
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, Write};

use super::Fleet;
use super::images::user_error;
use super::steps::Result;

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
            None if run.spec.network == NetworkChoice::Default => self.record_network(&run.owner, &name).await?,
            None => return Err(user_error("no_such_network", format!("there is no network {name}"))),
        };
        // Also when there is a record: an engine that was set up anew has lost it.
        self.have_network(&network).await?;
        Ok(Some(network.engine_name))
    }

    /// Makes an owner's network.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one of that name.
    pub async fn make_network(&self, owner: &Owner, name: &ObjectName) -> Result<Network> {
        let network = self.record_network(owner, name).await?;
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

    async fn record_network(&self, owner: &Owner, name: &ObjectName) -> Result<Network> {
        let network = Network {
            name: name.clone(),
            owner: owner.clone(),
            engine_name: format!("dockwright-{}", uuid::Uuid::now_v7().simple()),
            node: self.node().ok_or_else(super::seen::away)?,
            created_at: Timestamp::now(),
        };
        let id = own_id(owner, name);
        match self.store().commit(&[Write::put(Kind::Network, &id, owner, Expect::Absent, &network)]).await {
            // Two first runs at once: one of them made it.
            Err(StoreError::Conflict) if *name == ObjectName::default_network() => {
                let found: Option<Object<Network>> =
                    self.store().object(&Scope::Owner(owner.clone()), Kind::Network, &id).await?;
                Ok(found.ok_or(StoreError::Conflict)?.body)
            }
            done => Ok(done.map(|()| network)?),
        }
    }

    /// Makes an owner's volume. One that is there already is the answer, so that runs can ask for theirs.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn make_volume(&self, owner: &Owner, name: &ObjectName) -> Result<Volume> {
        let id = own_id(owner, name);
        let fresh = Volume {
            name: name.clone(),
            owner: owner.clone(),
            engine_name: format!("dockwright-{}", uuid::Uuid::now_v7().simple()),
            node: self.node().ok_or_else(super::seen::away)?,
            created_at: Timestamp::now(),
        };
        let volume = match self.store().commit(&[Write::put(Kind::Volume, &id, owner, Expect::Absent, &fresh)]).await {
            Ok(()) => fresh,
            Err(StoreError::Conflict) => {
                let found: Option<Object<Volume>> = self.store().object(&Scope::Owner(owner.clone()), Kind::Volume, &id).await?;
                found.ok_or(StoreError::Conflict)?.body
            }
            Err(error) => return Err(error.into()),
        };
        self.engine().create_volume(&volume.engine_name, &self.labels(owner, name)).await?;
        Ok(volume)
    }

    /// The engine's names of a run's volumes, by the owner's names.
    pub(super) async fn volumes_of(&self, run: &Run) -> Result<BTreeMap<ObjectName, String>> {
        let mut volumes = BTreeMap::new();
        for mount in &run.spec.volumes {
            if !volumes.contains_key(&mount.volume) {
                let volume = self.make_volume(&run.owner, &mount.volume).await?;
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
