//! The base images that a classic build brings with its credentials. The engine keeps them under their own names, where everybody
//! would find them: they lose those names when the build is over. (BuildKit keeps what it pulls to itself.)

use std::sync::Arc;

use crate::context::dockerfile;
use crate::domain::{BuilderKind, RunImage};
use crate::engine::{BuildRequest, ContainerEngine, Result};

/// Names that go from the engine when this is dropped.
pub(super) struct Bases {
    engine: Arc<dyn ContainerEngine>,
    names: Vec<String>,
}

impl Bases {
    /// Those that the build may bring: at a host of its credentials, and not on the engine by now.
    pub(super) async fn of(engine: &Arc<dyn ContainerEngine>, request: &BuildRequest, dockerfile: &[u8]) -> Result<Self> {
        let mut bases = Self { engine: Arc::clone(engine), names: Vec::new() };
        if request.builder == BuilderKind::Buildkit || request.credentials.is_empty() {
            return Ok(bases);
        }
        let named = dockerfile::check(dockerfile).map(|outline| outline.image_names(&request.build_args)).unwrap_or_default();
        let is_ours = |image: &RunImage| request.credentials.iter().any(|own| own.host() == image.image.host());
        for image in named.iter().filter_map(|name| name.parse::<RunImage>().ok()).filter(is_ours) {
            if engine.image_id(&image.reference()).await?.is_none() {
                bases.names.push(image.reference());
            }
        }
        Ok(bases)
    }
}

impl Drop for Bases {
    /// Also when the build is cancelled.
    fn drop(&mut self) {
        let (engine, names) = (Arc::clone(&self.engine), std::mem::take(&mut self.names));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            for name in names {
                if let Err(error) = engine.untag(&name).await {
                    tracing::warn!(image = name, %error, "a base image that credentials brought stands on the engine for everybody");
                }
            }
        });
    }
}
