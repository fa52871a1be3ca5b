//! Terminals in containers, driven by a real WebSocket client.

mod access;
mod bytes;
mod leaving;
mod socket;

use std::time::Duration;

use crate::support::container::Container;
use crate::support::harbor::{Harbor, harbor_with};
use crate::support::service::Backend;

/// A container that does nothing.
const IDLE: &str = "exec sleep 100000";

/// A service whose terminals are kept for so long, and a container of ada's in it; her token.
async fn ada_with(keep: &str) -> (Harbor, Container, String) {
    let service = harbor_with(Backend::Sqlite, |settings| settings.terminal_keep = Some(keep.parse().expect("a span"))).await;
    let token = service.user("ada").await;
    let container = Container::of(&service, &token, IDLE).await;
    (service, container, token)
}

/// Waits at most so long for what must come.
async fn within<T>(seconds: u64, what: &str, come: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), come).await.unwrap_or_else(|_| panic!("never: {what}"))
}
