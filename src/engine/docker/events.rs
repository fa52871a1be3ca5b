//! `GET /events`: what changes at the engine, as it happens.

use serde::Deserialize;
use serde_json::json;

use super::Docker;
use super::calls::{filters, moment};
use super::errors::unavailable;
use super::stream::Messages;
use crate::engine::Result;
use crate::engine::containers::{EngineEvent, EventKind, Told};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(rename = "Type")]
    kind: String,
    action: String,
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    nanos: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
}

impl Docker {
    pub(super) async fn watch_events(&self, since: Option<i64>) -> Result<Told<EngineEvent>> {
        let mut query = filters(&json!({"type": ["container", "image", "volume", "network"]}));
        if let Some(nanos) = since {
            query.add("since", &moment(nanos));
        }
        let mut messages = Messages::new(self.open(&format!("/events?{}", query.0)).await?);
        Ok(Box::pin(async_stream::try_stream! {
            while let Some(line) = messages.line().await? {
                if let Some(event) = read(&line) {
                    yield event;
                }
            }
            Err(unavailable("the engine ended its events"))?;
        }))
    }
}

/// `None` for what we do not know: an engine may tell of more than was there when this was written.
fn read(line: &[u8]) -> Option<EngineEvent> {
    let event: Event = serde_json::from_slice(line).ok()?;
    let kind = match event.kind.as_str() {
        "container" => EventKind::Container,
        "image" => EventKind::Image,
        "volume" => EventKind::Volume,
        "network" => EventKind::Network,
        _ => return None,
    };
    Some(EngineEvent { kind, id: event.actor.id, action: event.action, nanos: event.nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_over() {
        let line = br#"{"status":"die","id":"abc","Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"exitCode":"3"}},"time":1,"timeNano":1000000005}"#;
        let event = read(line).expect("an event");
        assert_eq!(
            (event.kind, event.id.as_str(), event.action.as_str(), event.nanos),
            (EventKind::Container, "abc", "die", 1_000_000_005)
        );
        for other in [&br#"{"Type":"plugin","Action":"x","Actor":{"ID":"a"}}"#[..], b"{}", b"[1]", b"nonsense"] {
            assert_eq!(read(other), None);
        }
    }
}
