//! The one error of the service. What a client may know and what only the log may know are two things:
//! every variant but [`Error::Internal`] is written for the client, and `Internal` is told to it only by its request's id.

use std::time::Duration;

use crate::domain::ErrorKind;

/// One field of a request that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The part, query parameter or JSON field.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad input; `code` is stable and names the kind of fault. All faults of a request are told together.
    #[error("{}", .fields.iter().map(|f| format!("{}: {}", f.field, f.message)).collect::<Vec<_>>().join("; "))]
    Invalid { code: &'static str, fields: Vec<FieldError> },
    /// Does not exist for this caller.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The object's state does not allow it.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    /// A manifest's blobs are not all here yet; their hashes.
    #[error("{} blobs of the manifest have not come yet: send those that `missing` names", .0.len())]
    MissingBlobs(Vec<String>),
    /// Changes were told since a manifest that does not exist for this caller.
    #[error("there is no such manifest as the base, or it has expired: send all lines, without `base`")]
    BaseUnknown,
    /// It is not any more as the caller has seen it (RFC 9110, 13.1.1).
    #[error("{0}")]
    Changed(String),
    /// The engine refused; its own words.
    #[error("{message}")]
    Engine { kind: ErrorKind, code: String, message: String },
    #[error("a valid token is needed")]
    Unauthenticated,
    /// Known, but not allowed; `detail` names what is missing.
    #[error("{detail}")]
    Forbidden { code: &'static str, detail: String },
    #[error("this Idempotency-Key came with another request before")]
    KeyReused,
    /// Too often, or over a quota; `detail` names it.
    #[error("{detail}")]
    TooMany { code: &'static str, detail: String, retry_after: Duration },
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// A limit was passed; `detail` names it and its value.
    #[error("{detail}")]
    TooLarge { code: &'static str, detail: String },
    /// A part of the service is away for now; `code` is stable.
    #[error("{what} is not available")]
    Unavailable {
        code: &'static str,
        what: String,
        retry_after: Duration,
        #[source]
        source: Option<anyhow::Error>,
    },
    /// Somebody else's server, which the request needs, does not answer as it should.
    #[error("{detail}")]
    BadGateway { code: &'static str, detail: String },
    /// It does not answer in time.
    #[error("{detail}")]
    GatewayTimeout { code: &'static str, detail: String },
    /// No room left on the disk.
    #[error("the disk is full: {0}")]
    StorageFull(String),
    /// The client sends too slowly.
    #[error("{0}")]
    ClientTimeout(String),
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[from] anyhow::Error),
}

/// When a quota is worth another try.
const QUOTA_RETRY: Duration = Duration::from_secs(5);

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One field, one fault.
    pub fn invalid(code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { code, fields: vec![FieldError::new(field, message)] }
    }

    /// More than the account may use, by the name of the quota's field. What can be waited for is told as too often, what is too
    /// large as that.
    #[must_use]
    pub fn over_quota(quota: &'static str, limit: u64, used: u64) -> Self {
        let detail = format!("quota {quota}: the limit is {limit}, and {used} are used");
        match quota {
            "context_bytes" | "stored_bytes" => Self::TooLarge { code: "quota_exceeded", detail },
            _ => Self::TooMany { code: "quota_exceeded", detail, retry_after: QUOTA_RETRY },
        }
    }

    /// The engine does not answer for now.
    #[must_use]
    pub fn engine_away(why: String) -> Self {
        let source = Some(anyhow::anyhow!(why));
        Self::Unavailable { code: "engine_away", what: "the engine".into(), retry_after: Duration::from_secs(2), source }
    }

    /// Both, or what is wrong with either: faults of fields are told together.
    ///
    /// # Errors
    /// Those of both.
    pub fn together<A, B>(one: Result<A>, other: Result<B>) -> Result<(A, B)> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(Self::Invalid { code, mut fields }), Err(Self::Invalid { fields: more, .. })) => {
                fields.extend(more);
                Err(Self::Invalid { code, fields })
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match error {
            StoreError::Unavailable(why) => Self::Unavailable {
                code: "unavailable",
                what: "the store".into(),
                retry_after: Duration::from_secs(2),
                source: Some(anyhow::anyhow!(why)),
            },
            StoreError::Full => Self::StorageFull("the store".into()),
            StoreError::Refused(detail) => Self::Conflict { code: "already_finished", detail },
            StoreError::OverQuota { quota, limit, used } => Self::over_quota(quota, limit, used),
            StoreError::Conflict => Self::Conflict {
                code: "changed_meanwhile",
                detail: "it was changed by somebody else meanwhile; look again".into(),
            },
            other => Self::Internal(other.into()),
        }
    }
}
