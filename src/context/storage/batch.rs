use bytes::Bytes;

use crate::domain::quantity;
use crate::error::{Error, Result};

/// Bytes, and pieces, that are gathered before they are worked on. A slow client so keeps little memory and no thread.
const BYTES: usize = 1 << 20;
const PIECES: usize = 256;

/// What comes of an upload, gathered and held to its limit.
pub(in crate::context) struct Batch {
    limit: u64,
    /// Of all that has come.
    total: u64,
    pieces: Vec<Bytes>,
    size: usize,
}

impl Batch {
    pub(in crate::context) const fn new(limit: u64) -> Self {
        Self { limit, total: 0, pieces: Vec::new(), size: 0 }
    }

    /// Whether there is enough now to be worked on.
    ///
    /// # Errors
    /// [`Error::TooLarge`] as `upload_too_large` as soon as the limit is passed.
    pub(in crate::context) fn push(&mut self, bytes: Bytes) -> Result<bool> {
        self.total += bytes.len() as u64;
        if self.total > self.limit {
            let detail = format!("the upload is larger than the limit of {} (max-upload)", quantity::Bytes(self.limit));
            return Err(Error::TooLarge { code: "upload_too_large", detail });
        }
        self.size += bytes.len();
        self.pieces.push(bytes);
        Ok(self.size >= BYTES || self.pieces.len() >= PIECES)
    }

    pub(in crate::context) fn take(&mut self) -> Vec<Bytes> {
        self.size = 0;
        std::mem::take(&mut self.pieces)
    }

    pub(in crate::context) const fn total(&self) -> u64 {
        self.total
    }
}
