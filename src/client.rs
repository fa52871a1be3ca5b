//! The service's interface for the operator's commands: typed where they need it, JSON where they only show it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

/// Where the service is when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The first admin's token of a service that was started in this folder.
const FIRST_TOKEN: &str = "dockwright-data/admin-token";
const TIMEOUT: Duration = Duration::from_secs(120);

/// Speaks to one service as one account.
pub struct Client {
    http: reqwest::Client,
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
    /// When there is no token.
    pub fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = match (token_file, std::env::var("DOCKWRIGHT_TOKEN")) {
            (Some(file), _) => read_token(file)?,
            (None, Ok(token)) => SecretString::from(token),
            (None, Err(_)) if Path::new(FIRST_TOKEN).exists() => read_token(Path::new(FIRST_TOKEN))?,
            (None, Err(_)) => bail!("no token: set DOCKWRIGHT_TOKEN, or name a file with --token-file"),
        };
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// One request; the answer's JSON, `null` when it has none.
    ///
    /// # Errors
    /// When the service cannot be reached, or refuses: then with its own words.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("cannot reach {}", self.url))?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        if status.is_success() {
            return if status == StatusCode::NO_CONTENT || bytes.is_empty() {
                Ok(Value::Null)
            } else {
                serde_json::from_slice(&bytes).context("the service's answer is no JSON")
            };
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(Problem { code, detail }) => bail!("{detail} ({code}, {})", status.as_u16()),
            Err(_) => bail!("the service answered {status}"),
        }
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.call(Method::GET, &format!("{path}?limit=200{cursor}"), None).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }
}

fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    Ok(SecretString::from(text.trim().to_owned()))
}
