//! The events of one build, from the first to the last. A connection that breaks off, or a service that is started again, is
//! gone on with at the event after the last one.

use async_stream::stream;
use futures::Stream;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::again::Patience;
use crate::client::{Client, Lost, Refused};

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
    patience: Patience,
) -> impl Stream<Item = anyhow::Result<Told>> + use<'a> {
    let path = format!("/api/v1/builds/{id}/logs");
    stream! {
        let mut last: Option<String> = None;
        let tail = tail.map_or(String::new(), |lines| format!("?tail={lines}"));
        let (mut pause, mut heard, mut told) = (patience.pause, Instant::now(), false);
        loop {
            // Who comes back goes on from where it was, and not from the last lines again.
            let tail = if last.is_none() { tail.as_str() } else { "" };
            let asked = format!("{path}{tail}");
            let answer = timeout(patience.silence, client.events_after(&asked, last.as_deref())).await;
            let broke = match answer.unwrap_or_else(|_| Err(Lost::Silent(patience.silence).into())) {
                Ok(mut events) => loop {
                    heard = Instant::now();
                    match events.next_within(patience.silence).await {
                        Ok(Some((name, _))) if name == "end" => return,
                        Ok(Some((name, data))) => {
                            (pause, told) = (patience.pause, false);
                            last = events.last_id().map(str::to_owned).or(last);
                            if let Some(event) = read(&name, data) {
                                yield Ok(event);
                            }
                        }
                        Ok(None) => break Lost::Ended.into(),
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            if is_lasting(&broke) || heard.elapsed() > patience.away {
                yield Err(broke);
                return;
            }
            // The first try is made at once: a connection may just have been cut.
            if pause > patience.pause && !std::mem::replace(&mut told, true) {
                yield Ok(Told::Away);
            }
            sleep(pause).await;
            pause = (pause * 2).min(patience.longest_pause);
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
