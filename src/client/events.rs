//! Server-sent events, as the service sends them: each has a name and an object of JSON.

use std::time::Duration;

use anyhow::Context;
use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use super::Lost;

/// A stream of events.
pub struct Events {
    answer: Response,
    unread: Vec<u8>,
    last_id: Option<String>,
}

impl Events {
    pub(super) const fn of(answer: Response) -> Self {
        Self { answer, unread: Vec::new(), last_id: None }
    }

    /// The next event's name and data; none at the end.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn next(&mut self) -> anyhow::Result<Option<(String, Value)>> {
        loop {
            if let Some(event) = self.unread_event() {
                return Ok(Some(event));
            }
            match self.answer.chunk().await.context("the connection broke off")? {
                Some(bytes) => self.unread.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// The same; but when nothing at all comes for this long, not even the comment that keeps a connection alive, it is broken.
    ///
    /// # Errors
    /// When the connection breaks off; [`Lost::Silent`].
    pub async fn next_within(&mut self, silence: Duration) -> anyhow::Result<Option<(String, Value)>> {
        loop {
            if let Some(event) = self.unread_event() {
                return Ok(Some(event));
            }
            match timeout(silence, self.answer.chunk()).await {
                Ok(chunk) => match chunk.context("the connection broke off")? {
                    Some(bytes) => self.unread.extend_from_slice(&bytes),
                    None => return Ok(None),
                },
                Err(_) => return Err(Lost::Silent(silence).into()),
            }
        }
    }

    /// By which the service goes on behind the last event.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn unread_event(&mut self) -> Option<(String, Value)> {
        while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.unread.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            if let Some(read) = read(&event) {
                self.last_id = field(&event, "id").map(str::to_owned).or(self.last_id.take());
                return Some(read);
            }
        }
        None
    }
}

/// None for a comment, with which the service keeps a connection alive.
fn read(event: &str) -> Option<(String, Value)> {
    Some((field(event, "event")?.to_owned(), serde_json::from_str(field(event, "data")?).ok()?))
}

fn field<'a>(event: &'a str, name: &str) -> Option<&'a str> {
    event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_data_are_read_and_comments_are_not() {
        let event = read("id: 1\nevent: stats\ndata: {\"pids\":1}\n\n").expect("an event");
        assert_eq!(event, ("stats".to_owned(), serde_json::json!({"pids": 1})));
        assert_eq!(read(":alive\n\n"), None);
    }
}
