//! Whether an owner may have one more. What is looked at is written in the same commit as what is had, so that of two at once one
//! looks again.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Records;
use super::places::own_id;
use super::records::{TRIES, hold, too_busy};
use crate::domain::{Holdings, Network, ObjectName, Owner, Quota, Run, Scope, Volume, limits};
use crate::store::objects::{Expect, Kind, Write};
use crate::store::{Result, StoreError};

/// A volume or a network that is new.
#[derive(Clone, Copy)]
pub(super) enum NewPlace<'a> {
    Volume(&'a Volume),
    Network(&'a Network),
}

impl NewPlace<'_> {
    fn named(&self) -> (Kind, &Owner, &ObjectName) {
        match self {
            Self::Volume(volume) => (Kind::Volume, &volume.owner, &volume.name),
            Self::Network(network) => (Kind::Network, &network.owner, &network.name),
        }
    }

    fn write(&self) -> Write {
        fn put<T: Serialize>((kind, owner, name): (Kind, &Owner, &ObjectName), place: &T) -> Write {
            Write::put(kind, own_id(owner, name), owner, Expect::Absent, place)
        }
        match self {
            Self::Volume(volume) => put(self.named(), volume),
            Self::Network(network) => put(self.named(), network),
        }
    }
}

impl Records<'_> {
    /// Writes down a volume or a network, unless its owner would have more than `limit`, where there is one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one of that name; [`StoreError::OverQuota`]; or when the store cannot be asked.
    pub(super) async fn add_place(&self, place: NewPlace<'_>, limit: Option<u64>) -> Result<()> {
        let (kind, owner, name) = place.named();
        for _ in 0..TRIES {
            let held = self.holdings_object(owner).await?;
            let holdings = held.as_ref().map(|object| object.body.clone()).unwrap_or_default();
            match place {
                NewPlace::Volume(_) => self.room_for_volumes(owner, &holdings, [name], limit).await?,
                NewPlace::Network(_) => self.room_for_network(owner, name, limit).await?,
            }
            match self.0.commit(&[place.write(), hold(owner, held.as_ref(), &holdings)]).await {
                Err(StoreError::Conflict) => {}
                other => return other,
            }
            let scope = Scope::Owner(owner.clone());
            if self.0.object::<serde_json::Value>(&scope, kind, &own_id(owner, name)).await?.is_some() {
                return Err(StoreError::Conflict);
            }
        }
        Err(too_busy())
    }

    /// Whether a run finds room for what its container takes, and for its volumes.
    pub(super) async fn room_for_run(&self, run: &Run, held: &Holdings, quota: &Quota) -> Result<()> {
        if let Some(over) = super::records::over_quota(held, run, quota) {
            return Err(over);
        }
        self.room_for_volumes(&run.owner, held, run.spec.volumes.iter().map(|mount| &mount.volume), quota.volumes).await
    }

    /// How many volumes count against an owner's quota: those that there are, and those that its live runs are about to make.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn volumes(&self, owner: &Owner) -> Result<u64> {
        let held = self.holdings(owner).await?;
        Ok(self.volume_names(owner, &held).await?.len() as u64)
    }

    /// Read behind the holdings: what a run has made since it was there is among what there is.
    async fn volume_names(&self, owner: &Owner, held: &Holdings) -> Result<BTreeSet<ObjectName>> {
        let there = self.0.all_objects::<Volume>(&Scope::Owner(owner.clone()), Kind::Volume).await?;
        let promised = held.runs.values().flat_map(|run| run.volumes.iter().cloned());
        Ok(there.into_iter().map(|volume| volume.body.name).chain(promised).collect())
    }

    async fn room_for_volumes<'n>(
        &self,
        owner: &Owner,
        held: &Holdings,
        more: impl IntoIterator<Item = &'n ObjectName>,
        limit: Option<u64>,
    ) -> Result<()> {
        let more: BTreeSet<ObjectName> = more.into_iter().cloned().collect();
        let Some(limit) = limit.filter(|_| !more.is_empty()) else { return Ok(()) };
        let mut names = self.volume_names(owner, held).await?;
        let used = names.len() as u64;
        names.extend(more);
        let then = names.len() as u64;
        if then > used && then > limit { Err(StoreError::OverQuota { quota: "volumes", limit, used }) } else { Ok(()) }
    }

    /// How many networks count against an owner's quota: all but the one that everybody has.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn networks(&self, owner: &Owner) -> Result<u64> {
        Ok(self.network_names(owner).await?.len() as u64)
    }

    async fn network_names(&self, owner: &Owner) -> Result<BTreeSet<ObjectName>> {
        let there = self.0.all_objects::<Network>(&Scope::Owner(owner.clone()), Kind::Network).await?;
        Ok(there.into_iter().map(|network| network.body.name).filter(|name| *name != ObjectName::default_network()).collect())
    }

    async fn room_for_network(&self, owner: &Owner, name: &ObjectName, limit: Option<u64>) -> Result<()> {
        if *name == ObjectName::default_network() {
            return Ok(());
        }
        let limit = limit.unwrap_or(limits::NETWORKS);
        let names = self.network_names(owner).await?;
        let used = names.len() as u64;
        let is_over = used >= limit && !names.contains(name);
        if is_over { Err(StoreError::OverQuota { quota: "networks", limit, used }) } else { Ok(()) }
    }
}
