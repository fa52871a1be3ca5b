//! The listener's loop: connections are counted, slow headers are cut off, and an end is graceful.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
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
        let named = router.clone().layer(Extension(Peer(peer)));
        let (http, watcher, tls, headers) = (http.clone(), graceful.watcher(), tls.clone(), limits.headers);
        tokio::spawn(async move {
            let ended = match tls {
                None => {
                    watcher
                        .watch(
                            http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(named))
                                .into_owned(),
                        )
                        .await
                }
                Some(tls) => match tokio::time::timeout(headers, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        watcher
                            .watch(
                                http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(named))
                                    .into_owned(),
                            )
                            .await
                    }
                    // No TLS, or none in time.
                    _ => Ok(()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::info!("some clients were still reading when the time to drain was over");
    }
}
