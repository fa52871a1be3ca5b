//! The engine's streams of JSON messages, one a line (`jsonmessage` in moby).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use super::errors::fault;
use super::transport::{Answer, Connection, broken};
use crate::engine::Result;

/// Longest message that is read, in bytes; a trace of a build with very many steps comes near a few MiB.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// How often one transfer is told of while it goes on.
const TOLD_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub stream: Option<String>,
    pub status: Option<String>,
    pub id: Option<String>,
    #[serde(rename = "progressDetail")]
    pub progress: Option<Progress>,
    pub aux: Option<serde_json::Value>,
    #[serde(rename = "errorDetail")]
    pub error_detail: Option<ErrorDetail>,
    pub error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub current: Option<i64>,
    pub total: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorDetail {
    pub message: Option<String>,
}

impl Message {
    /// The engine's error, if that is what this message brings.
    pub(super) fn failure(&self) -> Option<&str> {
        self.error_detail.as_ref().and_then(|detail| detail.message.as_deref()).or(self.error.as_deref())
    }
}

/// Reads messages as they come. Dropping it ends the connection, and so what the engine does for it.
pub(super) struct Messages {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that are known to hold no newline.
    scanned: usize,
    _connection: Connection,
}

impl Messages {
    pub(super) fn new(answer: Answer) -> Self {
        let body = answer.response.into_body();
        Self { body, buffer: BytesMut::new(), scanned: 0, _connection: answer.connection }
    }

    /// The next message; `None` at the end of the answer. Nothing is lost when it is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Message>> {
        self.line().await?.map(|line| decode(&line)).transpose()
    }

    /// The next line that is not empty, undecoded.
    pub(super) async fn line(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1);
                self.scanned = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > MESSAGE_BYTES {
                return Err(fault("the engine sent a message longer than 64 MiB"));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    self.scanned = 0;
                    return Ok(Some(self.buffer.split()));
                }
            }
        }
    }
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| fault(format!("the engine's answer is not understood: {e}")))
}

/// Thins out what the engine tells of its transfers: each change of a layer's status once, and its bytes once a second.
#[derive(Default)]
pub(super) struct Transfers {
    told: HashMap<String, (String, Instant)>,
}

impl Transfers {
    /// The line to show for a message with a status, if it is time for one.
    pub(super) fn tell(&mut self, message: &Message) -> Option<String> {
        let status = message.status.as_deref()?.trim_end();
        let Some(id) = message.id.as_deref().filter(|id| !id.is_empty()) else {
            return (!status.is_empty()).then(|| status.to_owned());
        };
        // "Retrying in 5 seconds" counts down; it is told once.
        let kind = status.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        let now = Instant::now();
        let bytes = message.progress.as_ref().and_then(|p| Some((p.current?, p.total.filter(|total| *total > 0))));
        match self.told.get(id) {
            Some((last, _)) if last == kind && bytes.is_none() => return None,
            Some((last, at)) if last == kind && now.duration_since(*at) < TOLD_EVERY => return None,
            _ => self.told.insert(id.to_owned(), (kind.to_owned(), now)),
        };
        Some(match bytes {
            Some((current, Some(total))) => format!("{id}: {status} {}/{}", size(current), size(total)),
            Some((current, None)) if current > 0 => format!("{id}: {status} {}", size(current)),
            _ => format!("{id}: {status}"),
        })
    }
}

/// Bytes as people read them, as Docker writes them (`1.98MB`).
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.2}TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: &str, status: &str, current: Option<i64>) -> Message {
        let progress = Some(Progress { current, total: Some(2_000_000) });
        Message { id: Some(id.into()), status: Some(status.into()), progress, ..Message::default() }
    }

    #[test]
    fn transfers_are_told_once_per_change() {
        let mut transfers = Transfers::default();
        assert_eq!(transfers.tell(&status("a", "Preparing", None)).as_deref(), Some("a: Preparing"));
        assert_eq!(transfers.tell(&status("a", "Preparing", None)), None);
        assert_eq!(transfers.tell(&status("a", "Pushing", Some(1_000_000))).as_deref(), Some("a: Pushing 1.00MB/2.00MB"));
        assert_eq!(transfers.tell(&status("a", "Pushing", Some(1_500_000))), None);
        assert_eq!(transfers.tell(&status("a", "Retrying in 5 seconds", None)).as_deref(), Some("a: Retrying in 5 seconds"));
        assert_eq!(transfers.tell(&status("a", "Retrying in 4 seconds", None)), None);
        assert_eq!(transfers.tell(&status("b", "Pushed", None)).as_deref(), Some("b: Pushed"));
    }

    #[test]
    fn sizes_read_as_dockers() {
        assert_eq!([size(0), size(999), size(1_984_000), size(5_000_000_000)], ["0B", "999B", "1.98MB", "5.00GB"]);
    }
}
