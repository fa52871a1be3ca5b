//! Builds from a git repository: what stands in its place in an upload, and what the image then tells of it.

use super::options::{Faults, Texts};
use super::{Builds, TextPart};
use crate::auth::Principal;
use crate::context::dockerfile;
use crate::context::git::{GitUrl, Wanted};
use crate::context::storage::Received;
use crate::domain::{BuildSpec, ContextInfo, Credentials, GitInfo, limits};
use crate::error::{Error, Result};

/// Labels of where an image comes from (OCI image specification, "Annotations").
const SOURCE: &str = "org.opencontainers.image.source";
const REVISION: &str = "org.opencontainers.image.revision";
const CREATED: &str = "org.opencontainers.image.created";

impl Texts {
    /// The part `git`, if there is one that can be used.
    pub(super) fn git(&self, context_given: bool, faults: &mut Faults) -> Option<GitUrl> {
        let text = self.one(TextPart::Git)?;
        if context_given {
            faults.add("source_repeated", "git", "comes beside context; send one of them");
        }
        GitUrl::parse(text).map_err(|why| faults.add("git_url", "git", why)).ok()
    }
}

impl Builds {
    /// Fetches the source and puts it where an uploaded context would be.
    pub(super) async fn fetch(
        &self,
        caller: &Principal,
        url: &GitUrl,
        credentials: &[Credentials],
        context: &mut Option<Received>,
    ) -> Result<GitInfo> {
        let bytes = self.most_bytes(&caller.quota);
        let wanted = Wanted {
            url: url.clone(),
            owner: caller.owner.clone(),
            credentials: credentials.to_vec(),
            bytes,
            limits: self.bounds(),
        };
        let fetched = self.git.fetch(&self.contexts, wanted).await.map_err(|error| match error {
            Error::TooLarge { code: "upload_too_large" | "git_too_large", .. } if bytes < self.policy.max_upload.0 => {
                self.too_large(&caller.quota, bytes)
            }
            other => other,
        })?;
        *context = Some(fetched.received);
        Ok(fetched.info)
    }
}

/// What the image and the record say of a git source where nobody said it otherwise: the labels of its origin, and the project.
pub(super) fn name_source(spec: &mut BuildSpec, info: &ContextInfo, dockerfile: &[u8]) {
    let Some(git) = &info.git else { return };
    let name = git.url.strip_suffix(".git").unwrap_or(&git.url);
    if spec.project.is_empty() && name.len() <= limits::PROJECT_BYTES {
        name.clone_into(&mut spec.project);
    }
    let own = dockerfile::check(dockerfile).map(|outline| outline.labels).unwrap_or_default();
    for (key, value) in [(SOURCE, git.url.clone()), (REVISION, git.commit.clone()), (CREATED, git.committed_at.to_string())] {
        if !own.contains(key) {
            spec.labels.entry(key.to_owned()).or_insert(value);
        }
    }
}
