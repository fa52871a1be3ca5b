//! `/api/v1/containers/{container}/exec`: a process in a container, over a WebSocket.
//!
//! Binary frames are bytes of the process, both ways. Text frames are JSON: from the client `{"resize": {"cols", "rows"}}` and
//! `{"eof": true}`, from the server `{"session": ID}` at first, `{"stream": "stdout"|"stderr"}` where the source of the bytes changes, and
//! `{"exit": CODE}` at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use uuid::Uuid;

use super::lasting::Right;
use super::query::Query;
use super::{App, Caller, Problem};
use crate::apps::{Attached, Hands, News, Parted, SIZE_MAX, Screen, TerminalRequest, Typed};
use crate::error::Result;

/// Proxies close what is silent for longer.
const PING: Duration = Duration::from_secs(25);
/// Who has not been heard for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest message of a client: a paste comes as one.
const MESSAGE_BYTES: usize = 2 << 20;
/// How long a client may take to take the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Codes of RFC 6455, and after them our own, which are those of HTTP with 4 before.
mod code {
    pub const NORMAL: u16 = 1000;
    pub const AWAY: u16 = 1001;
    pub const TOO_LARGE: u16 = 1009;
    pub const FAULT: u16 = 1011;
    pub const BAD_FRAME: u16 = 4400;
    pub const RIGHT_ENDED: u16 = 4401;
    pub const GONE: u16 = 4404;
    pub const SILENT: u16 = 4408;
    pub const TAKEN_OVER: u16 = 4409;
}

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/containers/{container}/exec", get(exec))
}

/// A process in a running container, with a terminal or without: a WebSocket.
///
/// Binary frames are bytes, both ways. Text frames are JSON: `{"resize": {"cols", "rows"}}` and `{"eof": true}` from the client; `{"session": ID}` (first),
/// `{"stream": "stderr"}` and `{"exit": CODE}` (last) from the server. Whoever comes back with `session` within a minute finds the process as it
/// was, and the last 64 KiB of its output; a process that nobody comes back to is ended.
#[utoipa::path(get, path = "/api/v1/containers/{container}/exec", tag = "containers", operation_id = "exec",
    params(("container" = String, Path, description = "The engine's id of the container (12 digits are enough), its name, or its run's id."),
        ("cmd" = Option<Vec<String>>, Query, explode, description = "The program, then each of its arguments; without any, the first shell that there is. No shell splits them."),
        ("user" = Option<String>, Query, description = "`user[:group]`, by name or number."),
        ("tty" = Option<bool>, Query, description = "`true` if absent."),
        ("cols" = Option<u16>, Query, minimum = 1, maximum = 1000), ("rows" = Option<u16>, Query, minimum = 1, maximum = 1000),
        ("session" = Option<Uuid>, Query, description = "Come back to this one; without any of the others.")),
    responses((status = 101, description = "The terminal."), (status = 400, description = "A wrong parameter."),
        (status = 404, description = "There is no such container, or no such terminal in it."),
        (status = 409, description = "The container does not run (`not_running`), or the engine refuses."),
        (status = 426, description = "Not a WebSocket (`upgrade_required`)."), (status = 429, description = "Too many terminals.")))]
pub(super) async fn exec(
    State(app): State<App>,
    Extension(caller): Caller,
    Extension(right): Extension<std::sync::Arc<Right>>,
    Path(id): Path<String>,
    uri: Uri,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let wanted = wanted(&uri)?;
    let place = app.apps.terminal_place(&caller, &id).await?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(refused) => return Ok(no_socket(&refused)),
    };
    let attached = match wanted {
        Wanted::New(request) => app.apps.open_terminal(&caller, place, request).await?,
        Wanted::Left(session) => app.apps.return_to_terminal(&caller, &place, session).await?,
    };
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, attached, right)))
}

/// A terminal of one's own, or one that was left.
enum Wanted {
    New(TerminalRequest),
    Left(Uuid),
}

fn wanted(uri: &Uri) -> Result<Wanted> {
    let mut query = Query::with_many(uri, &["cmd", "user", "tty", "cols", "rows", "session"], &["cmd"]);
    let session = query.parse("session", "the id of a terminal");
    let tty = query.parse("tty", "true or false").unwrap_or(true);
    let (command, user) = (query.texts("cmd"), query.text("user").map(str::to_owned));
    let mut side = |name: &str| query.number(name, 1..=u64::from(SIZE_MAX)).and_then(|n| u16::try_from(n).ok());
    let size = side("cols").zip(side("rows"));
    query.end()?;
    let new = TerminalRequest { command, user, tty, size };
    Ok(session.map_or(Wanted::New(new), Wanted::Left))
}

fn no_socket(refused: &WebSocketUpgradeRejection) -> Response {
    let told = format!("a terminal is a WebSocket: {}", refused.body_text());
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", told).into_response();
    let websocket = axum::http::HeaderValue::from_static("websocket");
    response.headers_mut().insert(axum::http::header::UPGRADE, websocket);
    response
}

/// Why a socket is closed.
struct Farewell {
    code: u16,
    why: &'static str,
    /// The process's own end, told before.
    exit: Option<Option<i64>>,
}

const fn farewell(code: u16, why: &'static str) -> Farewell {
    Farewell { code, why, exit: None }
}

/// When the client was heard last, in milliseconds since the terminal began. One that is not listened to is not silent.
struct Heard {
    began: Instant,
    last: AtomicU64,
}

