//! The HTTP contract: routes, one file a resource, and the layers around them.

pub mod access;
mod accounts;
mod apps;
mod audit;
mod body;
mod builds;
mod containers;
mod contexts;
mod events;
mod guard;
mod images;
mod lasting;
mod legacy;
mod logs;
mod multipart;
mod networks;
mod openapi;
mod output;
mod problem;
mod query;
mod registries;
mod replay;
mod retention;
mod retry;
mod runs;
mod server;
mod session;
mod steps;
mod streams;
mod system;
mod terminal;
mod tokens;
mod view;
mod volumes;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::accounts::Accounts;
use crate::apps::Apps;
use crate::audit::Deed;
use crate::auth::{Authenticator, Presented, Principal};
use crate::builds::Builds;
use crate::domain::{BuildId, Owner, Timestamp};
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use access::{Need, Rule};
use guard::Client;

pub use guard::{Guard, Peer};
pub use problem::Problem;
pub use server::{ServerLimits, Tls, listen, serve, tls};
pub use streams::Streams;
pub use view::build_json;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a client.
const REQUEST_ID_MAX: usize = 128;
/// An upload that sends nothing for this long is given up.
pub(crate) const BODY_STALL: Duration = Duration::from_secs(30);

/// What the routes share.
#[derive(Clone)]
pub struct App {
    pub builds: Arc<Builds>,
    pub apps: Arc<Apps>,
    pub auth: Arc<Authenticator>,
    pub accounts: Arc<Accounts>,
    pub hooks: Arc<Hooks>,
    pub guard: Arc<Guard>,
    /// Cancelled when the process is to end: streams and waits then end early.
    pub stop: tokio_util::sync::CancellationToken,
    pub streams: Streams,
}

/// The id of this request, for the answer's problem and the log.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

/// Who calls: every route behind [`authenticate`] can ask for it.
pub(crate) type Caller = Extension<Arc<Principal>>;

/// The whole service as one router.
pub fn router(app: App) -> Router {
    let guard = Arc::clone(&app.guard);
    let open = Router::new().merge(system::open_routes()).method_not_allowed_fallback(|| async { problem::method_not_allowed() });
    let closed = Router::new()
        .merge(builds::routes())
        .merge(logs::routes())
        .merge(retry::routes())
        .merge(steps::routes())
        .merge(legacy::routes())
        .merge(contexts::routes())
        .merge(accounts::routes())
        .merge(tokens::routes())
        .merge(registries::routes())
        .merge(webhooks::routes())
        .merge(retention::routes())
        .merge(audit::routes())
        .merge(session::routes())
        .merge(terminal::routes())
        .merge(system::closed_routes())
        .merge(events::routes())
        .merge(apps::routes())
        .merge(runs::routes())
        .merge(containers::routes())
        .merge(volumes::routes())
        .merge(networks::routes())
        .merge(images::routes())
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
        .layer(middleware::from_fn_with_state(guard, finish))
}

/// Lets in who has an account and may use the route, tells the routes who it is, and writes into the audit what was done.
async fn authenticate(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let rule = path.as_ref().and_then(|path| access::rule(request.method(), path.as_str()));
    if rule.is_some_and(|rule| rule.need == Need::Nothing) {
        return next.run(request).await;
    }
    let shown = match shown(&app, &request) {
        Ok(shown) => shown,
        Err(error) => return Problem::from(error).into_response(),
    };
    let caller = match app.auth.principal(shown.as_ref(), client.address).await {
        Ok(caller) => caller,
        Err(error) => {
            // A password that is sent along is a log-in of its own.
            let tried = shown.is_some_and(|shown| shown.is_password()) && is_refused_log_in(&error);
            let told = tried.then(|| Told::of(&request, &client, "password.try"));
            let response = Problem::from(error).into_response();
            if let Some(told) = told {
                told.record(&app, None, &response).await;
            }
            return response;
        }
    };
    let told = rule.and_then(|rule| rule.deed).map(|action| Told::of(&request, &client, action));
    request.extensions_mut().insert(Arc::clone(&caller));
    let right = Arc::new(lasting::Right::new(&app, &client, rule, shown, caller.until));
    request.extensions_mut().insert(Arc::clone(&right));
    let response = match (may_use(rule, &caller), told.is_some()) {
        (Err(error), _) => Problem::from(error).into_response(),
        (Ok(()), true) => next.run(request).await,
        (Ok(()), false) => lasting::while_allowed(next.run(request).await, right),
    };
    if let Some(told) = told {
        told.record(&app, Some(&caller), &response).await;
    }
    response
}

