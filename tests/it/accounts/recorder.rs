//! A registry that says what a test wants it to say, and remembers every word that was said to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Stops answering when dropped.
pub struct Recorder {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

type Answer = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Recorder {
    /// Listens on an address of this machine; `answer` gets each request's head and makes the whole answer.
    pub async fn start(address: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heard, answer): (Arc<Mutex<Vec<String>>>, Answer) = (Arc::default(), Arc::new(answer));
        let notes = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&notes), Arc::clone(&answer)));
            }
        });
        Self { address, heard, task }
    }

    /// As it stands in an image's name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.heard.lock().expect("not poisoned").clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, heard: Arc<Mutex<Vec<String>>>, answer: Answer) {
    let mut head = Vec::new();
    while let Ok(read) = stream.read_buf(&mut head).await {
        if read == 0 {
            // What was said without an end counts too.
            if !head.is_empty() {
                heard.lock().expect("not poisoned").push(String::from_utf8_lossy(&head).into_owned());
            }
            return;
        }
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        heard.lock().expect("not poisoned").push(text.clone());
        head.drain(..end + 4);
        if stream.write_all(answer(&text).as_bytes()).await.is_err() {
            return;
        }
    }
}
