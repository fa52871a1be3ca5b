//! Server-sent events, as the service sends them: each has a name and an object of JSON.

use anyhow::Context;
use reqwest::Response;
use serde_json::Value;

/// A stream of events.
pub struct Events {
    answer: Response,
    unread: Vec<u8>,
}

impl Events {
    pub(super) const fn of(answer: Response) -> Self {
        Self { answer, unread: Vec::new() }
    }

    /// The next event's name and data; none at the end.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn next(&mut self) -> anyhow::Result<Option<(String, Value)>> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..end + 2).collect();
                if let Some(event) = read(&String::from_utf8_lossy(&event)) {
                    return Ok(Some(event));
                }
            }
            match self.answer.chunk().await.context("the connection broke off")? {
                Some(bytes) => self.unread.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// None for a comment, with which the service keeps a connection alive.
fn read(event: &str) -> Option<(String, Value)> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start);
    Some((field("event")?.to_owned(), serde_json::from_str(field("data")?).ok()?))
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
