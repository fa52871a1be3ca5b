//! The service's interface for the operator's commands: typed where they need it, JSON where they only show it.

mod contexts;
mod events;
mod socket;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

pub use contexts::Declared;
pub use events::Events;
pub use socket::{Frame, Said, Sayer, Teller};

/// Where the service is when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection may take to come about; what is then told over it may take any time.
const CONNECT: Duration = Duration::from_secs(30);

/// Speaks to one service as one account.
pub struct Client {
    http: reqwest::Client,
    /// For answers that go on. Sockets need HTTP/1.1.
    lasting: reqwest::Client,
    url: String,
    token: SecretString,
}

/// What the service says when it refuses (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldFault>,
}

/// One of several faults of an input.
#[derive(Deserialize)]
struct FieldFault {
    field: String,
    message: String,
}

/// Nothing answers there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot reach {0}")]
pub struct Unreachable(pub String);

/// A connection that was there, and tells nothing any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    #[error("nothing was heard of the service for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the connection ended")]
    Ended,
}

/// The service has refused. Found in the chain of an error with `downcast_ref`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail} ({code}, {status})")]
pub struct Refused {
    /// Of HTTP.
    pub status: u16,
    /// Stable, in `snake_case`; `unknown` when what answers is not the service.
    pub code: String,
    pub detail: String,
    /// When it may be asked again, if it says so.
    pub retry_after: Option<Duration>,
}

impl Client {
    /// # Errors
    /// When `ca_file` (trusted besides the usual certificates) holds no certificate.
    pub fn new(url: &str, token: SecretString, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let certificates = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        let secure = !url.starts_with("http:");
        let builder = || {
            let plain = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none());
            let own = certificates.iter().cloned();
            // A slim image has no authorities, and without TLS none are needed.
            if secure { plain.tls_certs_merge(own) } else { plain.tls_certs_only(own) }
        };
        let built = builder().timeout(TIMEOUT).build().and_then(|http| Ok((http, builder().http1_only().build()?)));
        let (http, lasting) = built.context(
            "https needs the certificates of authorities: install the package ca-certificates, or name a file with --ca-file",
        )?;
        Ok(Self { http, lasting, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Where the service is, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether nobody on the way can read what is said: by TLS, or because it stays on this machine.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        is_confidential(&self.url)
    }

    /// One request; the answer's JSON, `null` when it has none.
    ///
    /// # Errors
    /// When the service cannot be reached, or refuses: then with its own words.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        json(self.ask(self.request(&self.http, method, path, body)).await?).await
    }

    /// The same for what is answered when it is done, and may take any time.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn wait(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        json(self.ask(self.request(&self.lasting, method, path, body)).await?).await
    }

    /// The JSON of what may not be there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.send(self.request(&self.http, Method::GET, path, None)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        json(accepted(answer).await?).await.map(Some)
    }

    /// Text that goes on, as it comes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn follow(&self, path: &str) -> anyhow::Result<Response> {
        self.ask(self.request(&self.lasting, Method::GET, path, None).header(header::ACCEPT, "text/plain")).await
    }

    /// Server-sent events, as they come.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn events(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Events> {
        let request = self.request(&self.lasting, method, path, body).header(header::ACCEPT, "text/event-stream");
        Ok(Events::of(self.ask(request).await?))
    }

    /// The same, from behind the event with this id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn events_after(&self, path: &str, last: Option<&str>) -> anyhow::Result<Events> {
        let request = self.request(&self.lasting, Method::GET, path, None).header(header::ACCEPT, "text/event-stream");
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        Ok(Events::of(self.ask(request).await?))
    }

    /// Sends a form that may take any time; the answer's JSON. The same `key` twice is done once.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn upload(&self, path: &str, form: Form, key: &str) -> anyhow::Result<Value> {
        let request = self.request(&self.lasting, Method::POST, path, None).header("idempotency-key", key);
        json(self.ask(request.multipart(form)).await?).await
    }

    /// Sends a small form, or nothing; the answer's JSON. The same `key` twice is done once.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn post_once(&self, path: &str, form: Option<Form>, key: &str) -> anyhow::Result<Value> {
        let request = self.request(&self.http, Method::POST, path, None).header("idempotency-key", key);
        json(self.ask(form.into_iter().fold(request, RequestBuilder::multipart)).await?).await
    }

    fn request(&self, http: &reqwest::Client, method: Method, path: &str, body: Option<&Value>) -> RequestBuilder {
        let request = http.request(method, format!("{}{path}", self.url));
        body.into_iter().fold(request, RequestBuilder::json)
    }

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        accepted(self.send(request).await?).await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = request.bearer_auth(self.token.expose_secret());
        request.send().await.with_context(|| Unreachable(self.url.clone()))
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = Some(String::new());
        while let Some(from) = cursor {
            let (more, next) = self.page(path, &from).await?;
            items.extend(more);
            cursor = next;
        }
        Ok(items)
    }

    /// One page of a list, and the cursor of the next one; an empty cursor is that of the first.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn page(&self, path: &str, cursor: &str) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let from = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let mut page = self.call(Method::GET, &format!("{path}{joint}limit=200{from}"), None).await?;
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else { bail!("the service's answer is no list") };
        Ok((items, page["next_cursor"].as_str().map(str::to_owned)))
    }
}

/// Whether nobody on the way to this address can read what is said.
#[must_use]
pub fn is_confidential(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let here = url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
    url.scheme() == "https" || here
}

/// The answer, unless it refuses.
async fn accepted(answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Err(Refused { retry_after: retry_after.map(Duration::from_secs), ..refused(status, &answer.bytes().await?) }.into())
}

async fn json(answer: Response) -> anyhow::Result<Value> {
    let bytes = answer.bytes().await?;
    if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes).context("the service's answer is no JSON") }
}

fn refused(status: StatusCode, body: &[u8]) -> Refused {
    let Ok(Problem { code, detail, errors }) = serde_json::from_slice(body) else {
        let detail = format!("the service answered {status}");
        return Refused { status: status.as_u16(), code: "unknown".into(), detail, retry_after: None };
    };
    let others = errors.iter().filter(|fault| !detail.contains(&fault.message));
    let others: String = others.map(|fault| format!("\n  {}: {}", fault.field, fault.message)).collect();
    Refused { status: status.as_u16(), code, detail: detail + &others, retry_after: None }
}

fn read_certificates(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read the certificate in {}", file.display()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    found.with_context(|| format!("{} holds no certificate in PEM", file.display()))
}
