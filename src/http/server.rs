//! The listener's loop: connections are counted, slow headers are cut off, and an end is graceful.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Peer;

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// From the first byte to the end of the headers.
    pub headers: Duration,
    /// How long answers under way may go on after a stop was asked for.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connections: 8192, headers: Duration::from_secs(10), drain: Duration::from_secs(10) }
    }
}

/// Connections that wait to be accepted (the kernel bounds it by `net.core.somaxconn`). With the usual 128 a burst of clients overflows
/// it, and some of them believe to be connected while nobody knows of them.
const BACKLOG: u32 = 4096;

/// Listens on an address.
///
/// # Errors
/// When it is taken, or not this machine's.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart finds its address free although connections of before still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What TLS is spoken with; none: plain HTTP.
pub type Tls = Option<tokio_rustls::TlsAcceptor>;

/// Reads a certificate chain and its key from PEM files.
///
/// # Errors
/// When they cannot be read or do not fit each other.
pub fn tls(cert: &Path, key: &Path) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| format!("cannot read certificates from {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read a key from {}", key.display()))?;
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// A connection's service: it tells each request who is at the other end, and remembers whether anything was asked of it.
struct Watched<S> {
    service: S,
    peer: Peer,
    asked: Arc<AtomicBool>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Watched<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.peer);
        self.service.call(request)
    }
}

/// Comes when the time for the first request's headers is over and there was none. The server's own timer for headers starts
/// only when enough has come to tell the version of HTTP, so a client that sends nothing would keep its place for ever.
async fn silent(limit: Duration, asked: &AtomicBool) {
    tokio::time::sleep(limit).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Serves until `stop`, then lets answers under way end.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, tls: Tls, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.headers);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("open, because it is never closed"),
            () = stop.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give some time to be freed.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        // Small answers go out at once.
        let _ = stream.set_nodelay(true);
        let asked = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(router.clone());
        let service = Watched { service, peer: Peer(peer), asked: Arc::clone(&asked) };
        let (http, watcher, tls) = (http.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            let served = async {
                match tls {
                    None => watcher.watch(http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned()).await,
                    Some(tls) => {
                        let stream = tls.accept(stream).await?;
                        watcher.watch(http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned()).await
                    }
                }
            };
            tokio::select! {
                ended = served => if let Err(error) = ended { tracing::debug!(%error, "a connection ended early") },
                () = silent(limits.headers, &asked) => tracing::debug!("a connection never asked for anything"),
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::info!("some clients were still reading when the time to drain was over");
    }
}
