use serde::{Deserialize, Serialize};

/// Where a build is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    Queued,
    Building,
    Pushing,
    Published,
    Built,
    Failed,
    Cancelled,
}

impl BuildState {
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Building, Self::Pushing, Self::Published, Self::Built, Self::Failed, Self::Cancelled];

    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Published | Self::Built | Self::Failed | Self::Cancelled)
    }

    /// The name that clients see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Pushing => "pushing",
            Self::Published => "published",
            Self::Built => "built",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
