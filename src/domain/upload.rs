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
}

/// What a client of the older path named, kept to be told back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyUpload {
    pub repo: String,
    pub file: String,
}
