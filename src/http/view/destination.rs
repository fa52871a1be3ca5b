//! A destination of a build, as clients see it.

use serde::Serialize;

use super::{DestinationStateView, ErrorView};
use crate::domain::{Destination, DestinationState};

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Destination)]
pub(super) struct DestinationView {
    image: String,
    #[schema(value_type = DestinationStateView)]
    state: DestinationState,
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: Option<String>,
    error: Option<ErrorView>,
    /// How often the push was tried.
    attempts: u32,
    bytes: Option<TransferView>,
    #[schema(format = "date-time")]
    started_at: Option<String>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    /// The younger build that has the tag, when `state` is `superseded`; null also when that belongs to another account.
    #[schema(format = "uuid")]
    superseded_by: Option<String>,
    /// The build that this one repeats, when that had pushed the image.
    #[schema(format = "uuid")]
    carried_from: Option<String>,
}

/// What the registry was sent, as far as the engine tells: to three digits, and without the layers that were there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Transfer)]
struct TransferView {
    total: u64,
    done: u64,
}

impl DestinationView {
    pub(super) fn of(d: &Destination) -> Self {
        Self {
            image: d.image.to_string(),
            state: d.state,
            digest: d.digest.as_ref().map(ToString::to_string),
            error: d.error.as_ref().map(ErrorView::of),
            attempts: d.attempts,
            bytes: d.bytes.map(|bytes| TransferView { total: bytes.total, done: bytes.done }),
            started_at: d.started_at.map(|at| at.to_string()),
            finished_at: d.finished_at.map(|at| at.to_string()),
            superseded_by: d.superseded_by.map(|id| id.to_string()),
            carried_from: d.carried_from.map(|id| id.to_string()),
        }
    }
}
