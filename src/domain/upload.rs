//! What a client sent.

use serde::{Deserialize, Serialize};

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
}

impl ContextInfo {
    /// The same for what was uploaded twice.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.sha256
    }
}

/// What a client of the older path named, kept to be told back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyUpload {
    pub repo: String,
    pub file: String,
}
