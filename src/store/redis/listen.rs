//! Wake-ups from other processes, over a connection of their own: it has no response timeout, and is made anew when Redis was away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use redis::RedisResult;
use tokio::task::JoinHandle;

use crate::store::{Topic, Wakes};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often the connection is tried, and how long an answer may take.
const PING: Duration = Duration::from_secs(5);
const PONG: Duration = Duration::from_secs(2);

pub(super) struct Listener {
    connected: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start(client: redis::Client, channel: String, wakes: Wakes) -> Self {
        let connected = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(listen(client, channel, wakes, Arc::clone(&connected)));
        Self { connected, task }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(client: redis::Client, channel: String, wakes: Wakes, connected: Arc<AtomicBool>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        if let Ok(Ok(pubsub)) = tokio::time::timeout(PONG, subscribe(&client, &channel)).await {
            backoff = BACKOFF_MIN;
            connected.store(true, Ordering::Relaxed);
            // What was sent before this moment may have been missed.
            wakes.wake_all();
            hear(pubsub, &wakes).await;
            connected.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn subscribe(client: &redis::Client, channel: &str) -> RedisResult<redis::aio::PubSub> {
    let mut pubsub = client.get_async_pubsub().await?;
    pubsub.subscribe(channel).await?;
    Ok(pubsub)
}

/// Until the connection breaks or falls silent.
async fn hear(pubsub: redis::aio::PubSub, wakes: &Wakes) {
    let (mut sink, mut messages) = pubsub.split();
    let mut ping = tokio::time::interval(PING);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    for topic in topics(message.get_payload_bytes()).into_iter().flatten() {
                        wakes.wake(topic);
                    }
                }
                None => return,
            },
            _ = ping.tick() => {
                let pong = tokio::time::timeout(PONG, sink.ping::<redis::Value>()).await;
                if !matches!(pong, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// How a script is to publish that an object has changed: see [`topics`].
pub(super) fn told(topic: Topic) -> String {
    match topic {
        Topic::Accounts => "a".into(),
        Topic::Hooks => "h".into(),
        Topic::Run(id) => format!("u {id}"),
        Topic::App(id) => format!("p {id}"),
        _ => String::new(),
    }
}

/// What the scripts publish; another version's word is nothing to us.
fn topics(message: &[u8]) -> [Option<Topic>; 2] {
    let build = |id: &str| id.parse().ok().map(Topic::Build);
    match std::str::from_utf8(message).map(|text| text.split_once(' ').unwrap_or((text, ""))) {
        Ok(("b", id)) => [build(id), None],
        Ok(("n", id)) => [Some(Topic::Queue), build(id)],
        Ok(("q", _)) => [Some(Topic::Queue), None],
        Ok(("r", _)) => [Some(Topic::Removals), None],
        Ok(("l", _)) => [Some(Topic::Locks), None],
        Ok(("a", _)) => [Some(Topic::Accounts), None],
        Ok(("h", _)) => [Some(Topic::Hooks), None],
        Ok(("u", id)) => [id.parse().ok().map(Topic::Run), None],
        Ok(("p", id)) => [id.parse().ok().map(Topic::App), None],
        _ => [None, None],
    }
}
