//! What the images that a Dockerfile names stand for at some moment.

use serde::{Deserialize, Serialize};

use super::Digest;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// As the Dockerfile names it, with what is known put in.
    pub image: String,
    pub is: Known,
}

impl Base {
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is != Known::Nothing
    }
}

/// How it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// An engine has the image with this id under the name, and takes that.
    Local(Digest),
    /// The registry has this manifest under the name.
    Remote(Digest),
    /// Nobody could be asked.
    Nothing,
}