impl Heard {
    const BUSY: u64 = u64::MAX;

    fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn now(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(Self::BUSY - 1);
        self.last.store(since, Ordering::Relaxed);
    }

    fn busy(&self) {
        self.last.store(Self::BUSY, Ordering::Relaxed);
    }

    /// Comes when nothing was heard for too long.
    async fn silence(&self) {
        loop {
            let last = self.last.load(Ordering::Relaxed);
            let heard = if last == Self::BUSY { Instant::now() } else { self.began + Duration::from_millis(last) };
            if heard.elapsed() >= SILENCE {
                return;
            }
            sleep_until(heard + SILENCE).await;
        }
    }
}

async fn serve(socket: WebSocket, attached: Attached, right: std::sync::Arc<Right>) {
    let Attached { session, screen, hands } = attached;
    let (mut sink, mut stream) = socket.split();
    let heard = Heard::new();
    let end = tokio::select! {
        biased;
        parted = hands.parted() => sent_away(parted),
        () = right.lost() => {
            hands.end();
            farewell(code::RIGHT_ENDED, "the right to this terminal has ended")
        }
        end = tell(&mut sink, session, screen) => end,
        end = listen(&mut stream, &hands, &heard) => end,
        () = heard.silence() => farewell(code::SILENT, "nothing was heard for too long"),
    };
    // Being sent away ends the news, which may be seen first.
    let end = if end.code == code::GONE { hands.why().map_or(end, sent_away) } else { end };
    // A client that does not take its end is left.
    let _ = timeout(CLOSE_WITHIN, close(sink, stream, end)).await;
    drop(hands);
}

const fn sent_away(why: Parted) -> Farewell {
    match why {
        Parted::TakenOver => farewell(code::TAKEN_OVER, "the terminal was taken over from elsewhere"),
        Parted::Stopped => farewell(code::AWAY, "the service stops"),
    }
}

/// Tells what the process writes, until it ends.
async fn tell(sink: &mut SplitSink<WebSocket, Message>, session: Uuid, mut screen: Screen) -> Farewell {
    let gone = farewell(code::AWAY, "");
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if sink.send(text(&json!({"session": session}))).await.is_err() {
        return gone;
    }
    let mut of_stderr = false;
    loop {
        let message = tokio::select! {
            news = screen.next() => match news {
                Some(News::Output { stderr, bytes }) => {
                    let stream = if stderr { "stderr" } else { "stdout" };
                    if stderr != std::mem::replace(&mut of_stderr, stderr) && sink.feed(text(&json!({"stream": stream}))).await.is_err() {
                        return gone;
                    }
                    Message::Binary(bytes)
                }
                Some(News::Ended(exit @ Some(_))) => return Farewell { exit: Some(exit), ..farewell(code::NORMAL, "") },
                Some(News::Ended(None)) => return Farewell { exit: Some(None), ..farewell(code::FAULT, "the engine cannot say how it ended") },
                None => return farewell(code::GONE, "there is no such terminal any more"),
            },
            _ = ping.tick() => Message::Ping(bytes::Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return gone;
        }
    }
}

fn text(value: &serde_json::Value) -> Message {
    Message::Text(value.to_string().into())
}

/// Takes what is typed, until the client goes.
async fn listen(stream: &mut SplitStream<WebSocket>, hands: &Hands, heard: &Heard) -> Farewell {
    while let Some(message) = stream.next().await {
        let typed = match message {
            Ok(Message::Binary(bytes)) => Typed::Bytes(bytes),
            Ok(Message::Text(text)) => match command(&text) {
                Some(typed) => typed,
                None => {
                    return farewell(
                        code::BAD_FRAME,
                        "a text frame is {\"resize\": {\"cols\", \"rows\"}} or {\"eof\": true}; bytes are binary",
                    );
                }
            },
            Ok(Message::Ping(_) | Message::Pong(_)) => {
                heard.now();
                continue;
            }
            Ok(Message::Close(_)) => break,
            Err(error) if is_too_large(&error) => return farewell(code::TOO_LARGE, "a message may have 2 MiB"),
            Err(_) => break,
        };
        heard.busy();
        hands.type_in(typed).await;
        heard.now();
    }
    farewell(code::NORMAL, "")
}

/// What a client says besides bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Command {
    Resize { cols: u16, rows: u16 },
    Eof(bool),
}

fn command(text: &str) -> Option<Typed> {
    let possible = 1..=SIZE_MAX;
    match serde_json::from_str(text).ok()? {
        Command::Resize { cols, rows } if possible.contains(&cols) && possible.contains(&rows) => {
            Some(Typed::Size { columns: cols, rows })
        }
        Command::Eof(true) => Some(Typed::End),
        _ => None,
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("too long") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Tells the end, and reads on until the client has it: what came and was not read would take the end from it.
async fn close(mut sink: SplitSink<WebSocket, Message>, mut stream: SplitStream<WebSocket>, end: Farewell) {
    if let Some(exit) = end.exit {
        let _ = sink.send(text(&json!({"exit": exit}))).await;
    }
    let frame = CloseFrame { code: end.code, reason: Utf8Bytes::from_static(end.why) };
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = stream.next().await {}
        // Of what is too large nothing can be read any more, so nobody knows when the client has its end: it gets all of the time.
        if end.code == code::TOO_LARGE {
            std::future::pending::<()>().await;
        }
    }
}
