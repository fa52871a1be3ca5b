//! A proxy in front of the engine or a registry that holds a request, or what answers it, where a test wants it, and lets it go when told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What the proxy stands before.
#[derive(Clone)]
pub enum Behind {
    Tcp(String),
    Unix(PathBuf),
}

struct Shared {
    needle: &'static str,
    /// Bytes of the request that still pass before it is held.
    pass: usize,
    held: watch::Sender<usize>,
    open: watch::Sender<bool>,
    muted: watch::Sender<bool>,
    requests: Mutex<Vec<String>>,
}

/// Stops working when dropped.
pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// Holds every request whose head contains `needle`, after `pass` bytes of it.
    pub async fn before(behind: Behind, needle: &'static str, pass: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            needle,
            pass,
            held: watch::Sender::new(0),
            open: watch::Sender::new(false),
            muted: watch::Sender::new(false),
            requests: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, behind, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// In front of the machine's engine.
    pub async fn engine(needle: &'static str, pass: usize) -> Self {
        Self::before(Behind::Unix("/var/run/docker.sock".into()), needle, pass).await
    }

    /// Waits until a request is held.
    pub async fn reached(&self) {
        let mut held = self.shared.held.subscribe();
        let reached = held.wait_for(|held| *held > 0);
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("a request comes").expect("the gate stands");
    }

    /// Keeps back what is answered from now on to the requests that it stands before.
    pub fn mute(&self) {
        self.shared.muted.send_replace(true);
    }

    /// Lets go what is held, and holds nothing any more.
    pub fn open(&self) {
        self.shared.muted.send_replace(false);
        self.shared.open.send_replace(true);
    }

    /// The first lines of the requests so far that begin like this.
    pub fn requests(&self, begin: &str) -> Vec<String> {
        let requests = self.shared.requests.lock().expect("not poisoned");
        requests.iter().filter(|line| line.starts_with(begin)).cloned().collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, behind: Behind, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (behind, shared) = (behind.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match behind {
                Behind::Tcp(address) => connect(client, TcpStream::connect(address).await, &shared).await,
                Behind::Unix(path) => connect(client, UnixStream::connect(path).await, &shared).await,
            }
        });
    }
}

async fn connect<S: AsyncRead + AsyncWrite>(client: TcpStream, server: std::io::Result<S>, shared: &Shared) {
    let Ok(server) = server else { return };
    let (mut from_server, to_server) = tokio::io::split(server);
    let (from_client, mut to_client) = client.into_split();
    let gated = AtomicBool::new(false);
    let answers = async {
        let mut muted = shared.muted.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let is_let_go = !gated.load(Ordering::SeqCst) || muted.wait_for(|muted| !muted).await.is_ok();
            if !is_let_go || to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    };
    // Whichever side hangs up, the other is told: what was held for a client that has gone is never sent.
    tokio::select! {
        () = answers => {}
        () = pump(from_client, to_server, shared, &gated) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared, gated: &AtomicBool) {
    let mut open = shared.open.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut passes = None;
    while let Ok(read) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        if read == 0 {
            break;
        }
        shared.note(chunk);
        if passes.is_none() && head(chunk).is_some_and(|line| line.contains(shared.needle)) {
            passes = Some(shared.pass);
            gated.store(true, Ordering::SeqCst);
        }
        let now = passes.map_or(read, |left| left.min(read));
        if to.write_all(&chunk[..now]).await.is_err() {
            return;
        }
        passes = passes.map(|left| left - now);
        if now == read {
            continue;
        }
        let mut pending = chunk[now..].to_vec();
        if !hold(&mut from, &mut pending, &mut open, &shared.held).await || to.write_all(&pending).await.is_err() {
            break;
        }
        passes = Some(usize::MAX);
    }
    let _ = to.shutdown().await;
}

/// Keeps what comes until the gate is opened; false when the client went away before.
async fn hold(
    from: &mut (impl AsyncRead + Unpin),
    pending: &mut Vec<u8>,
    open: &mut watch::Receiver<bool>,
    held: &watch::Sender<usize>,
) -> bool {
    if *open.borrow() {
        return true;
    }
    held.send_modify(|held| *held += 1);
    loop {
        tokio::select! {
            opened = open.wait_for(|open| *open) => return opened.is_ok(),
            read = from.read_buf(pending) => if !read.is_ok_and(|read| read > 0) { return false },
        }
    }
}

impl Shared {
    fn note(&self, chunk: &[u8]) {
        if let Some(line) = head(chunk) {
            self.requests.lock().expect("not poisoned").push(line);
        }
    }
}

/// The first line, when a request's head begins here.
fn head(chunk: &[u8]) -> Option<String> {
    let line = chunk.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.ends_with("HTTP/1.1").then(|| line.to_owned())
}
