//! BuildKit's session: the engine calls *us* over a connection that we opened, upgraded from `POST /session` to HTTP/2.
//! Served are gRPC health, by which the engine sees that we are alive, what base images are pulled with ([`super::keyring`]), and the build's
//! secrets and ssh agents ([`super::entrusted`]). A service is a method in [`METHODS`] and an arm in [`Services::call`].
//!
//! Source: moby/buildkit `session/session.go`, `session/grpc.go`, `session/auth/auth.go`.

use std::convert::Infallible;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use tonic::codegen::Service as _;
use tonic::{Response, Status};
use uuid::Uuid;

use super::entrusted::Served;
use super::errors::unavailable;
use super::keyring::Keyring;
use super::transport::{Connection, Transport, broken, empty};
use crate::engine::Result;

const NAME: &str = "dockwright";
/// What the engine may call.
const METHODS: [&str; 8] = [
    "/grpc.health.v1.Health/Check",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// An open session. Dropping it closes the connection, and the engine forgets the session.
pub(super) struct Session {
    id: String,
    server: tokio::task::JoinHandle<()>,
    _connection: Connection,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// `None`: this engine has no sessions.
    pub(super) async fn open(transport: &Transport, keyring: Keyring, served: Served) -> Result<Option<Self>> {
        let id = Uuid::new_v4().simple().to_string();
        let answer = transport.send(request(&id)).await?;
        match answer.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            // The engine is there, but starting up or ending.
            status if status.is_server_error() => {
                return Err(unavailable(format!("the engine answered a session with {status}")));
            }
            _ => return Ok(None),
        }
        let upgraded = hyper::upgrade::on(answer.response).await.map_err(broken)?;
        let services = Services::new(keyring, served);
        let server = tokio::spawn(async move {
            let serve = hyper::service::service_fn(move |request| services.clone().call(request));
            // It ends when the engine closes the connection, which is as good as any other end.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(upgraded, serve).await;
        });
        Ok(Some(Self { id, server, _connection: answer.connection }))
    }
}

/// Whether the engine answers a session with 101.
pub(super) async fn probe(transport: &Transport) -> Result<bool> {
    Session::open(transport, Keyring::default(), Served::default()).await.map(|session| session.is_some())
}

fn request(id: &str) -> Request<super::transport::Body> {
    let mut request = Request::new(empty());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/session");
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("h2c"));
    headers.insert("x-docker-expose-session-uuid", id.parse().expect("hexadecimal fits in a header"));
    headers.insert("x-docker-expose-session-name", header::HeaderValue::from_static(NAME));
    for method in METHODS {
        headers.append("x-docker-expose-session-grpc-method", header::HeaderValue::from_static(method));
    }
    request
}

#[derive(Clone)]
struct Services {
    health: HealthServer<Alive>,
    auth: AuthServer<Keyring>,
    secrets: SecretsServer<Served>,
    ssh: SshServer<Served>,
}

impl Services {
    fn new(keyring: Keyring, served: Served) -> Self {
        Self {
            health: HealthServer::new(Alive),
            auth: AuthServer::new(keyring),
            secrets: SecretsServer::new(served.clone()),
            ssh: SshServer::new(served),
        }
    }

    async fn call(mut self, request: Request<Incoming>) -> Result<http::Response<tonic::body::Body>, Infallible> {
        let path = request.uri().path();
        if path.starts_with("/grpc.health.v1.Health/") {
            self.health.call(request).await
        } else if path.starts_with("/moby.filesync.v1.Auth/") {
            self.auth.call(request).await
        } else if path.starts_with("/moby.buildkit.secrets.v1.Secrets/") {
            self.secrets.call(request).await
        } else if path.starts_with("/moby.sshforward.v1.SSH/") {
            self.ssh.call(request).await
        } else {
            Ok(Status::unimplemented("not served by this session").into_http())
        }
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    async fn check(&self, _: tonic::Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: tonic::Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }

    type WatchStream = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: tonic::Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }
}
