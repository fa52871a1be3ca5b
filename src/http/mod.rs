//! The HTTP contract: routes, one file a resource, and the layers around them.

mod builds;
mod legacy;
mod logs;
mod multipart;
mod openapi;
mod problem;
mod query;
mod server;
mod system;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::{Authenticator, Principal};
use crate::builds::Builds;
use crate::error::Error;

pub use problem::Problem;
pub use server::{ServerLimits, serve};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a client.
const REQUEST_ID_MAX: usize = 128;
/// An upload that sends nothing for this long is given up.
pub(crate) const BODY_STALL: Duration = Duration::from_secs(30);

/// What the routes share.
#[derive(Clone)]
pub struct App {
    pub builds: Arc<Builds>,
    pub auth: Arc<Authenticator>,
    /// Cancelled when the process is to end: streams and waits then end early.
    pub stop: tokio_util::sync::CancellationToken,
}

/// The id of this request, for the answer's problem and the log.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

/// The whole service as one router.
pub fn router(app: App) -> Router {
    let open = Router::new().merge(system::open_routes()).method_not_allowed_fallback(|| async { problem::method_not_allowed() });
    let closed = Router::new()
        .merge(builds::routes())
        .merge(logs::routes())
        .merge(legacy::routes())
        .merge(system::closed_routes())
        .merge(openapi::routes())
        // Before the routes' own methods are looked at: without an account, nothing is told of what exists.
        .fallback(|| async { Problem::from(Error::NotFound("route")) })
        .method_not_allowed_fallback(|| async { problem::method_not_allowed() })
        // axum would cut every body at 2 MB; `multipart` has bounds of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), authenticate));
    open.fallback_service(closed.with_state(app.clone()))
        .with_state(app)
        .layer(CatchPanicLayer::custom(|_| Problem::from(Error::internal(anyhow::anyhow!("a handler panicked"))).into_response()))
        .layer(middleware::from_fn(finish))
}

/// Lets in who has an account, and tells the routes who it is.
async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match app.auth.principal(header).await {
        Ok(principal) => {
            request.extensions_mut().insert::<Principal>(principal);
            next.run(request).await
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Outermost: the request's id, the log of what was answered, and problems written out with the id.
async fn finish(mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let mut response = problem::write_out(next.run(request).await, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    tracing::debug!(%method, path, status = response.status().as_u16(), ms = started.elapsed().as_millis(), request_id = %id, "answered");
    response
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(request: &Request) -> Arc<str> {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())) {
        Some(id) => id.into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    }
}
