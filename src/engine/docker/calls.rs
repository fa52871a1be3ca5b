//! Plain calls: nothing or JSON in, nothing or JSON out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{Doing, Refused, fault, unavailable};
use super::stream::decode;
use super::transport::{Answer, Body, empty};
use super::{CALL_TIMEOUT, Docker};
use crate::domain::ErrorKind;
use crate::engine::{EngineError, Result};

/// Longest answer that is read, in bytes: the list of 10,000 containers, or of as many files that a container has changed.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

impl Docker {
    pub(super) async fn get<T: DeserializeOwned>(&self, uri: &str) -> Result<T, Refused> {
        let body = self.call(request(Method::GET, uri, None)?, CALL_TIMEOUT).await?;
        Ok(decode(&body)?)
    }

    /// The same where "there is none" is an answer.
    pub(super) async fn find<T: DeserializeOwned>(&self, uri: &str) -> Result<Option<T>> {
        match self.get(uri).await {
            Ok(found) => Ok(Some(found)),
            Err(Refused { status: Some(404), .. }) => Ok(None),
            Err(refused) => Err(refused.error),
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, uri: &str, body: &Value) -> Result<T, Refused> {
        let body = self.call(request(Method::POST, uri, Some(body))?, CALL_TIMEOUT).await?;
        Ok(decode(&body)?)
    }

    /// A deed without an answer; `more` is how long it may take on top of a call's usual time.
    pub(super) async fn act(&self, method: Method, uri: &str, body: Option<&Value>, more: Duration) -> Result<(), Refused> {
        self.call(request(method, uri, body)?, CALL_TIMEOUT + more).await.map(|_| ())
    }

    /// An answer that goes on, once it has begun.
    pub(super) async fn open(&self, uri: &str) -> Result<Answer> {
        let asked = self.transport.send_or_refused(request(Method::GET, uri, None)?, Doing::Container);
        Ok(tokio::time::timeout(CALL_TIMEOUT, asked).await.map_err(|_| late(CALL_TIMEOUT))??)
    }

    async fn call(&self, request: Request<Body>, within: Duration) -> Result<Bytes, Refused> {
        let exchange = async {
            let answer = self.transport.send_or_refused(request, Doing::Container).await?;
            let _connection = answer.connection;
            let body = Limited::new(answer.response.into_body(), ANSWER_BYTES).collect().await.map_err(unread)?;
            Ok(body.to_bytes())
        };
        tokio::time::timeout(within, exchange).await.map_err(|_| late(within))?
    }
}

fn late(within: Duration) -> EngineError {
    unavailable(format!("the engine did not answer within {} s", within.as_secs()))
}

/// A request whose path and query are encoded already.
pub(super) fn request(method: Method, uri: &str, body: Option<&Value>) -> Result<Request<Body>> {
    let json = body.map(|json| Either::Left(Full::from(json.to_string())));
    let mut request = Request::new(json.unwrap_or_else(empty));
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().map_err(|e| fault(format!("{uri:?}: {e}")))?;
    if body.is_some() {
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(request)
}

fn unread(error: Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    match error.downcast::<hyper::Error>() {
        Ok(broken) => super::transport::broken(*broken),
        Err(_) => EngineError {
            kind: ErrorKind::Limit,
            code: "answer_too_long",
            message: format!("the engine's answer is longer than {} MiB", ANSWER_BYTES >> 20),
            dockerfile_line: None,
            transient: false,
        },
    }
}

/// An id or name as one part of a path: no slash, no dots that lead elsewhere, nothing that ends the path.
pub(super) fn part(name: &str) -> String {
    encoded(name, b"-_.")
}

/// An image's reference as the rest of a path.
pub(super) fn reference_part(reference: &str) -> String {
    encoded(reference, b"-_./:@")
}

fn encoded(text: &str, plain: &[u8]) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The query `filters=…` of these lists of values.
pub(super) fn filters(all: &Value) -> super::build::Query {
    let mut query = super::build::Query::default();
    query.add("filters", &all.to_string());
    query
}

/// Seconds with nanoseconds, as the engine reads a moment; nothing is older than the epoch.
pub(super) fn moment(nanos: i64) -> String {
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_part_of_the_path() {
        assert_eq!(part("../images/x?force=1#a"), "..%2Fimages%2Fx%3Fforce%3D1%23a");
        assert_eq!(reference_part("h:1/a@sha256:0?x"), "h:1/a@sha256:0%3Fx");
        assert_eq!([moment(1_500_000_000), moment(-1)], ["1.500000000", "0.000000000"]);
    }
}
