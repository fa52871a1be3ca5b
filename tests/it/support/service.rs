//! The service in this very process, on a port of its own, with a data folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dockwright::auth::{NewToken, issue_token};
use dockwright::config::{Config, Settings};
use dockwright::domain::{Owner, Permissions, Quota, Role, User};
use dockwright::store::Store;
use dockwright::store::objects::{Expect, Kind, Write};
use dockwright::wiring::Service;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Which store a test runs on.
#[derive(Clone, Copy, Debug)]
pub enum Backend {
    Sqlite,
    Redis,
}

/// A running service. Dropping it stops it; [`Running::stop`] also waits for the end.
pub struct Running {
    pub address: SocketAddr,
    pub store: Store,
    pub token: String,
    pub config: Config,
    pub installation: String,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
    // Kept so that it lives as long as the service.
    _data: Option<tempfile::TempDir>,
}

/// Settings for a test: short times, small limits, everything in one folder.
pub fn settings(backend: Backend, data_dir: PathBuf) -> Settings {
    let (store, store_prefix) = match backend {
        Backend::Sqlite => (None, None),
        Backend::Redis => (Some(super::redis_url()), Some(super::unique("svc"))),
    };
    Settings {
        data_dir: Some(data_dir),
        store,
        store_prefix,
        min_free_disk: Some("1m".parse().expect("an amount")),
        lease: Some("3s".parse().expect("a span")),
        drain: Some("20s".parse().expect("a span")),
        workers: Some(4),
        // The engine is shared by all tests: how full its disk is is no business of theirs.
        disk_high: Some(100),
        ..Settings::default()
    }
}

pub async fn start(backend: Backend) -> Running {
    start_with(backend, |_| {}).await
}

pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Settings)) -> Running {
    let data = tempfile::tempdir().expect("a folder");
    let mut settings = settings(backend, data.path().to_owned());
    change(&mut settings);
    let config = settings.resolve(None).expect("valid settings");
    let mut running = start_on(config).await;
    running._data = Some(data);
    running
}

