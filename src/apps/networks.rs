//! An owner's networks. Everybody has one called `default`, made when the first container needs it.

use std::collections::HashMap;

use super::Apps;
use crate::auth::Principal;
use crate::domain::{Network, ObjectName, Owner, Scope};
use crate::error::{Error, Result};
use crate::fleet::own_id;
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// A network and the containers in it.
pub struct NetworkInfo {
    pub network: Network,
    pub order: u64,
    /// Names of the containers that are in it, also of ended ones.
    pub used_by: Vec<String>,
}

impl Apps {
    /// Makes a network.
    ///
    /// # Errors
    /// [`Error::Conflict`] `name_taken`; [`Error::TooMany`] `quota_exceeded`; the engine's words when it has no room for another one.
    pub async fn make_network(&self, caller: &Principal, name: &ObjectName) -> Result<NetworkInfo> {
        let told = |fault: crate::fleet::Fault| match fault {
            crate::fleet::Fault::Store(StoreError::Conflict) => {
                Error::Conflict { code: "name_taken", detail: format!("there is a network {name} already") }
            }
            other => other.into(),
        };
        if *name == ObjectName::default_network() {
            let detail = "everybody has a network called default; it is made when the first container needs it".into();
            return Err(Error::Conflict { code: "name_taken", detail });
        }
        self.fleet.make_network(&caller.owner, name, caller.quota.networks).await.map_err(told)?;
        self.network(caller, name, None).await
    }

    /// One network, by its name among an owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn network(&self, caller: &Principal, name: &ObjectName, owner: Option<&Owner>) -> Result<NetworkInfo> {
        let owner = Self::named_scope(caller, owner)?;
        let found = self.store().object(&Scope::Owner(owner.clone()), Kind::Network, &own_id(&owner, name)).await?;
        let object: Object<Network> = found.ok_or(Error::NotFound("network"))?;
        Ok(self.members(vec![object])?.remove(0))
    }

    /// Networks, newest first, and whether there are older ones.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn networks(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<NetworkInfo>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Network, owner, parent: None, before, limit };
        let (objects, more) = self.store().objects::<Network>(&query).await?;
        Ok((self.members(objects)?, more))
    }

    fn members(&self, objects: Vec<Object<Network>>) -> Result<Vec<NetworkInfo>> {
        let mut members: HashMap<String, Vec<String>> = HashMap::new();
        for seen in self.fleet.containers(&Scope::All)? {
            for network in &seen.summary.networks {
                members.entry(network.clone()).or_default().push(seen.summary.name.clone());
            }
        }
        let info = |object: Object<Network>| NetworkInfo {
            used_by: members.get(&object.body.engine_name).cloned().unwrap_or_default(),
            order: object.order,
            network: object.body,
        };
        Ok(objects.into_iter().map(info).collect())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// [`Error::Conflict`] `network_in_use`, which names the containers.
    pub async fn remove_network(&self, caller: &Principal, name: &ObjectName, owner: Option<&Owner>) -> Result<()> {
        let info = self.network(caller, name, owner).await?;
        if !info.used_by.is_empty() {
            let detail = format!("the network {name} is used by {}", info.used_by.join(", "));
            return Err(Error::Conflict { code: "network_in_use", detail });
        }
        self.fleet.engine().remove_network(&info.network.engine_name).await?;
        let id = own_id(&info.network.owner, name);
        Ok(self.store().commit(&[Write::remove(Kind::Network, id, Expect::Anything)]).await?)
    }
}
