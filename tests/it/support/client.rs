//! A client of a service that runs as a process.

use std::collections::BTreeSet;
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
        Self { base: format!("http://{address}/api/v1/builds"), token, http: crate::support::http() }
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

    /// The build as it ends, however long it waits behind others; with its log when that takes longer than a soak lasts.
    pub async fn ended_at_last(&self, id: &str) -> Value {
        for _ in 0..crate::faults::soak::times(2, 120) {
            let build = self.ended(id).await;
            assert_eq!(build["id"], id, "{build}");
            if !build["finished_at"].is_null() {
                return build;
            }
        }
        panic!("it has not ended: {}\n{}", self.get(id).await, self.text(&format!("{id}/logs")).await)
    }

    /// The build as soon as it changes, by its `ETag`; `None` when nothing of it has moved for `seconds`.
    pub async fn moves(&self, id: &str, seconds: u64) -> Option<Value> {
        let now = self.request(Method::GET, &format!("/{id}")).send().await.expect("an answer");
        let seen = now.headers()["etag"].clone();
        let asked = self.request(Method::GET, &format!("/{id}?wait={seconds}")).header("if-none-match", seen);
        let answer = asked.send().await.expect("an answer");
        match answer.status().as_u16() {
            304 => None,
            _ => Some(answer.json().await.expect("JSON")),
        }
    }

    /// Takes a build away; the answer.
    pub async fn delete(&self, id: &str) -> Value {
        let answer = self.request(Method::DELETE, &format!("/{id}")).send().await.expect("an answer");
        let status = answer.status();
        let told: Value = answer.json().await.expect("JSON");
        assert!(status.is_success(), "{told}");
        told
    }

    /// Every digest that was ever told of a destination of the build, by its history.
    pub async fn digests_told(&self, id: &str) -> BTreeSet<String> {
        let asked = self.request(Method::GET, &format!("/{id}/logs")).header("accept", "text/event-stream");
        let history = asked.send().await.expect("an answer").text().await.expect("text");
        let builds = history.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let destinations = builds.filter_map(|build| build["destinations"].as_array().cloned()).flatten();
        destinations.filter_map(|destination| destination["digest"].as_str().map(str::to_owned)).collect()
    }

    /// A page of the list, by its query; its builds.
    pub async fn list(&self, query: &str) -> Vec<Value> {
        let answer = self.request(Method::GET, &format!("?{query}")).send().await.expect("an answer");
        let page: Value = answer.json().await.expect("JSON");
        page["items"].as_array().unwrap_or_else(|| panic!("no page: {page}")).clone()
    }

    /// Status and answer of a path beside the builds.
    pub async fn outside(&self, path: &str) -> (u16, Value) {
        let root = self.base.trim_end_matches("/api/v1/builds");
        let answer = self.http.get(format!("{root}{path}")).bearer_auth(&self.token).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    pub async fn text(&self, path: &str) -> String {
        self.request(Method::GET, &format!("/{path}")).send().await.expect("an answer").text().await.expect("text")
    }
}