/// Starts on settings and a folder that the caller keeps.
pub async fn start_on(config: Config) -> Running {
    let file = dockwright::wiring::database(&config);
    super::watch("the store is free", || !dockwright::store::sqlite::in_use(&file)).await;
    let service = Service::open(config.clone()).await.expect("the service opens");
    let (store, installation) = (service.store().clone(), service.installation().to_owned());
    let token = std::fs::read_to_string(config.data_dir.join("admin-token")).expect("the admin's token").trim().to_owned();
    let listener = dockwright::http::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let ended = stop.clone();
    let task = tokio::spawn(async move { service.run(Some(listener), ended).await.expect("the service runs") });
    Running { address, store, token, config, installation, stop, task: Some(task), _data: None }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    /// As SIGTERM does, to the end.
    pub async fn stop(mut self) -> Option<tempfile::TempDir> {
        self.stop.cancel();
        self.task.take().expect("taken only here").await.expect("ends in order");
        self._data.take()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(&self.token, method, path)
    }

    pub fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        crate::support::http().request(method, self.url(path)).bearer_auth(token).timeout(Duration::from_secs(120))
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "GET {path}");
        answer.json().await.expect("JSON")
    }

    pub async fn text(&self, path: &str) -> String {
        self.request(Method::GET, path).send().await.expect("an answer").text().await.expect("text")
    }

    pub async fn post(&self, form: Form) -> Response {
        self.request(Method::POST, "/api/v1/builds").multipart(form).send().await.expect("an answer")
    }

    /// Submits what must be accepted; the build.
    pub async fn submit(&self, form: Form) -> Value {
        self.submit_as(&self.token, form).await
    }

    pub async fn submit_as(&self, token: &str, form: Form) -> Value {
        let answer = self.request_as(token, Method::POST, "/api/v1/builds").multipart(form).send().await.expect("an answer");
        let (status, build) = (answer.status(), answer.text().await.expect("text"));
        assert_eq!(status, StatusCode::ACCEPTED, "{build}");
        serde_json::from_str(&build).expect("JSON")
    }

    /// The build as it ends; with its log when that takes longer than three minutes.
    pub async fn ended(&self, build: &Value) -> Value {
        let path = format!("/api/v1/builds/{}?wait=60", id(build));
        for _ in 0..3 {
            let now = self.get(&path).await;
            let state = now["state"].as_str().expect("a state");
            if ["published", "built", "failed", "cancelled"].contains(&state) {
                return now;
            }
        }
        panic!("it has not ended: {}\n{}", self.get(&path).await, self.log(build).await)
    }

    /// Waits, by `ETag`, until the build satisfies `wanted`.
    pub async fn until(&self, build: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/builds/{}?wait=20", id(build));
        let mut etag = String::new();
        for _ in 0..200 {
            let answer = self.request(Method::GET, &path).header("if-none-match", &etag).send().await.expect("an answer");
            if answer.status() == StatusCode::NOT_MODIFIED {
                continue;
            }
            etag = answer.headers()["etag"].to_str().expect("text").to_owned();
            let now: Value = answer.json().await.expect("JSON");
            if wanted(&now) {
                return now;
            }
        }
        panic!("the build never came that far: {}", self.get(&format!("/api/v1/builds/{}", id(build))).await)
    }

    /// Waits until no build is queued or running.
    pub async fn idle(&self) {
        let nothing = serde_json::json!({"queued": 0, "running": 0});
        super::watch::until("nothing is queued or running", async || self.get("/api/v1/system").await["queue"] == nothing).await;
    }

    pub async fn log(&self, build: &Value) -> String {
        self.text(&format!("/api/v1/builds/{}/logs", id(build))).await
    }

    /// Follows the log until it holds `text`.
    pub async fn logged(&self, build: &Value, text: &str) {
        let path = format!("/api/v1/builds/{}/logs?follow=true", id(build));
        let mut log = self.request(Method::GET, &path).send().await.expect("a log");
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = log.chunk().await.expect("the log").unwrap_or_else(|| panic!("the log ended without {text:?}: {seen}"));
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    pub async fn cancel(&self, build: &Value) -> Value {
        let path = format!("/api/v1/builds/{}/cancel", id(build));
        let answer = self.request(Method::POST, &path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        answer.json().await.expect("JSON")
    }

    pub async fn delete(&self, build: &Value) -> Response {
        self.request(Method::DELETE, &format!("/api/v1/builds/{}", id(build))).send().await.expect("an answer")
    }

    /// A token of another account, which is made on the way.
    pub async fn user(&self, name: &str) -> String {
        let owner: Owner = name.parse().expect("a valid name");
        let user = User::new(owner.clone(), Role::User, None, Quota::default());
        self.store.commit(&[Write::put(Kind::User, name, &owner, Expect::Anything, &user)]).await.expect("an account");
        self.token_of(name).await
    }

    /// A token of an account that is there.
    pub async fn token_of(&self, name: &str) -> String {
        let owner: Owner = name.parse().expect("a valid name");
        let new =
            NewToken { name: "test".into(), scopes: Permissions::of_role(Role::User), images: Vec::new(), expires_at: None };
        issue_token(&self.store, &owner, &new).await.expect("a token").1.expose_secret().to_owned()
    }
}

pub fn id(build: &Value) -> &str {
    build["id"].as_str().expect("an id")
}

/// An upload of a Dockerfile alone.
pub fn dockerfile(text: &str) -> Form {
    Form::new().part("file", Part::bytes(text.as_bytes().to_vec()).file_name("Dockerfile"))
}

/// An upload of an archive.
pub fn context(bytes: Vec<u8>) -> Form {
    Form::new().part("context", Part::bytes(bytes).file_name("context"))
}

/// A tar of these files.
pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).expect("a tar in memory");
    }
    tar.into_inner().expect("a tar in memory")
}

/// The digest of a tag, asked of the registry itself.
pub async fn tag_digest(image: &str, login: Option<(&str, &str)>) -> Option<String> {
    let (host, rest) = image.split_once('/').expect("a host");
    let (path, tag) = rest.rsplit_once(':').expect("a tag");
    let mut asked = crate::support::http()
        .head(format!("http://{host}/v2/{path}/manifests/{tag}"))
        .header("accept", "application/vnd.docker.distribution.manifest.v2+json");
    if let Some((user, password)) = login {
        asked = asked.basic_auth(user, Some(password));
    }
    let answer = asked.send().await.expect("an answer of the registry");
    answer
        .headers()
        .get("docker-content-digest")
        .filter(|_| answer.status().is_success())
        .map(|d| d.to_str().expect("text").to_owned())
}

/// What `docker ARGS` prints; for looking at the engine from outside the service.
pub fn docker(args: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(args).output().expect("the docker client");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether the engine has an image of this build under the service's own tag.
pub fn has_local_tag(build: &Value) -> bool {
    !docker(&["images", "-q", &format!("dockwright.local/build:{}", id(build))]).is_empty()
}
