//! Logs of runs and containers, in the same forms as a build's: text, followed, tailed, and server-sent events with resume.

use std::convert::Infallible;

use async_stream::stream;
use axum::body::Body;
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::json;

use super::App;
use super::logs::{KEEP_ALIVE, TAIL_LINES, wants_events};
use super::query::Query;
use super::runs::RunView;
use super::streams::Open;
use crate::apps::{Line, Lines, OutputQuery, Place};
use crate::auth::Principal;
use crate::domain::{RunId, Scope};
use crate::error::Result;
use crate::store::Topic;
use crate::store::objects::Object;

/// Lines that are sent together when they are there.
const BATCH: usize = 256;

/// What a request asks of a log.
#[derive(Clone, Copy)]
pub struct Asked {
    pub query: OutputQuery,
    /// As server-sent events.
    events: bool,
    timestamps: bool,
}

impl Asked {
    /// # Errors
    /// With all faults of the query together.
    pub fn of(uri: &Uri, headers: &HeaderMap, notes: bool) -> Result<Self> {
        let mut query = Query::of(uri, &["follow", "tail", "after", "timestamps"]);
        let (follow, tail) = (query.flag("follow"), query.number("tail", 0..=TAIL_LINES));
        let after: Option<Place> = query.read("after", str::parse);
        let timestamps = query.flag("timestamps");
        query.end()?;
        let events = wants_events(headers);
        let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse::<Place>().ok());
        let resumed = resumed.filter(|_| events);
        let after = match (after, resumed) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        // Who comes back goes on from where it was, and not from the last lines again.
        let tail = tail.filter(|_| resumed.is_none());
        Ok(Self { query: OutputQuery { follow: follow || events, tail, after, notes }, events, timestamps })
    }

    /// The answer; `run` is whose changes the events tell, too.
    ///
    /// # Errors
    /// [`crate::error::Error::TooMany`] when the caller follows too much already.
    pub fn answer(self, app: App, caller: &Principal, run: Option<RunId>, lines: Lines) -> Result<Response> {
        let open = self.query.follow.then(|| app.streams.open(&caller.owner)).transpose()?;
        let lines = until(app.stop.clone(), lines, open);
        if self.events {
            return Ok(sse(app, caller.scope(), run, lines, self.query.after.unwrap_or_default()));
        }
        let timestamps = self.timestamps;
        let text = lines.ready_chunks(BATCH).map(move |lines| {
            let mut text = String::new();
            for line in lines {
                let line = line?;
                if timestamps {
                    text.push_str(&format!("{} ", line.at));
                }
                text.push_str(&line.text);
                text.push('\n');
            }
            Ok::<_, std::io::Error>(Bytes::from(text))
        });
        let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
        Ok((headers, Body::from_stream(text)).into_response())
    }
}

/// The lines, until they end or this process is to stop. A fault of ours is told to the log alone.
fn until(
    stop: tokio_util::sync::CancellationToken,
    mut lines: Lines,
    open: Option<Open>,
) -> impl Stream<Item = std::io::Result<Line>> + Send + 'static {
    stream! {
        let _open = open;
        loop {
            let next = tokio::select! { next = lines.next() => next, () = stop.cancelled() => {
                yield Err(std::io::Error::other("the service stops; follow again from the last number"));
                return;
            } };
            match next {
                Some(Ok(line)) => yield Ok(line),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a log's reader was cut off");
                    yield Err(std::io::Error::other("the log cannot be read now"));
                    return;
                }
                None => return,
            }
        }
    }
}

fn sse(
    app: App,
    scope: Scope,
    run: Option<RunId>,
    lines: impl Stream<Item = std::io::Result<Line>> + Send + 'static,
    mut at: Place,
) -> Response {
    let mut lines = Box::pin(lines);
    let told = stream! {
        let mut record = Watched { app: &app, scope, run, seen: 0 };
        let mut moved = run.map(|run| app.apps.store().wakes().subscribe(Topic::Run(run)));
        if let Some(state) = record.state().await {
            yield Ok::<_, Infallible>(state);
        }
        loop {
            let woken = async {
                match &mut moved {
                    Some(moved) => moved.woken(KEEP_ALIVE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A state is told behind the lines that led to it.
                biased;
                line = lines.next() => match line {
                    Some(Ok(line)) => {
                        at = line.place;
                        yield Ok(shown(&line));
                    }
                    // A stream that breaks off without `end` is resumed by the client from its last number.
                    Some(Err(_)) => return,
                    None => break,
                },
                () = woken => if let Some(state) = record.state().await {
                    yield Ok(state);
                },
            }
        }
        if let Some(state) = record.state().await {
            yield Ok(state);
        }
        yield Ok(Sse::default().id(at.to_string()).event("end").data("{}"));
    };
    streamed(told)
}

/// Server-sent events that a proxy does not hold back.
pub fn streamed(told: impl Stream<Item = std::result::Result<Sse, Infallible>> + Send + 'static) -> Response {
    let stream = axum::response::Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive"));
    ([(header::CACHE_CONTROL, "no-cache"), (header::HeaderName::from_static("x-accel-buffering"), "no")], stream).into_response()
}

fn shown(line: &Line) -> Sse {
    let place = line.place.to_string();
    let data = json!({"seq": place, "at": line.at, "stream": line.stream, "step": line.step, "text": line.text});
    Sse::default().id(place).event("log").data(data.to_string())
}

/// A run whose changes are told beside its lines.
struct Watched<'a> {
    app: &'a App,
    scope: Scope,
    run: Option<RunId>,
    /// Revision of the record that was told last.
    seen: u64,
}

impl Watched<'_> {
    /// The run, if it is another than the last time.
    async fn state(&mut self) -> Option<Sse> {
        let found = self.app.apps.fleet().records().run(&self.scope, self.run?).await;
        let Object { revision, body, .. } = found.ok().flatten()?;
        if std::mem::replace(&mut self.seen, revision) == revision {
            return None;
        }
        let view = RunView::of(self.app, &body);
        Some(Sse::default().event("state").json_data(view).expect("serialises, because it holds only text and numbers"))
    }
}
