//! What a run's names mean on this engine, for [`crate::engine::request`].

use std::collections::BTreeMap;

use super::FleetSettings;
use crate::domain::{Digest, ObjectName, Run, SecretEnv};
use crate::engine::containers::CreateContainer;
use crate::engine::request::{Placement, request as engine_request};
use crate::error::Result;

/// What the run's names mean on this engine.
pub(super) struct Found {
    pub image: Digest,
    pub network: Option<String>,
    pub volumes: BTreeMap<ObjectName, String>,
    /// The values of its secret variables.
    pub secrets: SecretEnv,
}

/// Other containers of its owner's find one of an app under the app's name.
pub(super) fn request(run: &Run, found: Found, settings: &FleetSettings) -> Result<CreateContainer> {
    let app = run.app.as_ref().map(|app| &app.name);
    let place = Placement {
        name: &run.name,
        image: found.image,
        installation: &settings.installation,
        owner: &run.owner,
        run: run.id,
        app,
        volumes: &found.volumes,
        network: found.network.as_deref(),
        aliases: app.map(ToString::to_string).into_iter().collect(),
        publish_on: settings.publish_address,
        host_ports: settings.host_ports.0..=settings.host_ports.1,
    };
    engine_request(&run.spec, &found.secrets, place)
}
