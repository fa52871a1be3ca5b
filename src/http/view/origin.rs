//! What a build was made from, and what was made.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::ContextKindView;
use crate::domain::{BuildRecord, ContextInfo, ContextKind, ContextWarning, GitInfo};

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Context)]
pub(super) struct ContextView {
    #[schema(value_type = ContextKindView)]
    kind: ContextKind,
    bytes: u64,
    files: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Names what the context holds, the same for the same files however they were sent; null in builds of earlier versions.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: Option<String>,
    /// The commit that it was fetched from; null when it was sent.
    git: Option<GitView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = GitContext)]
struct GitView {
    /// The repository.
    url: String,
    /// The branch, tag or commit that was asked for.
    #[serde(rename = "ref")]
    reference: Option<String>,
    #[schema(pattern = "^[0-9a-f]{40}$")]
    commit: String,
    /// The folder of it that is the context.
    subdir: Option<String>,
    #[schema(format = "date-time")]
    committed_at: String,
}

/// No reason to refuse the build, but maybe not what was meant.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Warning)]
pub(super) struct WarningView {
    code: String,
    message: String,
    /// The largest first.
    paths: Vec<PathView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PathBytes)]
struct PathView {
    path: String,
    /// Of all files there.
    bytes: u64,
}

/// What was made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Result)]
pub(super) struct ResultView {
    /// As registries know the image; more than one only where registries keep it in different forms.
    digests: Vec<String>,
    size_bytes: Option<u64>,
    /// Of the image. Those longer than 4096 bytes, and those beyond the first 100, are left out.
    labels: BTreeMap<String, String>,
    /// Statements about how it was made; none are made yet.
    #[schema(value_type = Vec<Object>)]
    attestations: Vec<Value>,
}

impl ContextView {
    pub(super) fn of(context: &ContextInfo) -> Self {
        Self {
            kind: context.kind,
            bytes: context.bytes,
            files: context.files,
            sha256: context.sha256.clone(),
            digest: context.digest.clone(),
            git: context.git.as_ref().map(GitView::of),
        }
    }
}

impl GitView {
    fn of(git: &GitInfo) -> Self {
        Self {
            url: git.url.clone(),
            reference: git.reference.clone(),
            commit: git.commit.clone(),
            subdir: git.subdir.clone(),
            committed_at: git.committed_at.to_string(),
        }
    }
}

impl WarningView {
    pub(super) fn of(warning: &ContextWarning) -> Self {
        let paths = warning.paths.iter().map(|found| PathView { path: found.path.clone(), bytes: found.bytes });
        Self { code: warning.code.clone(), message: warning.message.clone(), paths: paths.collect() }
    }
}

impl ResultView {
    pub(super) fn of(record: &BuildRecord) -> Option<Self> {
        record.image_id.as_ref()?;
        let mut digests: Vec<String> = Vec::new();
        for digest in record.destinations.iter().filter_map(|destination| destination.digest.as_ref()) {
            let digest = digest.to_string();
            if !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        Some(Self { digests, size_bytes: record.size_bytes, labels: record.image_labels.clone(), attestations: Vec::new() })
    }
}
