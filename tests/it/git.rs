//! Git sources: what is fetched, what is refused, and what is told of both. Against a real git server of this machine.

use dockwright::config::Settings;
use reqwest::multipart::Form;
use serde_json::Value;

use crate::support::service::{self, Backend, Running};

mod bounds;
mod private;
mod refused;
mod result;
mod sources;
mod surprises;
mod tls;
mod troubles;

const DOCKERFILE: &str = "FROM scratch\nCOPY . /\n";

/// A service whose operator lets it go to git servers on 127.0.0.1, and to no other address of this machine.
async fn service(backend: Backend) -> Running {
    service_with(backend, |_| {}).await
}

async fn service_with(backend: Backend, change: impl FnOnce(&mut Settings)) -> Running {
    service::start_with(backend, |settings| {
        settings.allow_egress = Some(vec!["127.0.0.1".parse().expect("an address")]);
        change(settings);
    })
    .await
}

/// An upload of a git source that is not to be pushed.
fn from(url: &str) -> Form {
    Form::new().text("git", url.to_owned()).text("push", "false")
}

/// Asserts that a source is refused with this status and code, and that nothing of it is left; the problem.
async fn refused(service: &Running, form: Form, status: u16, code: &str) -> Value {
    let answer = service.post(form).await;
    let got = answer.status().as_u16();
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]));
    assert_eq!(left(service), [] as [String; 0]);
    problem
}

/// Names in the folders of uploads.
fn left(service: &Running) -> Vec<String> {
    let names = |folder: &str| std::fs::read_dir(service.config.data_dir.join(folder)).expect("a folder").flatten();
    ["contexts", "incoming"].iter().flat_map(|folder| names(folder)).map(|entry| entry.path().display().to_string()).collect()
}
