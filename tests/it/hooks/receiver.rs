//! Somebody's service that webhooks tell of builds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::watch;

/// One request, as it came.
#[derive(Clone)]
pub struct Heard {
    pub head: String,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    pub fn event(&self) -> &str {
        self.header("dockwright-event").expect("an event")
    }

    pub fn delivery(&self) -> &str {
        self.header("dockwright-delivery").expect("an id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Whether it is signed with this secret, by RFC 2104 computed here.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut key = [0; 64];
        if secret.len() > key.len() {
            key[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            key[..secret.len()].copy_from_slice(secret.as_bytes());
        }
        let text = format!("{}.{}", self.header("dockwright-timestamp").expect("a time"), self.body);
        let inner = Sha256::new_with_prefix(key.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
        let outer = Sha256::new_with_prefix(key.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
        self.header("dockwright-signature") == Some(&format!("v1={}", hex::encode(outer)))
    }
}

/// Makes the answer to a request and its number, from 1; with none the connection stays open and silent.
type Answer = Arc<dyn Fn(usize, &Heard) -> Option<String> + Send + Sync>;

/// Stops when dropped.
pub struct Receiver {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    pub async fn start(answer: impl Fn(usize, &Heard) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heard, answer): (Arc<Mutex<Vec<Heard>>>, Answer) = (Arc::default(), Arc::new(answer));
        let notes = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&notes), Arc::clone(&answer)));
            }
        });
        Self { address, heard, task }
    }

    /// Takes whatever comes.
    pub async fn willing() -> Self {
        Self::start(|_, _| Some(answer("200 OK", "taken"))).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/told", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("not poisoned").clone()
    }

    /// The first requests, as soon as there are so many.
    pub async fn hears(&self, many: usize) -> Vec<Heard> {
        watch(&format!("{many} requests came"), || self.heard().len() >= many).await;
        self.heard()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A whole answer; `head` is its status, and may have headers behind it.
pub fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn converse(mut stream: TcpStream, heard: Arc<Mutex<Vec<Heard>>>, answer: Answer) {
    let mut bytes = Vec::new();
    let request = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let request = Heard { head: head.to_owned(), body: body.to_owned() };
        if request.header("content-length").and_then(|length| length.parse().ok()) == Some(body.len()) {
            break request;
        }
    };
    let number = {
        let mut heard = heard.lock().expect("not poisoned");
        heard.push(request.clone());
        heard.len()
    };
    match answer(number, &request) {
        // Whoever asked may have gone.
        Some(text) => drop(stream.write_all(text.as_bytes()).await),
        None => std::future::pending().await,
    }
}
