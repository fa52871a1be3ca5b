//! A service whose containers really run, and go with the test, however that ends.

use std::ops::Deref;
use std::process::Command;
use std::time::Duration;

use dockwright::config::Settings;
use dockwright::wiring::Service;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::seen;
use super::service::{Backend, Running, id, start_with};
use super::watch::until;

/// Dropping it takes away all that it has made at the engine.
pub struct Harbor {
    pub service: Running,
    // Behind the service, so that nothing more is made.
    _swept: Swept,
}

impl Deref for Harbor {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.service
    }
}

/// Removes what carries the label of one installation.
pub struct Swept(pub String);

impl Swept {
    /// What a service will make that is yet to be started on these settings: the installation is made now.
    pub async fn of(settings: Settings) -> Self {
        let first = Service::open(settings.resolve(None).expect("valid settings")).await.expect("the service opens");
        Self(first.installation().to_owned())
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        let ours = format!("label=dockwright.installation={}", self.0);
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-f", "-v"][..]),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
        ] {
            let found = Command::new("docker").args(list).args(["--filter", &ours]).output().expect("the docker client");
            let found = String::from_utf8_lossy(&found.stdout).into_owned();
            if !found.trim().is_empty() {
                let _ = Command::new("docker").args(remove).args(found.split_whitespace()).output();
            }
        }
    }
}

pub async fn harbor(backend: Backend) -> Harbor {
    harbor_with(backend, |_| {}).await
}

pub async fn harbor_with(backend: Backend, change: impl FnOnce(&mut Settings)) -> Harbor {
    let service = start_with(backend, change).await;
    let harbor = Harbor { _swept: Swept(service.installation.clone()), service };
    harbor.sees_the_engine().await;
    harbor
}

impl Harbor {
    /// Waits until the engine's containers are known.
    pub async fn sees_the_engine(&self) {
        let path = "/api/v1/containers?limit=1";
        let known = async || self.call(&self.token, Method::GET, path, Value::Null).await.0 == StatusCode::OK;
        until("the engine's containers are known", known).await;
    }

    /// Status and answer; null sends no body.
    pub async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.service.request_as(token, method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    /// The answer to what must succeed.
    pub async fn done(&self, token: &str, method: Method, path: &str, body: Value) -> Value {
        let (status, told) = self.call(token, method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {told}");
        told
    }

    pub async fn read(&self, token: &str, path: &str) -> Value {
        self.done(token, Method::GET, path, Value::Null).await
    }

    /// Runs a container once, from busybox if nothing else is said; the run.
    pub async fn run(&self, token: &str, fields: Value) -> Value {
        self.done(token, Method::POST, "/api/v1/containers", busybox(fields)).await
    }

    /// Makes an app of busybox if nothing else is said.
    pub async fn app(&self, token: &str, name: &str, fields: Value) -> Value {
        let mut fields = busybox(fields);
        fields["name"] = name.into();
        self.done(token, Method::POST, "/api/v1/apps", fields).await
    }

    pub async fn start_app(&self, token: &str, app: &str) -> Value {
        self.done(token, Method::POST, &format!("/api/v1/apps/{app}/runs"), Value::Null).await
    }

    /// The run, by its `ETag`, as soon as it is as wanted.
    pub async fn run_until(&self, token: &str, run: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/runs/{}?wait=20", id(run));
        let mut etag = String::new();
        let mut last = Value::Null;
        for _ in 0..100 {
            let asked = self.service.request_as(token, Method::GET, &path).header("if-none-match", &etag);
            let answer = asked.send().await.expect("an answer");
            if answer.status() == StatusCode::NOT_MODIFIED {
                break;
            }
            etag = answer.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned()).unwrap_or_default();
            last = answer.json().await.expect("JSON");
            if wanted(&last) {
                return last;
            }
        }
        panic!("the run never came that far: {last}\n{}", self.run_log(token, run).await)
    }

    /// The run as it runs.
    pub async fn runs(&self, token: &str, run: &Value) -> Value {
        let now = self.run_until(token, run, |run| !["pending", "pulling", "starting"].contains(&word(&run["state"]))).await;
        assert_eq!(now["state"], "running", "{now}\n{}", self.run_log(token, run).await);
        now
    }

    /// The run when it is over.
    pub async fn over(&self, token: &str, run: &Value) -> Value {
        self.run_until(token, run, |run| run["status"] == "F").await
    }

    pub async fn run_log(&self, token: &str, run: &Value) -> String {
        let asked = self.service.request_as(token, Method::GET, &format!("/api/v1/runs/{}/logs", id(run)));
        asked.send().await.expect("an answer").text().await.expect("text")
    }

    /// What a command prints that runs once, which must end well.
    pub async fn prints(&self, token: &str, fields: Value) -> String {
        let run = self.run(token, fields).await;
        let over = self.over(token, &run).await;
        assert_eq!(
            (&over["state"], &over["exit_code"]),
            (&json!("exited"), &json!(0)),
            "{over}\n{}",
            self.run_log(token, &run).await
        );
        self.output(token, &over).await
    }

    /// What a run's container has put out.
    pub async fn output(&self, token: &str, run: &Value) -> String {
        let asked = self.service.request_as(token, Method::GET, &format!("/api/v1/containers/{}/logs", id(run)));
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.expect("text")
    }

    /// Where a browser finds a run's container.
    pub async fn link(&self, token: &str, run: &Value) -> String {
        let container = self.read(token, &format!("/api/v1/containers/{}", id(run))).await;
        word(&container["ports"][0]["url"]).to_owned()
    }
}

fn busybox(mut fields: Value) -> Value {
    if fields.get("image").is_none() && fields.get("build").is_none() {
        fields["image"] = "busybox".into();
    }
    fields
}

/// A text of JSON.
pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// A web server that answers with this text on port 8080.
pub fn web(text: &str) -> Value {
    let script = format!("mkdir -p /tmp/www; echo {text} > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www");
    json!({"command": ["sh", "-c", script], "ports": [8080]})
}

/// What a web server answers, when it does.
pub async fn fetched(url: &str) -> String {
    let client = crate::support::http();
    let answer = seen(url, async || client.get(url).timeout(Duration::from_secs(2)).send().await.ok()).await;
    answer.text().await.expect("text")
}
