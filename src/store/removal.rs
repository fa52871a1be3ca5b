//! What a delete leaves to the node that has the build's image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{BuildId, BuildRecord, Digest, NodeId};

/// How long an outcome of a removal, or a worker's sign of life, is kept.
pub const OUTCOME_KEPT: Duration = Duration::from_secs(3600);

/// The work of removing a deleted build's image from the node that built it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub build: BuildId,
    pub node: NodeId,
    pub image_id: Option<Digest>,
}

/// What the node found when it removed the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageRemoval {
    Removed,
    /// The engine had none.
    Absent,
    /// Our tag is gone; the image stays because something else uses it.
    InUse,
    /// The node has not answered yet; it removes the image when it is back.
    Pending,
}

/// What `delete` took out.
#[derive(Debug, Clone)]
pub struct Deleted {
    pub record: BuildRecord,
    /// Present when a node may hold an image of the build.
    pub removal: Option<Removal>,
}
