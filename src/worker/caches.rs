//! What a build may take from earlier ones, and what it keeps for later ones: layers of images at registries, and cache mounts.
//!
//! Cache mounts belong to an account and a project, and to no later account of the same name. BuildKit knows them by an id of the Dockerfile's choice; the frontend puts a namespace and
//! a slash before it (`dockerfile2llb/convert_runmount.go`: plain text, no path), and only the service can set the namespace. It is a
//! hash of one length, so that no pair of owner and project makes another's names, whatever the ids are.

use futures::future::join_all;
use sha2::{Digest as _, Sha256};

use super::pipeline::{Failure, Job, patiently};
use crate::domain::{BuildSpec, BuilderKind, ImageRef, LOCAL_HOST, Scope, User};
use crate::engine::BuildkitOnly;
use crate::store::objects::Kind;

/// What only BuildKit is told of this build; for the classic builder nothing, and the log says what it misses.
pub(super) async fn buildkit_only(job: &Job, builder: BuilderKind) -> Result<BuildkitOnly, Failure> {
    let spec = &job.record.spec;
    if builder == BuilderKind::Classic {
        if let Some(missed) = missed_by_classic(spec) {
            job.log.say(missed).await;
        }
        return Ok(BuildkitOnly::default());
    }
    let (installation, account) = (&job.parts.settings.installation, account(job).await?);
    Ok(BuildkitOnly {
        secrets: job.secrets.clone(),
        ssh: job.ssh.clone(),
        cache_from: if spec.cold { Vec::new() } else { sources(job).await },
        inline_cache: spec.inline_cache,
        mount_namespace: Some(mount_namespace(installation, &account, spec)),
        apart: spec.needs_secrets().then(|| format!("{}.{LOCAL_HOST}", apart(installation, &account))),
    })
}

/// A name of the owner's account that no other account has, also no later one of the owner's name. A live build's account is there: it is
/// removed only after its builds have ended.
async fn account(job: &Job) -> Result<String, Failure> {
    let owner = job.record.owner.as_str();
    let user = patiently(|| job.parts.store.object::<User>(&Scope::All, Kind::User, owner)).await;
    Ok(match user.map_err(|e| Failure::Away(e.to_string()))?.map(|user| user.body.id) {
        // No owner's name has a slash.
        Some(Some(id)) => format!("id/{id}"),
        Some(None) => owner.to_owned(),
        None => format!("gone/{}", job.record.id),
    })
}

/// The same for all builds of one account and project, and no others; of a cold build its own.
fn mount_namespace(installation: &str, account: &str, spec: &BuildSpec) -> String {
    if spec.cold {
        return uuid::Uuid::new_v4().simple().to_string();
    }
    hash("cache-mounts", &[installation, account, &spec.project])
}

/// What steps make that were run with secrets is their account's alone.
fn apart(installation: &str, account: &str) -> String {
    hash("steps-with-secrets", &[installation, account])[..32].to_owned()
}

/// What was asked for and only BuildKit does, where it is done without.
fn missed_by_classic(spec: &BuildSpec) -> Option<String> {
    let asked = [("cache_from", !spec.cache_from.is_empty()), ("inline_cache", spec.inline_cache)];
    let missed: Vec<&str> = asked.into_iter().filter_map(|(name, asked)| asked.then_some(name)).collect();
    (!missed.is_empty()).then(|| format!("The classic builder has no {}: the build goes on without", missed.join(" and no ")))
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
    use super::{BuildSpec, hash, missed_by_classic};

    #[test]
    fn what_the_classic_builder_leaves_out_is_told() {
        let told = |cache_from: &[&str], inline_cache| {
            let cache_from = cache_from.iter().map(|image| image.parse().expect("an image")).collect();
            missed_by_classic(&BuildSpec { cache_from, inline_cache, ..BuildSpec::default() })
        };
        let expected = |what: &str| Some(format!("The classic builder has no {what}: the build goes on without"));
        assert_eq!(told(&[], false), None);
        assert_eq!(told(&["a/b:1"], false), expected("cache_from"));
        assert_eq!(told(&[], true), expected("inline_cache"));
        assert_eq!(told(&["a/b:1"], true), expected("cache_from and no inline_cache"));
    }

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
