//! Between Rust's values and what Redis keeps.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::BuildId;
use crate::store::{Result, StoreError};

pub(super) fn parse_id(text: &str) -> Result<BuildId> {
    text.parse().map_err(|e| StoreError::Internal(format!("a stored id does not parse: {e}")))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data serialises, because its keys are text and it holds no floats")
}

pub(super) fn decode<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| StoreError::Internal(format!("a stored value does not parse: {e}")))
}
