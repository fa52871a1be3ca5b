//! What a build may take from earlier ones, and what it keeps for later ones: layers of images at registries, and cache mounts.
//!
//! Cache mounts belong to an owner and a project. BuildKit knows them by an id of the Dockerfile's choice; the frontend puts a namespace and
//! a slash before it (`dockerfile2llb/convert_runmount.go`: plain text, no path), and only the service can set the namespace. It is a
//! hash of one length, so that no pair of owner and project makes another's names, whatever the ids are.

use futures::future::join_all;
use sha2::{Digest as _, Sha256};

use super::pipeline::Job;
use crate::domain::{BuildRecord, BuilderKind, ImageRef, LOCAL_HOST};
use crate::engine::BuildkitOnly;

/// What only BuildKit is told of this build; nothing for the classic builder.
pub(super) async fn buildkit_only(job: &Job, builder: BuilderKind) -> BuildkitOnly {
    if builder == BuilderKind::Classic {
        return BuildkitOnly::default();
    }
    let (spec, installation) = (&job.record.spec, &job.parts.settings.installation);
    BuildkitOnly {
        secrets: job.secrets.clone(),
        ssh: job.ssh.clone(),
        cache_from: if spec.cold { Vec::new() } else { sources(job).await },
        inline_cache: spec.inline_cache,
        mount_namespace: Some(mount_namespace(installation, &job.record)),
        apart: spec.needs_secrets().then(|| format!("{}.{LOCAL_HOST}", apart(installation, &job.record))),
    }
}

/// The same for all builds of one owner and project, and no others; of a cold build its own.
fn mount_namespace(installation: &str, record: &BuildRecord) -> String {
    if record.spec.cold {
        return uuid::Uuid::new_v4().simple().to_string();
    }
    hash("cache-mounts", &[installation, record.owner.as_str(), &record.spec.project])
}

/// What steps make that were run with secrets is their owner's alone.
fn apart(installation: &str, record: &BuildRecord) -> String {
    hash("steps-with-secrets", &[installation, record.owner.as_str()])[..32].to_owned()
}

/// Each part with its length, so that no two lists of parts are the same text.
fn hash(purpose: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new_with_prefix("dockwright/");
    for part in [&[purpose], parts].concat() {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// The images of `cache_from` that the build may read, by the digests that their registries tell for its credentials: a name alone could mean
/// what somebody else's build has under it on this engine. One that cannot be read is left out, as `docker build` does.
async fn sources(job: &Job) -> Vec<String> {
    let found = join_all(job.record.spec.cache_from.iter().map(|image| source(job, image))).await;
    found.into_iter().flatten().collect()
}

async fn source(job: &Job, image: &ImageRef) -> Option<String> {
    let own = job.credentials.iter().find(|one| one.host() == image.host());
    let why = match job.parts.registry.manifest(image, own).await {
        Ok(Some(manifest)) => return Some(format!("{}@{}", image.repository(), manifest.digest)),
        Ok(None) => "there is no such image".to_owned(),
        Err(refusal) => refusal.error.to_string(),
    };
    job.log.say(format!("{image} is not used as a cache: {why}")).await;
    None
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn no_two_pairs_have_one_hash() {
        let of = |owner: &str, project: &str| hash("x", &["here", owner, project]);
        assert_eq!(of("ada", "p"), of("ada", "p"));
        for (owner, project) in [("ada", "q"), ("bob", "p"), ("adap", ""), ("", "adap"), ("ada\0", "p")] {
            assert_ne!(of(owner, project), of("ada", "p"), "{owner:?} {project:?}");
        }
        assert_ne!(hash("x", &["here", "a"]), hash("y", &["here", "a"]));
    }
}
