//! Contexts in pieces, as `docs/uploads.md` describes them.

use anyhow::Context;
use reqwest::{Body, Method, header};
use serde::Deserialize;

use super::{Client, Refused};

/// A manifest as the service tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Declared {
    pub id: String,
    /// SHA-256 of the blobs that are to be sent, in hexadecimal.
    pub missing: Vec<String>,
    /// Bytes of these together.
    pub missing_bytes: u64,
}

impl Client {
    /// Says what a context holds; `lines` are in zstd. `None`: this service takes no contexts in pieces.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn declare(&self, lines: Vec<u8>) -> anyhow::Result<Option<Declared>> {
        match self.send_packed("/api/v1/contexts", "application/x-ndjson", lines.into()).await {
            Err(error) if is_unknown(&error) => Ok(None),
            declared => declared.map(Some),
        }
    }

    /// Says what has changed since the manifest `base`; `lines` are in zstd. `None`: the service needs to be told everything.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn declare_changes(&self, base: &str, lines: Vec<u8>) -> anyhow::Result<Option<Declared>> {
        match self.send_packed(&format!("/api/v1/contexts?base={base}"), "application/x-ndjson", lines.into()).await {
            // Not known, not to be joined with these changes, or too long.
            Err(error) if refused_with(&error, &[400, 404, 405, 413]) => Ok(None),
            declared => declared.map(Some),
        }
    }

    /// Sends blobs as a tar in zstd, which may take any time; tells what is missing then.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send_blobs(&self, id: &str, tar: Body) -> anyhow::Result<Declared> {
        self.send_packed(&format!("/api/v1/contexts/{id}/blobs"), "application/x-tar", tar).await
    }

    async fn send_packed(&self, path: &str, kind: &str, body: Body) -> anyhow::Result<Declared> {
        let request = self.request(&self.lasting, Method::POST, path, None);
        let request = request.header(header::CONTENT_TYPE, kind).header(header::CONTENT_ENCODING, "zstd").body(body);
        self.ask(request)
            .await?
            .bytes()
            .await
            .map_err(Into::into)
            .and_then(|answer| serde_json::from_slice(&answer).context("the service's answer tells of no manifest"))
    }
}

/// A path that the service does not have.
fn is_unknown(error: &anyhow::Error) -> bool {
    refused_with(error, &[404, 405])
}

fn refused_with(error: &anyhow::Error, any: &[u16]) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| any.contains(&refused.status))
}
