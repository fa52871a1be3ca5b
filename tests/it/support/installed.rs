//! A service as a process that is killed and started again on what it had.

use std::path::Path;
use std::time::Duration;

use dockwright::config::Settings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harbor::{Swept, word};
use super::process::Process;
use super::seen;
use super::service::{Backend, docker, id, settings};

/// Dropping it kills the process and takes away all that it has made at the machine's engine.
pub struct Installed {
    process: Option<Process>,
    settings: Settings,
    engine: Option<String>,
    base: String,
    token: String,
    data: tempfile::TempDir,
    swept: Swept,
}

impl Installed {
    /// With the machine's engine, or the one at this address.
    pub async fn start(backend: Backend, engine: Option<String>) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let settings = settings(backend, data.path().to_owned());
        let swept = Swept::of(settings.clone()).await;
        let (base, token) = (String::new(), String::new());
        let mut one = Self { process: None, settings, engine, base, token, data, swept };
        one.start_again().await;
        one
    }

    /// Waits until its containers are known.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut args: Vec<&str> = ["serve", "--listen", "127.0.0.1:0", "--lease", "2s"].into();
        for (flag, value) in
            [("--store", &self.settings.store), ("--store-prefix", &self.settings.store_prefix), ("--engine", &self.engine)]
        {
            args.extend(value.iter().flat_map(|value| [flag, value.as_str()]));
        }
        let mut process = Process::start(&args, self.data.path());
        self.base = format!("http://{}", tokio::task::block_in_place(|| process.address()));
        self.token = token(self.data.path());
        self.process = Some(process);
        self.until("/api/v1/containers?limit=1", |status, _| status == StatusCode::OK).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Descriptors that the process has open.
    pub fn open_files(&self) -> usize {
        let pid = self.process.as_ref().expect("it runs").pid();
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
    }

    /// Engine ids of its containers at the machine's engine.
    pub fn containers(&self) -> Vec<String> {
        let ours = format!("label=dockwright.installation={}", self.swept.0);
        docker(&["ps", "-aq", "--no-trunc", "--filter", &ours]).lines().map(str::to_owned).collect()
    }

    /// Status and answer; null sends no body.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.request(method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base);
        crate::support::http().request(method, url).bearer_auth(&self.token).timeout(Duration::from_secs(120))
    }

    pub async fn read(&self, path: &str) -> Value {
        let (status, told) = self.call(Method::GET, path, Value::Null).await;
        assert!(status.is_success(), "{path}: {status} {told}");
        told
    }

    /// Looks until it is answered like this.
    pub async fn until(&self, path: &str, wanted: impl Fn(StatusCode, &Value) -> bool) -> Value {
        seen(path, async || {
            let (status, told) = self.call(Method::GET, path, Value::Null).await;
            wanted(status, &told).then_some(told)
        })
        .await
    }

    /// Runs a container once, of busybox and without a network if nothing else is said; the run.
    pub async fn run(&self, mut fields: Value) -> Value {
        for (field, usual) in [("image", "busybox"), ("network", "none")] {
            if fields.get(field).is_none() {
                fields[field] = usual.into();
            }
        }
        let (status, told) = self.call(Method::POST, "/api/v1/containers", fields).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{told}");
        told
    }

    /// The run as soon as it is as wanted.
    pub async fn run_until(&self, run: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("/api/v1/runs/{}", id(run)), |_, run| wanted(run)).await
    }

    /// The run of a shell script, as it runs.
    pub async fn runs(&self, script: &str, more: Value) -> Value {
        let mut fields = json!({"command": ["sh", "-c", script]});
        fields.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let run = self.run(fields).await;
        self.comes_to(&run, "running").await
    }

    pub async fn comes_to(&self, run: &Value, state: &str) -> Value {
        self.run_until(run, |run| word(&run["state"]) == state).await
    }

    pub async fn log(&self, run: &Value) -> String {
        let asked = self.request(Method::GET, &format!("/api/v1/runs/{}/logs", id(run)));
        asked.send().await.expect("an answer").text().await.expect("text")
    }
}

fn token(data: &Path) -> String {
    std::fs::read_to_string(data.join("admin-token")).expect("a token").trim().to_owned()
}
