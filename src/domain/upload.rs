//! What a client sent.

use serde::{Deserialize, Serialize};

use super::Timestamp;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextKind {
    /// A Dockerfile alone: kept in the store, nothing on disk.
    #[default]
    File,
    Tar,
    TarGz,
    TarZst,
    Zip,
    /// A list of entries, whose bytes came beside it, each kind of them once.
    Manifest,
}

/// What was uploaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextInfo {
    pub kind: ContextKind,
    /// Bytes as uploaded.
    pub bytes: u64,
    /// Entries that are not directories.
    pub files: u64,
    /// Lower-case hexadecimal SHA-256 of the uploaded bytes.
    pub sha256: String,
    /// Names what the upload holds, the same for the same files however they were packed: `sha256:` and 64 hexadecimal digits.
    /// Absent in records of versions that did not compute it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes on disk that are this build's alone, where that are others than `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// Where it was fetched from, if it was not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitInfo>,
}

/// The commit that a context was fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitInfo {
    /// Without credentials, and without reference and folder.
    pub url: String,
    /// The branch, tag or commit that was asked for.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Hexadecimal.
    pub commit: String,
    /// The folder of it that is the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// When the commit was made, as it says itself.
    pub committed_at: Timestamp,
}

/// Something about a context that its owner may not have meant; no reason to refuse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextWarning {
    /// Stable, in `snake_case`.
    pub code: String,
    pub message: String,
    /// The largest first.
    pub paths: Vec<PathBytes>,
}

/// A path of a context and the bytes of all files there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathBytes {
    pub path: String,
    pub bytes: u64,
}

impl ContextInfo {
    /// The same for what was uploaded twice.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.sha256)
    }
}

/// What a client of the older path named, kept to be told back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyUpload {
    pub repo: String,
    pub file: String,
}