/// A log-in that failed, or was not looked at because too many did.
fn is_refused_log_in(error: &Error) -> bool {
    matches!(error, Error::Unauthenticated | Error::TooMany { .. })
}

/// What the request shows, if its sender may have sent it.
fn shown(app: &App, request: &Request) -> Result<Option<Presented>> {
    let presented = guard::presented(request.headers());
    if let Some(Presented::Cookie(_)) = &presented {
        app.guard.check_browser(request)?;
    } else {
        guard::check_origin(request)?;
    }
    Ok(presented)
}

fn may_use(rule: Option<Rule>, caller: &Principal) -> Result<()> {
    rule.map_or(Ok(()), |rule| rule.need.of(caller))
}

/// What the audit is told of a request, before its answer is known.
struct Told {
    action: &'static str,
    object: String,
    address: String,
    request_id: String,
}

impl Told {
    fn of(request: &Request, client: &Client, action: &'static str) -> Self {
        Self {
            action,
            object: object_of(request.uri()),
            address: client.address.to_string(),
            request_id: request.extensions().get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default(),
        }
    }

    /// With the answer known: written when this future ends.
    fn record(self, app: &App, caller: Option<&Principal>, response: &Response) -> impl Future<Output = ()> + Send + use<> {
        let made = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(object);
        let deed = Deed {
            at: Timestamp::now(),
            actor: caller.map(|caller| caller.owner.to_string()),
            proof: caller.map(|caller| caller.proof.clone()),
            address: self.address,
            action: self.action.to_owned(),
            object: made.unwrap_or(self.object),
            status: response.status().as_u16(),
            request_id: self.request_id,
        };
        let audit = app.accounts.audit.clone();
        // A build has a durable record with its owner and time, and is not held up.
        let of_build = self.action.starts_with("build.");
        async move { if of_build { audit.note(deed).await } else { audit.record(deed).await } }
    }
}

/// A path below the interface's root.
fn object(path: &str) -> String {
    path.strip_prefix("/api/v1/").unwrap_or(path).to_owned()
}

/// The object that a request names. Of its query only what tells which one that is: clients write all kinds of things there.
fn object_of(uri: &Uri) -> String {
    let mut query = query::Query::of(uri, &["owner", "dockerfile_build_id"]);
    let owner = query.parse::<Owner>("owner", "an account's name");
    let build = query.parse::<BuildId>("dockerfile_build_id", "a build's id");
    match (object(uri.path()), owner, build) {
        (_, _, Some(build)) => format!("builds/{build}"),
        (object, _, None) if object.ends_with("/exec") => with_command(object, uri.query().unwrap_or_default()),
        (object, Some(owner), None) => format!("users/{owner}/{object}"),
        (object, None, None) => object,
    }
}

/// Most of a terminal's command that the audit keeps, in bytes.
const COMMAND_BYTES: usize = 1024;

/// A terminal's container with the command and the user, as they were asked for.
fn with_command(object: String, query: &str) -> String {
    let told = query.split('&').filter(|pair| pair.starts_with("cmd=") || pair.starts_with("user="));
    let command: String = told.collect::<Vec<_>>().join("&").chars().take(COMMAND_BYTES).collect();
    if command.is_empty() { object } else { format!("{object}?{command}") }
}

/// Outermost: where the request comes from and its id, the log of what was answered, and problems written out with the id.
async fn finish(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let client = guard.client(&request);
    let secure = client.secure;
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    request.extensions_mut().insert(client);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let mut response = problem::write_out(next.run(request).await, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    guard::harden(response.headers_mut(), secure);
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
