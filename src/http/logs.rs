//! A build's log: as text, followed, tailed, and as server-sent events with resume.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::json;

use super::openapi::forms::BuildPath;
use super::query::{Query, build_id};
use super::view::BuildView;
use super::{App, Caller};
use crate::builds::{LogRange, follow, step_name, tail_start};
use crate::domain::{BuildId, Event, EventBody, LogLine, Scope};
use crate::error::{Error, Result};

/// A silent stream says this often that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Highest `?after=`: both stores count with 63 bits.
const SEQ_MAX: u64 = u64::MAX >> 1;
/// Highest `?step=`.
const STEP_MAX: u64 = 1_000_000;
/// Longest `?tail=`.
pub(super) const TAIL_LINES: u64 = 100_000;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/builds/{id}/logs", get(logs))
}

/// The log, as text or (with `Accept: text/event-stream`) as server-sent events `log`, `state` and, at the end, `end`.
///
/// The `stream` of a `log` is `stdout`, `stderr`, `progress` (the builder's words), `system` (the service's) or `warning` (the service's, of what
/// is surprising about the context).
#[utoipa::path(get, path = "/api/v1/builds/{id}/logs", tag = "builds", operation_id = "get_logs",
    params(BuildPath, ("follow" = Option<bool>, Query, description = "Go on until the build has ended."),
        ("tail" = Option<u64>, Query, minimum = 0, maximum = 100000, description = "Only so many lines, the last ones."),
        ("after" = Option<u64>, Query, minimum = 0, maximum = 9223372036854775807_i64, description = "Only what has a higher number."),
        ("step" = Option<u64>, Query, minimum = 1, maximum = 1000000, description = "Only lines of the step with this number; not together with `tail`."),
        ("Last-Event-ID" = Option<String>, Header, example = "17", description = "For events, as `after`: browsers send it when they come back.")),
    responses((status = 200, description = "The log.", content((String = "text/plain; charset=utf-8"), (String = "text/event-stream"))),
        (status = 400, description = "Not an id, or a wrong parameter."), (status = 404, description = "There is no such build.")))]
pub(super) async fn logs(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let id = build_id(&id)?;
    let mut query = Query::of(&uri, &["follow", "tail", "after", "step"]);
    let (follow, tail, after) = (query.flag("follow"), query.number("tail", 0..=TAIL_LINES), query.number("after", 0..=SEQ_MAX));
    let step = query.number("step", 1..=STEP_MAX);
    query.end()?;
    app.builds.get(&caller, id).await?;
    if step.is_some() && tail.is_some() {
        return Err(Error::invalid("invalid_query", "tail", "cannot be asked for together with step"));
    }
    let step = match step.map(|step| u32::try_from(step).unwrap_or(u32::MAX)) {
        Some(step) => Some(step_name(&app.builds, &caller, id, step).await?),
        None => None,
    };
    let scope = caller.scope();
    let events = wants_events(&headers);
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse::<u64>().ok());
    let start = match tail {
        Some(lines) => tail_start(&app.builds, &scope, id, lines).await?,
        None => 0,
    };
    let after = start.max(after.unwrap_or(0)).max(resumed.filter(|_| events).unwrap_or(0));
    let range = LogRange { after, follow: follow || events };
    Ok(if events { sse(app, scope, id, range, step) } else { text(app, scope, id, range, step) })
}

/// Whether a client asks for server-sent events.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.to_str().unwrap_or_default().contains("text/event-stream"))
}

fn text(app: App, scope: Scope, id: BuildId, range: LogRange, step: Option<String>) -> Response {
    let lines = batches(app, scope, id, range).map(move |events| {
        let mut text = String::new();
        for event in events? {
            if let EventBody::Log(line) = event.body
                && is_of(&line, step.as_deref())
            {
                text.push_str(&line.text);
                text.push('\n');
            }
        }
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(lines)).into_response()
}

fn sse(app: App, scope: Scope, id: BuildId, range: LogRange, step: Option<String>) -> Response {
    let mut batches = Box::pin(batches(app, scope, id, range));
    let told = stream! {
        let mut last = range.after;
        while let Some(batch) = batches.next().await {
            // A stream that breaks off without `end` is resumed by the client from its last number.
            let Ok(events) = batch else { return };
            for event in events {
                last = event.seq;
                if matches!(&event.body, EventBody::Log(line) if !is_of(line, step.as_deref())) {
                    continue;
                }
                yield Ok::<_, Infallible>(shown(&event));
            }
        }
        yield Ok(Sse::default().id(last.to_string()).event("end").data("{}"));
    };
    let stream = axum::response::Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive"));
    ([(header::CACHE_CONTROL, "no-cache"), (header::HeaderName::from_static("x-accel-buffering"), "no")], stream).into_response()
}

fn is_of(line: &LogLine, step: Option<&str>) -> bool {
    step.is_none_or(|step| line.step.as_deref() == Some(step))
}

fn shown(event: &Event) -> Sse {
    let told = Sse::default().id(event.seq.to_string());
    match &event.body {
        EventBody::Log(line) => {
            let data = json!({"seq": event.seq, "at": event.at, "stream": line.stream, "step": line.step, "text": line.text});
            told.event("log").data(data.to_string())
        }
        EventBody::State { build } => {
            let view = BuildView::of_record(build, None);
            told.event("state").data(serde_json::to_string(&view).expect("serialises, because it holds only text and numbers"))
        }
    }
}

/// The build's events, until they end or this process is to stop.
fn batches(app: App, scope: Scope, id: BuildId, range: LogRange) -> impl Stream<Item = std::io::Result<Vec<Event>>> + Send {
    let stop = app.stop.clone();
    stream! {
        let mut events = Box::pin(follow(app.builds, scope, id, range));
        loop {
            tokio::select! {
                next = events.next() => match next {
                    Some(Ok(batch)) => yield Ok(batch),
                    Some(Err(error)) => {
                        tracing::warn!(build = %id, %error, "a log's reader was cut off");
                        yield Err(std::io::Error::other("the log cannot be read now"));
                        return;
                    }
                    None => return,
                },
                () = stop.cancelled(), if range.follow => {
                    yield Err(std::io::Error::other("the service stops; follow again from the last number"));
                    return;
                }
            }
        }
    }
}
