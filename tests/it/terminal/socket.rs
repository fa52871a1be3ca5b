//! A WebSocket client that knows nothing of the service's own.

use std::collections::VecDeque;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::within;
use crate::support::service::Running;

/// A terminal as a client has it.
pub struct Terminal {
    socket: WebSocketStream<TcpStream>,
    /// By which it can be come back to.
    pub session: String,
    /// Bytes that came and were not yet looked at.
    seen: Vec<u8>,
    /// What was said besides bytes, oldest first.
    said: VecDeque<Value>,
    closed: Option<(u16, String)>,
}

/// Tries to open one, with headers of the caller's; else the refusal's status and problem.
pub async fn open(service: &Running, path: &str, headers: &[(&'static str, &str)]) -> Result<Terminal, (u16, Value)> {
    let mut request = format!("ws://{}/api/v1/containers/{path}", service.address).into_client_request().expect("an address");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    let stream = TcpStream::connect(service.address).await.expect("connects");
    let (socket, _) = match within(20, "an answer", client_async(request, stream)).await {
        Ok(opened) => opened,
        Err(Error::Http(refused)) => {
            let body = refused.body().as_deref().unwrap_or_default();
            return Err((refused.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null)));
        }
        Err(other) => panic!("{other}"),
    };
    let mut terminal = Terminal { socket, session: String::new(), seen: Vec::new(), said: VecDeque::new(), closed: None };
    let first = terminal.said().await;
    terminal.session = first["session"].as_str().unwrap_or_else(|| panic!("the first is the session: {first}")).to_owned();
    Ok(terminal)
}

/// Opens one as the owner of this token.
pub async fn open_as(service: &Running, token: &str, path: &str) -> Terminal {
    try_as(service, token, path).await.unwrap_or_else(|refused| panic!("{refused:?}"))
}

pub async fn try_as(service: &Running, token: &str, path: &str) -> Result<Terminal, (u16, Value)> {
    open(service, path, &[("authorization", &format!("Bearer {token}"))]).await
}

impl Terminal {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.send(Message::Binary(bytes.as_ref().to_vec().into())).await.expect("sends");
    }

    pub async fn say(&mut self, value: &Value) {
        self.text(&value.to_string()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("sends");
    }

    pub async fn resize(&mut self, columns: u32, rows: u32) {
        self.say(&json!({"resize": {"cols": columns, "rows": rows}})).await;
    }

    /// Reads one message; false at the end.
    async fn read(&mut self) -> bool {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => self.seen.extend_from_slice(&bytes),
            Some(Ok(Message::Text(text))) => self.said.push_back(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(frame))) => {
                self.closed = Some(frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string())));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
        true
    }

    /// The next that is said besides bytes.
    pub async fn said(&mut self) -> Value {
        while self.said.is_empty() {
            assert!(within(20, "something is said", self.read()).await, "the terminal ended: {:?}", self.shown());
        }
        self.said.pop_front().expect("there is one")
    }

    /// Reads until this has come; all bytes up to there.
    pub async fn until(&mut self, wanted: &str) -> String {
        self.until_bytes(wanted.as_bytes()).await;
        let text = self.shown();
        let end = text.find(wanted).expect("it came") + wanted.len();
        self.seen = text.as_bytes()[end..].to_vec();
        text[..end].to_owned()
    }

    async fn until_bytes(&mut self, wanted: &[u8]) {
        while !self.seen.windows(wanted.len()).any(|part| part == wanted) {
            let more = tokio::time::timeout(std::time::Duration::from_secs(20), self.read()).await;
            assert!(more.unwrap_or(false), "never {:?}: {:?} {:?}", String::from_utf8_lossy(wanted), self.shown(), self.said);
        }
    }

    /// Reads so many bytes.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.seen.len() < count {
            let more = within(30, "all of the bytes", self.read()).await;
            assert!(more, "only {} of {count} bytes: {:?} {:?}", self.seen.len(), self.said, self.closed);
        }
        self.seen.drain(..count).collect()
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads to the end: what was said last, and how it was closed.
    pub async fn end(&mut self) -> (Option<Value>, u16, String) {
        within(20, "the end", async { while self.read().await {} }).await;
        let (code, why) = self.closed.clone().unwrap_or((1006, String::new()));
        (self.said.pop_back(), code, why)
    }

    /// Sends what is refused while it is still on its way, and listens meanwhile, as a browser does; with what code it was closed.
    pub async fn refused(self, bytes: Vec<u8>) -> u16 {
        let (mut sink, mut stream) = self.socket.split();
        let sending = async {
            let _ = sink.send(Message::Binary(bytes.into())).await;
            std::future::pending::<()>().await;
        };
        let closed = async {
            loop {
                let message = stream.next().await.expect("a word before the end").expect("an end in order");
                if let Message::Close(frame) = message {
                    return frame.expect("a code").code.into();
                }
            }
        };
        tokio::select! {
            code = within(20, "the end", closed) => code,
            () = sending => unreachable!("it never ends"),
        }
    }

    /// Goes away without a word.
    pub fn break_off(self) {
        drop(self.socket);
    }

    /// Closes in order.
    pub async fn leave(mut self) {
        self.socket.close(None).await.expect("closes");
        while self.read().await {}
    }
}
