//! A client of a service that runs as a process.

use std::path::Path;
use std::time::Duration;

use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// Knows where the service is, and the admin's token.
pub struct Client {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Client {
    pub fn new(address: &str, data_dir: &Path) -> Self {
        let token = std::fs::read_to_string(data_dir.join("admin-token")).expect("a token").trim().to_owned();
        Self { base: format!("http://{address}/api/v1/builds"), token, http: reqwest::Client::new() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token).timeout(Duration::from_secs(170))
    }

    /// Submits what must be accepted; the build's id.
    pub async fn submit(&self, form: Form) -> String {
        let answer = self.request(Method::POST, "").multipart(form).send().await.expect("an answer");
        let build: Value = answer.json().await.expect("JSON");
        build["id"].as_str().unwrap_or_else(|| panic!("not accepted: {build}")).to_owned()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, &format!("/{path}")).send().await.expect("an answer").json().await.expect("JSON")
    }

    pub async fn ended(&self, id: &str) -> Value {
        self.get(&format!("{id}?wait=60")).await
    }

    pub async fn text(&self, path: &str) -> String {
        self.request(Method::GET, &format!("/{path}")).send().await.expect("an answer").text().await.expect("text")
    }
}
