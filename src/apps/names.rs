//! What owners call their volumes and networks, which the engine knows by other names.

use std::collections::HashMap;

use super::Apps;
use crate::domain::{Network, Scope, Volume};
use crate::error::Result;
use crate::store::objects::Kind;

/// Owners' names, by the engine's.
#[derive(Debug, Default)]
pub struct PlaceNames {
    pub volumes: HashMap<String, String>,
    pub networks: HashMap<String, String>,
}

impl Apps {
    /// The names of every volume and network in a scope.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn place_names(&self, scope: &Scope) -> Result<PlaceNames> {
        let volumes = self.store().all_objects::<Volume>(scope, Kind::Volume).await?.into_iter();
        let networks = self.store().all_objects::<Network>(scope, Kind::Network).await?.into_iter();
        Ok(PlaceNames {
            volumes: volumes.map(|object| (object.body.engine_name, object.body.name.to_string())).collect(),
            networks: networks.map(|object| (object.body.engine_name, object.body.name.to_string())).collect(),
        })
    }
}
