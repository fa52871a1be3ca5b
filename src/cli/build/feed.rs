//! The events of one build, from the first to the last. A connection that breaks off, or a service that is started again, is
//! gone on with at the event after the last one.

use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Refused};

/// The service says something, if only that it is there, more often than that.
const SILENCE: Duration = Duration::from_secs(45);
/// A service that is away for longer is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A line of the log.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::cli) struct Line {
    pub seq: u64,
    pub at: String,
    pub stream: String,
    pub step: Option<String>,
    pub text: String,
}

/// What is heard of a build.
#[derive(Debug)]
pub(in crate::cli) enum Told {
    Line(Line),
    /// The build as it is now.
    State(Value),
    /// The service does not answer; it is tried again.
    Away,
}

/// Everything of the build, in its order, or at first only the last lines. Ends with the build; with an error when the service refuses, or is away for too long.
pub(in crate::cli) fn feed<'a>(
    client: &'a Client,
    id: &str,
    tail: Option<u64>,
) -> impl Stream<Item = anyhow::Result<Told>> + use<'a> {
    let path = format!("/api/v1/builds/{id}/logs");
    stream! {
        let mut last: Option<String> = None;
        let tail = tail.map_or(String::new(), |lines| format!("?tail={lines}"));
        let (mut pause, mut heard, mut told) = (PAUSE, Instant::now(), false);
        loop {
            // Who comes back goes on from where it was, and not from the last lines again.
            let tail = if last.is_none() { tail.as_str() } else { "" };
            let broke = match client.events_after(&format!("{path}{tail}"), last.as_deref()).await {
                Ok(mut events) => loop {
                    heard = Instant::now();
                    match events.next_within(SILENCE).await {
                        Ok(Some((name, _))) if name == "end" => return,
                        Ok(Some((name, data))) => {
                            (pause, told) = (PAUSE, false);
                            last = events.last_id().map(str::to_owned).or(last);
                            if let Some(event) = read(&name, data) {
                                yield Ok(event);
                            }
                        }
                        Ok(None) => break anyhow::anyhow!("the connection ended"),
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            if is_lasting(&broke) || heard.elapsed() > PATIENCE {
                yield Err(broke);
                return;
            }
            // The first try is made at once: a connection may just have been cut.
            if pause > PAUSE && !std::mem::replace(&mut told, true) {
                yield Ok(Told::Away);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// None for what a later service tells and this command does not know.
fn read(name: &str, data: Value) -> Option<Told> {
    match name {
        "log" => serde_json::from_value(data).ok().map(Told::Line),
        "state" => Some(Told::State(data)),
        _ => None,
    }
}

/// Whether trying again would be answered the same.
fn is_lasting(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status < 500 && ![408, 429].contains(&refused.status))
}
