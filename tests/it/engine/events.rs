//! What changes at the engine.

use std::time::Duration;

use dockwright::engine::containers::{Containers, EngineEvent, EventKind, Networks, Told, Volumes};
use futures::StreamExt;

use super::own::Own;
use crate::support::unique;

async fn until(events: &mut Told<EngineEvent>, kind: EventKind, id: &str, action: &str) -> EngineEvent {
    let wanted = async {
        while let Some(event) = events.next().await {
            let event = event.expect("an event");
            if event.kind == kind && event.id == id && event.action == action {
                return event;
            }
        }
        panic!("the events ended");
    };
    tokio::time::timeout(Duration::from_secs(30), wanted).await.unwrap_or_else(|_| panic!("never: {action} of {id}"))
}

#[tokio::test]
async fn each_change_is_told_and_can_be_told_again() {
    let own = Own::new().await;
    let mut events = own.docker.events(None).await.expect("answers");
    let (volume, network) = (unique("v"), unique("n"));
    own.docker.create_volume(&volume, &own.labels()).await.expect("makes");
    own.docker.create_network(&network, &own.labels()).await.expect("makes");
    let id = own.shell("exit 4").await;
    let created = until(&mut events, EventKind::Container, &id, "create").await;
    let ended = until(&mut events, EventKind::Container, &id, "die").await;
    assert!(created.nanos < ended.nanos && created.nanos > 1_700_000_000_000_000_000, "{created:?} {ended:?}");
    own.docker.remove(&id, true).await.expect("goes");
    until(&mut events, EventKind::Container, &id, "destroy").await;
    own.docker.remove_volume(&volume).await.expect("goes");
    until(&mut events, EventKind::Volume, &volume, "destroy").await;

    let mut again = own.docker.events(Some(created.nanos)).await.expect("answers");
    let first = again.next().await.expect("an event").expect("is told");
    assert!(first.nanos >= created.nanos, "{first:?}");
    let mut again = own.docker.events(Some(created.nanos)).await.expect("answers");
    assert_eq!(until(&mut again, EventKind::Container, &id, "die").await, ended);
}
