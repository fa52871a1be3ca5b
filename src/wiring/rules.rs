//! Parts as the settings have them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::apps::spec::SpecRules;
use crate::builds::{Policy, RemoteRemoval, RemoteTags};
use crate::config::Config;
use crate::context::git::GitSettings;
use crate::domain::{Base, Credentials, Digest, ImageRef, RetentionRule};
use crate::egress::Egress;
use crate::engine::Images as _;
use crate::engine::docker::Docker;
use crate::registry::{self, RegistryClient, RemoteDelete};

/// Where requests on behalf of users may go.
#[must_use]
pub fn egress(config: &Config) -> Egress {
    Egress::new(config.allow_egress.clone())
}

/// Where registries may be that users name.
pub(super) fn registry_egress(config: &Config) -> Egress {
    config.allow_registry.clone().map_or_else(Egress::near, Egress::new)
}

/// What builds are held to.
#[must_use]
pub fn policy(c: &Config) -> Policy {
    Policy {
        max_upload: c.max_upload,
        max_context: c.max_context,
        max_entries: c.max_entries,
        build_timeout: c.build_timeout,
        max_build_timeout: c.max_build_timeout,
        max_memory: c.max_memory,
        max_cpus: c.max_cpus,
        min_free_disk: c.min_free_disk,
        retention: retention(c),
        git: GitSettings {
            egress: egress(c),
            authorities: c.git_ca.clone(),
            timeout: c.git_timeout.0,
            at_once: usize::from(c.max_fetches),
        },
    }
}

/// How long builds are kept, of owners that have no rule of their own.
fn retention(config: &Config) -> RetentionRule {
    RetentionRule {
        project: RetentionRule::ANY.into(),
        keep_builds: config.keep_builds,
        keep_days: config.keep_days,
        keep_local_image: config.keep_local_images,
    }
}

/// The registries, for deletes that take the tags along, and with the engine for builds that were there before.
pub(super) struct Registries(pub Arc<RegistryClient>, pub Arc<Docker>);

#[async_trait]
impl RemoteTags for Registries {
    async fn names(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Option<Digest> {
        Some(self.0.manifest(image, credentials).await.ok()??.digest)
    }

    async fn local(&self, name: &str) -> Option<Digest> {
        self.1.image_id(name).await.ok()?
    }

    async fn bases(&self, names: &[String], pull: bool, credentials: &[Credentials]) -> Vec<Base> {
        registry::bases(self.1.as_ref(), &self.0, names, pull, credentials).await
    }

    async fn remove(&self, image: &ImageRef, digest: &Digest, credentials: Option<&Credentials>) -> RemoteRemoval {
        let (outcome, error) = match self.0.delete(image, digest, credentials).await {
            Ok(RemoteDelete::Removed) => ("removed", None),
            Ok(RemoteDelete::Absent) => ("absent", None),
            Ok(RemoteDelete::Changed) => ("moved", None),
            Ok(RemoteDelete::Shared) => ("shared", None),
            Ok(RemoteDelete::Unsupported) => ("failed", Some("the registry does not let tags be removed".to_owned())),
            Err(refusal) => ("failed", Some(refusal.error.message)),
        };
        RemoteRemoval { image: image.to_string(), outcome: outcome.to_owned(), error }
    }
}

/// What containers may be, by the settings.
#[must_use]
pub fn spec_rules(config: &Config) -> SpecRules {
    let usual = SpecRules::default();
    let engine = config.engine.as_deref().unwrap_or(crate::engine::docker::DEFAULT_ADDRESS);
    let socket = engine.strip_prefix("unix://").map(Path::new);
    let private = [Some(&*config.data_dir), Some(&*config.key_file), config.tls_key.as_deref(), socket];
    // As it is written, and where it leads: a request may name either.
    let forms = |path: &Path| [std::path::absolute(path).ok(), path.canonicalize().ok()].into_iter().flatten();
    SpecRules {
        host_ports: config.host_ports.ports(),
        default_memory: config.container_memory,
        max_memory: config.max_container_memory,
        default_cpus: config.container_cpus,
        max_cpus: config.max_container_cpus,
        default_pids: usual.default_pids.min(config.max_container_pids),
        max_pids: config.max_container_pids,
        bind_roots: config.bind_roots.clone(),
        forbidden_sources: private.into_iter().flatten().flat_map(forms).collect(),
    }
}
