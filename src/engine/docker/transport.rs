//! One HTTP/1.1 connection per request. Engines are local or near: connecting costs far less than what they
//! are asked for, and a connection of its own ends its request at the engine the moment it is dropped.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::errors::{self, Doing, Refused, unavailable};
use crate::domain::ErrorKind;
use crate::engine::{ContextStream, EngineError, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The newest engine API that this code was tried with (Engine 26.1); older engines lower it.
const NEWEST_API: (u32, u32) = (1, 45);
/// Longest error body that is read, in bytes.
const ERROR_BODY_BYTES: usize = 64 * 1024;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl FromStr for Address {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let host = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).map(|host| host.trim_end_matches('/'));
        match host {
            Some(host) if !host.is_empty() && !host.contains('/') => {
                let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::Tcp(if port { host.to_owned() } else { format!("{host}:2375") }))
            }
            _ => Err(EngineError {
                kind: ErrorKind::Infra,
                code: "engine_address",
                message: format!("{text:?} is not an engine's address; it is unix:///path, tcp://host:port or http://host:port"),
                dockerfile_line: None,
                transient: false,
            }),
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A request's body: nothing, bytes at hand, or a stream that is read as fast as the engine takes it.
pub(super) type Body = Either<Full<Bytes>, StreamBody<futures::stream::BoxStream<'static, std::io::Result<Frame<Bytes>>>>>;

pub(super) fn empty() -> Body {
    Either::Left(Full::default())
}

pub(super) fn streamed(context: ContextStream) -> Body {
    use futures::{StreamExt, TryStreamExt};
    Either::Right(StreamBody::new(context.map_ok(Frame::data).boxed()))
}

/// Ends the connection when dropped, whatever state its request is in.
pub(super) struct Connection(Option<JoinHandle<()>>);

impl Connection {
    /// Lets the connection end by itself when the answer's body was read or dropped.
    fn detach(mut self) {
        self.0.take();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// An answer, and the connection that it comes over.
pub(super) struct Answer {
    pub response: Response<Incoming>,
    pub connection: Connection,
}

pub(super) struct Transport {
    address: Address,
    /// The API version spoken with the engine, until a connection breaks: another engine may be there afterwards.
    version: Mutex<Option<String>>,
}

impl Transport {
    pub(super) fn new(address: Address) -> Self {
        Self { address, version: Mutex::new(None) }
    }

    pub(super) fn is_negotiated(&self) -> bool {
        self.version().is_some()
    }

    fn version(&self) -> Option<String> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_version(&self, version: Option<String>) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// Sends a request to a path without API version (`/build?…`) and answers when the response's head is there.
    pub(super) async fn send<B>(&self, request: Request<B>) -> Result<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let version = self.api_version().await?;
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = format!("/v{version}{path}");
        self.exchange(uri, request).await.inspect_err(|_| self.set_version(None))
    }

    async fn api_version(&self) -> Result<String> {
        match self.version() {
            Some(version) => Ok(version),
            None => self.negotiate().await,
        }
    }

    /// The API version that is spoken with the engine.
    pub(super) async fn api(&self) -> Result<(u32, u32)> {
        Ok(parse_version(&self.api_version().await?).unwrap_or(NEWEST_API))
    }

    /// Whether the engine listens on a socket of this host's file system.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Asks the engine for its API version; the lower of its and ours is spoken from now on.
    async fn negotiate(&self) -> Result<String> {
        let ping = Request::new(Empty::<Bytes>::new());
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, self.exchange("/_ping".into(), ping))
            .await
            .map_err(|_| unavailable("the engine accepts connections but does not answer"))??;
        let theirs = answer.response.headers().get("api-version").and_then(|v| v.to_str().ok()).and_then(parse_version);
        let (major, minor) = theirs.map_or(NEWEST_API, |theirs| theirs.min(NEWEST_API));
        let version = format!("{major}.{minor}");
        // An engine that starts up answers 5xx here.
        if answer.response.status().is_success() {
            self.set_version(Some(version.clone()));
        }
        Ok(version)
    }

    async fn exchange<B>(&self, uri: String, request: Request<B>) -> Result<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = self.connect().await?;
        // The body may be a stream that is `Send` but not `Sync` or `Unpin`.
        let (mut parts, body) = request.into_parts();
        parts.uri = uri.parse::<Uri>().map_err(|e| errors::fault(format!("{uri:?}: {e}")))?;
        parts.headers.insert(header::HOST, self.host());
        let request = Request::from_parts(parts, Box::pin(body));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        let connection = Connection(Some(tokio::spawn(async move {
            // Its error is told by the request or by the body's reader.
            let _ = connection.with_upgrades().await;
        })));
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Answer { response, connection })
    }

    async fn connect(&self) -> Result<Box<dyn Io>> {
        let attempt = async {
            Ok::<Box<dyn Io>, std::io::Error>(match &self.address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(host) => {
                    let stream = TcpStream::connect(host).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            })
        };
        let cannot = |why: String| unavailable(format!("cannot connect to the engine at {}: {why}", self.address_text()));
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(e)) => {
                self.set_version(None);
                Err(cannot(e.to_string()))
            }
            Err(_) => Err(cannot("no answer".into())),
        }
    }

    fn address_text(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{}", path.display()),
            Address::Tcp(host) => format!("tcp://{host}"),
        }
    }

    fn host(&self) -> header::HeaderValue {
        match &self.address {
            Address::Unix(_) => header::HeaderValue::from_static("docker"),
            Address::Tcp(host) => host.parse().unwrap_or(header::HeaderValue::from_static("docker")),
        }
    }

    /// Sends, and turns an answer other than 2xx into the engine's error.
    pub(super) async fn send_ok(&self, request: Request<Body>, doing: Doing) -> Result<Answer> {
        Ok(self.send_or_refused(request, doing).await?)
    }

    /// The same, with the status of the refusal.
    pub(super) async fn send_or_refused(&self, request: Request<Body>, doing: Doing) -> Result<Answer, Refused> {
        let answer = self.send(request).await?;
        let status = answer.response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let body = http_body_util::Limited::new(answer.response.into_body(), ERROR_BODY_BYTES).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = message.as_ref().and_then(|json| json["message"].as_str()).map(str::to_owned);
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        if status.as_u16() == 400 && message.contains("is too new") {
            // Another engine than the one that was asked for its version.
            self.set_version(None);
            return Err(unavailable(message).into());
        }
        let status = Some(status.as_u16());
        Err(Refused { status, error: errors::sort(doing, status, &message) })
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The connection ended in the middle of something.
pub(super) fn broken(error: hyper::Error) -> EngineError {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    if error.is_user() {
        // Our own body's stream failed: the context, not the engine.
        return errors::context_failed(format!("the context could not be read{cause}"));
    }
    unavailable(format!("the connection to the engine broke: {error}{cause}"))
}

/// bollard's typed calls over our transport.
pub(super) fn typed_client(transport: Arc<Transport>, timeout: Duration) -> Result<bollard::Docker> {
    let carry = move |request: bollard::BollardRequest| {
        let transport = Arc::clone(&transport);
        async move {
            let answer =
                transport.send(request).await.map_err(|e| bollard::errors::Error::IOError { err: std::io::Error::other(e) })?;
            answer.connection.detach();
            Ok(answer.response)
        }
    };
    bollard::Docker::connect_with_custom_transport(carry, Some("http://docker"), timeout.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(errors::from_bollard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_forms_of_an_address() {
        let tcp = |host: &str| Ok(Address::Tcp(host.into()));
        assert_eq!("unix:///run/x.sock".parse(), Ok(Address::Unix("/run/x.sock".into())));
        assert_eq!("tcp://h:1".parse(), tcp("h:1"));
        assert_eq!("http://h".parse(), tcp("h:2375"));
        assert_eq!("tcp://[::1]:2375/".parse(), tcp("[::1]:2375"));
        for bad in ["", "/run/x.sock", "unix://", "unix://x", "https://h:1", "ssh://h", "tcp://", "tcp://h/x"] {
            assert_eq!(bad.parse::<Address>().map_err(|e| e.code), Err("engine_address"), "{bad:?}");
        }
    }
}
