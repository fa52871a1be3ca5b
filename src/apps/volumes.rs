//! An owner's volumes.

use std::collections::HashMap;

use super::Apps;
use crate::auth::Principal;
use crate::domain::{ObjectName, Owner, Scope, Volume};
use crate::engine::containers::INSTALLATION;
use crate::error::{Error, Result};
use crate::fleet::{Fault, own_id};
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// A volume and what is known of its use.
pub struct VolumeInfo {
    pub volume: Volume,
    pub order: u64,
    /// Bytes in it; only when they were asked for and the engine knows.
    pub bytes: Option<u64>,
    /// Names of the containers that have it.
    pub used_by: Vec<String>,
}

impl Apps {
    /// Makes a volume.
    ///
    /// # Errors
    /// [`Error::Conflict`] `name_taken`; [`Error::TooMany`] `quota_exceeded`; the engine's words when it refuses.
    pub async fn make_volume(&self, caller: &Principal, name: &ObjectName) -> Result<VolumeInfo> {
        let told = |fault: Fault| match fault {
            Fault::Store(StoreError::Conflict) => {
                Error::Conflict { code: "name_taken", detail: format!("there is a volume {name} already") }
            }
            other => other.into(),
        };
        self.fleet.make_volume(&caller.owner, name, caller.quota.volumes).await.map_err(told)?;
        self.volume(caller, name, None).await
    }

    /// One volume, by its name among an owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn volume(&self, caller: &Principal, name: &ObjectName, owner: Option<&Owner>) -> Result<VolumeInfo> {
        let owner = Self::named_scope(caller, owner)?;
        let found = self.store().object(&Scope::Owner(owner.clone()), Kind::Volume, &own_id(&owner, name)).await?;
        let object: Object<Volume> = found.ok_or(Error::NotFound("volume"))?;
        let mut infos = self.with_users(vec![object])?;
        Ok(infos.remove(0))
    }

    /// Volumes, newest first, and whether there are older ones; with `usage` the engine is asked how large they are.
    ///
    /// # Errors
    /// When the engine or the store is away.
    pub async fn volumes(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
        usage: bool,
    ) -> Result<(Vec<VolumeInfo>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Volume, owner, parent: None, before, limit };
        let (objects, more) = self.store().objects::<Volume>(&query).await?;
        let mut infos = self.with_users(objects)?;
        if usage {
            let label = (INSTALLATION, self.fleet.settings().installation.as_str());
            let sizes = self.fleet.engine().volumes(label, true).await?;
            let sizes: HashMap<String, u64> =
                sizes.into_iter().filter_map(|volume| Some((volume.name, volume.usage?.0))).collect();
            for info in &mut infos {
                info.bytes = sizes.get(&info.volume.engine_name).copied();
            }
        }
        Ok((infos, more))
    }

    fn with_users(&self, objects: Vec<Object<Volume>>) -> Result<Vec<VolumeInfo>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for seen in self.fleet.containers(&Scope::All)? {
            for (volume, _) in &seen.summary.mounts {
                users.entry(volume.clone()).or_default().push(seen.summary.name.clone());
            }
        }
        let info = |object: Object<Volume>| VolumeInfo {
            used_by: users.get(&object.body.engine_name).cloned().unwrap_or_default(),
            order: object.order,
            volume: object.body,
            bytes: None,
        };
        Ok(objects.into_iter().map(info).collect())
    }

    /// Removes a volume and what is in it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `volume_in_use`, which names the containers.
    pub async fn remove_volume(&self, caller: &Principal, name: &ObjectName, owner: Option<&Owner>) -> Result<()> {
        let info = self.volume(caller, name, owner).await?;
        if !info.used_by.is_empty() {
            let detail = format!("the volume {name} is used by {}", info.used_by.join(", "));
            return Err(Error::Conflict { code: "volume_in_use", detail });
        }
        self.fleet.engine().remove_volume(&info.volume.engine_name).await?;
        let id = own_id(&info.volume.owner, name);
        Ok(self.store().commit(&[Write::remove(Kind::Volume, id, Expect::Anything)]).await?)
    }
}
