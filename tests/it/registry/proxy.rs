//! A proxy before the real registry, which can be made to fail as registries do.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

/// What the proxy does with one request.
pub enum Act {
    Pass,
    Answer(StatusCode, HeaderMap, String),
    /// Never answers.
    Hang,
    /// Waits, and passes the request on.
    Delay(Duration),
}

impl Act {
    pub fn status(status: StatusCode) -> Self {
        Self::Answer(status, HeaderMap::new(), String::new())
    }
}

/// Decides by method, path and headers.
type Rule = dyn Fn(&Method, &str, &HeaderMap) -> Act + Send + Sync;

/// How many there have been so far; whoever waits for one is told.
pub type Count = watch::Sender<usize>;

pub struct Proxy {
    pub host: String,
    /// Manifests that came in whole.
    pub manifests: Count,
    /// Requests that came in whole and were then delayed.
    pub delayed: Count,
    /// Delayed requests that have been dealt with, or whose client went away.
    pub over: Count,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn count(one: &Count) {
    one.send_modify(|number| *number += 1);
}

/// Waits until there has been one.
pub async fn first(counted: &Count) {
    let mut seen = counted.subscribe();
    let came = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(|number| *number > 0)).await;
    came.expect("one comes").expect("the proxy stands");
}

struct Over(Count);

impl Drop for Over {
    fn drop(&mut self) {
        count(&self.0);
    }
}

impl Proxy {
    pub async fn before(registry: &str, rule: impl Fn(&Method, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::by_headers(registry, move |method, path, _| rule(method, path)).await
    }

    pub async fn by_headers(registry: &str, rule: impl Fn(&Method, &str, &HeaderMap) -> Act + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let host = listener.local_addr().expect("it is bound").to_string();
        let (manifests, delayed, over) = (Count::default(), Count::default(), Count::default());
        let (rule, target): (Arc<Rule>, _) = (Arc::new(rule), registry.to_owned());
        let counts = (manifests.clone(), delayed.clone(), over.clone());
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("builds");
        let app = axum::Router::new().fallback(move |request: Request| {
            let (rule, target, client) = (Arc::clone(&rule), target.clone(), client.clone());
            let (named, waiting, ended) = counts.clone();
            async move {
                let act = rule(request.method(), request.uri().path(), request.headers());
                let request = whole(request).await;
                if request.method() == Method::PUT && request.uri().path().contains("/manifests/") {
                    count(&named);
                }
                match act {
                    Act::Pass => forward(&client, &target, request).await,
                    Act::Answer(status, headers, body) => (status, headers, body).into_response(),
                    Act::Hang => std::future::pending().await,
                    Act::Delay(time) => {
                        let _over = Over(ended);
                        count(&waiting);
                        tokio::time::sleep(time).await;
                        forward(&client, &target, request).await
                    }
                }
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { host, manifests, delayed, over, server }
    }
}

/// The request with its body read to the end.
async fn whole(request: Request) -> axum::http::Request<bytes::Bytes> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap_or_default();
    axum::http::Request::from_parts(parts, body)
}

async fn forward(client: &reqwest::Client, target: &str, request: axum::http::Request<bytes::Bytes>) -> Response {
    let (mut parts, body) = request.into_parts();
    // The registry makes its links from `Host`, which stays the proxy's.
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let url = format!("http://{target}{}", parts.uri);
    let head = parts.method == Method::HEAD;
    let answer = client.request(parts.method, url).headers(parts.headers).body(body).send().await.expect("the registry answers");
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    if !head {
        headers.remove(header::CONTENT_LENGTH);
    }
    (status, headers, Body::from(answer.bytes().await.expect("the registry answers"))).into_response()
}
