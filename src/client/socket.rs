//! A terminal's WebSocket, over the same connection, certificates and token as every other request.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode, Upgraded, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Client, refused};

/// The service pings more often than that.
const SILENCE: Duration = Duration::from_secs(80);

/// What a terminal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Bytes(Bytes),
    Said(Said),
    /// There is no more: the code of RFC 6455, and why.
    Closed(u16, String),
}

/// What a terminal tells besides bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// By which it can be come back to.
    Session(String),
    /// Where the bytes that follow come from: `stdout` or `stderr`.
    Stream(String),
    /// How the process ended.
    Exit(Option<i64>),
}

/// Says something to a terminal.
pub struct Sayer(SplitSink<WebSocketStream<Upgraded>, Message>);

impl Sayer {
    /// # Errors
    /// When the connection has ended.
    pub async fn bytes(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary(bytes)).await?)
    }

    /// # Errors
    /// When the connection has ended.
    pub async fn size(&mut self, columns: u16, rows: u16) -> anyhow::Result<()> {
        self.text(&json!({"resize": {"cols": columns, "rows": rows}})).await
    }

    /// There is no more input.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.text(&json!({"eof": true})).await
    }

    async fn text(&mut self, value: &Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(value.to_string())).await?)
    }
}

/// Hears what a terminal tells.
pub struct Teller(SplitStream<WebSocketStream<Upgraded>>);

impl Teller {
    /// # Errors
    /// When the connection breaks off.
    pub async fn next(&mut self) -> anyhow::Result<Frame> {
        loop {
            let heard = timeout(SILENCE, self.0.next()).await.context("nothing was heard of the service for too long")?;
            match heard.context("the connection has ended")?.context("the connection broke off")? {
                Message::Binary(bytes) => return Ok(Frame::Bytes(bytes)),
                // What a later service says may be unknown here.
                Message::Text(text) => {
                    if let Ok(said) = serde_json::from_str(&text) {
                        return Ok(Frame::Said(said));
                    }
                }
                Message::Close(Some(frame)) => return Ok(Frame::Closed(frame.code.into(), frame.reason.to_string())),
                Message::Close(None) => return Ok(Frame::Closed(1005, String::new())),
                // Pings are answered below us.
                _ => {}
            }
        }
    }
}

impl Client {
    /// Opens a terminal.
    ///
    /// # Errors
    /// As [`Client::call`]; or when what answers is no WebSocket.
    pub async fn terminal(&self, path: &str) -> anyhow::Result<(Sayer, Teller)> {
        let key = generate_key();
        let request = self
            .request(&self.lasting, Method::GET, path, None)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(answer.status(), &answer.bytes().await?).into());
        }
        let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            bail!("what answers at {} is no WebSocket", self.url);
        }
        let (sink, stream) = WebSocketStream::from_raw_socket(answer.upgrade().await?, Role::Client, None).await.split();
        Ok((Sayer(sink), Teller(stream)))
    }
}
