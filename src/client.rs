//! The service's interface for the operator's commands: typed where they need it, JSON where they only show it.

mod events;
mod socket;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

pub use events::Events;
pub use socket::{Frame, Said, Sayer, Teller};

/// Where the service is when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The first admin's token of a service that was started in this folder.
const FIRST_TOKEN: &str = "dockwright-data/admin-token";
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
}

impl Client {
    /// The token is the one given, else that of the environment (`DOCKWRIGHT_TOKEN`), else the first admin's in this folder.
    ///
    /// # Errors
    /// When there is no token, or `ca_file` (trusted besides the usual certificates) holds no certificate.
    pub fn new(url: &str, token_file: Option<&Path>, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = match (token_file, std::env::var("DOCKWRIGHT_TOKEN")) {
            (Some(file), _) => read_token(file)?,
            (None, Ok(token)) => SecretString::from(token),
            (None, Err(_)) if Path::new(FIRST_TOKEN).exists() => read_token(Path::new(FIRST_TOKEN))?,
            (None, Err(_)) => bail!("no token: set DOCKWRIGHT_TOKEN, or name a file with --token-file"),
        };
        let certificates = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        let builder = || {
            let plain = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none());
            certificates.iter().cloned().fold(plain, reqwest::ClientBuilder::add_root_certificate)
        };
        let (http, lasting) = (builder().timeout(TIMEOUT).build()?, builder().http1_only().build()?);
        Ok(Self { http, lasting, url: url.trim_end_matches('/').to_owned(), token })
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

    fn request(&self, http: &reqwest::Client, method: Method, path: &str, body: Option<&Value>) -> RequestBuilder {
        let request = http.request(method, format!("{}{path}", self.url));
        body.into_iter().fold(request, RequestBuilder::json)
    }

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        accepted(self.send(request).await?).await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = request.bearer_auth(self.token.expose_secret());
        request.send().await.with_context(|| format!("cannot reach {}", self.url))
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

/// The answer, unless it refuses.
async fn accepted(answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() { Ok(answer) } else { Err(refused(status, &answer.bytes().await?)) }
}

async fn json(answer: Response) -> anyhow::Result<Value> {
    let bytes = answer.bytes().await?;
    if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes).context("the service's answer is no JSON") }
}

fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { code, detail }) => anyhow::anyhow!("{detail} ({code}, {})", status.as_u16()),
        Err(_) => anyhow::anyhow!("the service answered {status}"),
    }
}

fn read_certificates(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read the certificate in {}", file.display()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    found.with_context(|| format!("{} holds no certificate in PEM", file.display()))
}

fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    Ok(SecretString::from(text.trim().to_owned()))
}
