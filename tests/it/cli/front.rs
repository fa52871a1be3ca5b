//! What stands before a service: it refuses submissions, or holds their answers, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const SUBMISSION: &[u8] = b"POST /api/v1/builds HTTP/1.1\r\n";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 0\r\nconnection: close\r\n\r\n";

struct Shared {
    /// Submissions that are still refused.
    refuses: AtomicUsize,
    open: watch::Sender<bool>,
    sent: Mutex<Vec<u8>>,
}

/// Stops working when dropped.
pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    /// At this address, before `service`; it refuses the first submissions, and holds the answers to the others unless it is open.
    pub async fn before(service: SocketAddr, at: &str, refuses: usize, open: bool) -> Self {
        let listener = TcpListener::bind(at).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (refuses, open) = (AtomicUsize::new(refuses), watch::Sender::new(open));
        let shared = Arc::new(Shared { refuses, open, sent: Mutex::default() });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, service, Arc::clone(&of_task)));
            }
        });
        Self { address, shared, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the answers go.
    pub fn open(&self) {
        self.shared.open.send_replace(true);
    }

    /// How many submissions are still to be refused.
    pub fn refuses(&self) -> usize {
        self.shared.refuses.load(Ordering::Relaxed)
    }

    /// Whether the service was sent this.
    pub fn was_sent(&self, bytes: &[u8]) -> bool {
        self.shared.sent.lock().expect("not poisoned").windows(bytes.len()).any(|window| window == bytes)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(client: TcpStream, service: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(service).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let submitted = AtomicBool::new(false);
    let (refusal, refused) = tokio::sync::oneshot::channel();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let chunk = &buffer[..read];
            shared.sent.lock().expect("not poisoned").extend_from_slice(chunk);
            if chunk.starts_with(SUBMISSION) {
                if shared.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let _ = refusal.send(());
                    // What is still sent is taken, so that the answer is read.
                    while from_client.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                    return;
                }
                submitted.store(true, Ordering::Relaxed);
            }
            if to_server.write_all(chunk).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut open = shared.open.subscribe();
        let mut refused = refused;
        loop {
            tokio::select! {
                Ok(()) = &mut refused => {
                    let _ = to_client.write_all(BUSY).await;
                    let _ = to_client.shutdown().await;
                    return std::future::pending().await;
                }
                read = from_server.read(&mut buffer) => {
                    let Ok(read @ 1..) = read else { return };
                    if submitted.load(Ordering::Relaxed) && open.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
