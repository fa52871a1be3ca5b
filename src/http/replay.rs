//! `Idempotency-Key`: the first answer to a key is kept for a day, sealed, and given again to the same caller and request.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::App;
use crate::auth::Principal;
use crate::domain::{BuildId, Replay, Scope, Timestamp};
use crate::error::{Error, Result};
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, Write};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in bytes.
const LONGEST: usize = 255;
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A request that has not answered for this long was lost with its process; the next one takes its place, and its id.
const LOST: Duration = Duration::from_secs(60);
/// The headers of an answer that belong to it.
static HEADERS: [HeaderName; 6] =
    [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL, super::builds::JOINED, super::builds::REUSED];

/// What is sealed of a request and its answer.
#[derive(Serialize, Deserialize)]
struct Kept<A> {
    /// SHA-256 of route and body.
    request: String,
    answer: Option<A>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// A request with a key.
struct Keyed<'a> {
    app: &'a App,
    caller: &'a Principal,
    id: String,
    request: String,
}

/// Does `work` once for each key. `content` tells one request from another; `work` gets the id that a build made by it must have.
///
/// # Errors
/// [`Error::Invalid`] for a key that is none; [`Error::KeyReused`]; [`Error::Conflict`] `still_running`; and those of `work`.
pub async fn once<F>(
    app: &App,
    caller: &Principal,
    route: &str,
    headers: &HeaderMap,
    content: &[u8],
    work: impl FnOnce(BuildId) -> F,
) -> Result<Response>
where
    F: Future<Output = Result<Response>>,
{
    let Some(key) = headers.get(KEY) else { return work(BuildId::new()).await };
    let key = key.to_str().ok().filter(|key| (1..=LONGEST).contains(&key.len()));
    let key = key.ok_or_else(|| {
        let told = format!("must have 1 to {LONGEST} visible ASCII characters");
        Error::invalid("invalid_idempotency_key", "Idempotency-Key", told)
    })?;
    let request = Sha256::new_with_prefix(route.as_bytes()).chain_update([0]).chain_update(content).finalize();
    let id = format!("{}/{}", caller.owner, hex::encode(Sha256::digest(key.as_bytes())));
    let keyed = Keyed { app, caller, id, request: hex::encode(request) };
    let turn = match keyed.begin().await? {
        Begun::Now(turn) => turn,
        Begun::Before(answer) => return replayed(answer),
    };
    match work(turn.build).await {
        Ok(response) => keyed.keep(response, turn).await,
        // Whether it was done is not known: the key stays with its id, so that the next request with it does nothing twice.
        Err(error @ (Error::Unavailable { .. } | Error::Internal(_))) => Err(error),
        Err(error) => {
            keyed.end(turn, |turn| Write::remove(Kind::Replay, keyed.id.as_str(), Expect::Revision(turn.revision))).await?;
            Err(error)
        }
    }
}

/// This request's turn with its key.
#[derive(Clone, Copy)]
struct Turn {
    /// For what is made.
    build: BuildId,
    began_at: Timestamp,
    /// Of the key's object.
    revision: u64,
}

enum Begun {
    Now(Turn),
    Before(Answer),
}

impl Keyed<'_> {
    async fn begin(&self) -> Result<Begun> {
        let scope = Scope::Owner(self.caller.owner.clone());
        loop {
            let known: Option<Object<Replay>> = self.app.builds.store().object(&scope, Kind::Replay, &self.id).await?;
            let (build, expect) = match known {
                None => (BuildId::new(), Expect::Absent),
                Some(object) => {
                    let kept = self.open(&object.body)?;
                    if kept.request != self.request {
                        return Err(Error::KeyReused);
                    }
                    if let Some(answer) = kept.answer {
                        return Ok(Begun::Before(answer));
                    }
                    if Timestamp::now().since(object.body.began_at) < LOST {
                        let detail = "the first request with this Idempotency-Key has not ended yet".into();
                        return Err(Error::Conflict { code: "still_running", detail });
                    }
                    (object.body.build, Expect::Revision(object.revision))
                }
            };
            let revision = if let Expect::Revision(seen) = expect { seen + 1 } else { 1 };
            let turn = Turn { build, began_at: Timestamp::now(), revision };
            match self.app.builds.store().commit(&[self.write(turn, expect, None)]).await {
                Ok(()) => return Ok(Begun::Now(turn)),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&self, turn: Turn, expect: Expect, answer: Option<&Answer>) -> Write {
        let kept = Kept { request: self.request.clone(), answer };
        let plain = serde_json::to_vec(&kept).expect("serialises, because it is text and numbers");
        let sealed = STANDARD.encode(self.app.builds.vault().seal(&Replay::purpose(&self.id), &plain));
        let body = Replay { build: turn.build, began_at: turn.began_at, sealed };
        Write::put(Kind::Replay, self.id.as_str(), &self.caller.owner, expect, &body).keep(KEPT)
    }

    /// Writes how this turn has ended, unless another request has taken its place. What is kept of it may have been sealed with
    /// another key meanwhile; it is this turn's all the same.
    async fn end(&self, mut turn: Turn, write: impl Fn(Turn) -> Write) -> Result<(), StoreError> {
        let scope = Scope::Owner(self.caller.owner.clone());
        loop {
            match self.app.builds.store().commit(&[write(turn)]).await {
                Err(StoreError::Conflict) => {}
                other => return other,
            }
            let known: Option<Object<Replay>> = self.app.builds.store().object(&scope, Kind::Replay, &self.id).await?;
            match known {
                Some(object) if object.body.began_at == turn.began_at && object.body.build == turn.build => {
                    turn.revision = object.revision;
                }
                _ => return Ok(()),
            }
        }
    }

    fn open(&self, replay: &Replay) -> Result<Kept<Answer>> {
        let sealed = STANDARD.decode(&replay.sealed).map_err(Error::internal)?;
        let plain = self.app.builds.vault().open(&Replay::purpose(&self.id), &sealed)?;
        serde_json::from_slice(plain.expose_secret()).map_err(Error::internal)
    }

    async fn keep(&self, response: Response, turn: Turn) -> Result<Response> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(Error::internal)?.to_bytes();
        let headers = HEADERS.iter().filter_map(|name| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).map(|value| (name.to_string(), value.to_owned()))
        });
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        // What was done was done: the client is told so, also when its repetition cannot be.
        if let Err(error) = self.end(turn, |turn| self.write(turn, Expect::Revision(turn.revision), Some(&answer))).await {
            tracing::warn!(%error, "the answer to an Idempotency-Key could not be kept");
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

fn replayed(answer: Answer) -> Result<Response> {
    let status = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(Error::internal)?;
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
