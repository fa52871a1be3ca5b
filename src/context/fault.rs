use std::io;

use crate::error::Error;

/// Why an upload cannot be built: the entry, or the limit, by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ContextFault {
    /// Stable, in `snake_case`.
    pub code: &'static str,
    /// For the client; names the entry and the limit.
    pub detail: String,
    /// Whether a limit was passed (HTTP 413), and not a rule broken (HTTP 400).
    pub too_large: bool,
}

impl ContextFault {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), too_large: false }
    }

    pub(super) fn too_large(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), too_large: true }
    }
}

/// What reading an upload can come to besides success.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The upload is at fault.
    #[error(transparent)]
    Refused(#[from] ContextFault),
    /// Our disk is at fault.
    #[error("a stored upload cannot be read: {0}")]
    Io(io::Error),
}

impl ContextError {
    /// Sorts an error of a decoder: only the operating system's own errors are ours, the rest is in the upload's bytes.
    pub(super) fn reading(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            return Self::Io(error);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return ContextFault::new("truncated_archive", "the archive ends in the middle: the upload is incomplete").into();
        }
        // zstd's own words for a window that is larger than what it was allowed.
        if error.to_string().contains("requires too much memory") {
            let detail = "the archive needs more memory to decompress than is allowed: pack it with zstd -19, without --long";
            return ContextFault::new("zstd_window", detail).into();
        }
        match error.downcast::<ContextFault>() {
            Ok(fault) => fault.into(),
            Err(error) => ContextFault::new("corrupt_archive", format!("the archive is damaged: {error}")).into(),
        }
    }
}

impl From<ContextFault> for Error {
    fn from(fault: ContextFault) -> Self {
        if fault.too_large {
            Self::TooLarge { code: fault.code, detail: fault.detail }
        } else {
            Self::invalid(fault.code, "context", fault.detail)
        }
    }
}

impl From<ContextError> for Error {
    fn from(error: ContextError) -> Self {
        match error {
            ContextError::Refused(fault) => fault.into(),
            ContextError::Io(error) => Self::internal(error),
        }
    }
}

impl From<ContextError> for io::Error {
    fn from(error: ContextError) -> Self {
        match error {
            ContextError::Refused(fault) => Self::new(io::ErrorKind::InvalidData, fault),
            ContextError::Io(error) => error,
        }
    }
}

/// Bytes of an entry's name as people can read them, cut at a sensible length.
pub(super) fn quoted(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(200).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
