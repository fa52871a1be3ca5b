//! `POST /api/v1/containers`: a container without an app, from an image or from what is built first.

use std::collections::BTreeMap;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::apps::{NewRun, spec};
use crate::auth::Principal;
use crate::builds::{PartKind, TextPart};
use crate::domain::{BuildId, Permission, RunId};
use crate::error::{Error, FieldError, Result};
use crate::http::apps::ContainerFields;
use crate::http::multipart::{self, Parts};
use crate::http::openapi::forms::Upload;
use crate::http::runs::{RunView, accepted};
use crate::http::{App, Caller, body, replay};

/// Fields of a container that may be parts of their own. What a build has under the same name means the container here.
const OWN: [&str; 14] = [
    "command",
    "entrypoint",
    "env",
    "ports",
    "volumes",
    "restart",
    "user",
    "workdir",
    "read_only",
    "healthcheck",
    "tty",
    "pids",
    "labels",
    "spec",
];
const TAKEN: [&str; 3] = ["memory", "cpus", "network"];

/// A container's fields, and how its image is pulled.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ContainerForm {
    /// Name of kept credentials to pull with; those for the image's host if absent.
    #[schema(required = false)]
    registry: String,
    #[serde(flatten)]
    fields: ContainerFields,
}

/// The parts of `POST /api/v1/builds`, of which `push` is `false` if no `image` is named, and the fields of a container: all of them in
/// `spec`, or each in a part of its own, as JSON or as text (`command` and `entrypoint` an argument each, `env` as `NAME=VALUE`, `ports` as
/// `[HOST:]CONTAINER[/udp]`, `volumes` as `NAME:/path[:ro]`). `memory`, `cpus` and `network` are the container's.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ContainerUpload {
    /// A JSON object of a container's fields.
    #[schema(required = false)]
    spec: String,
    #[schema(required = false)]
    command: Vec<String>,
    #[schema(required = false)]
    entrypoint: Vec<String>,
    #[schema(required = false)]
    env: Vec<String>,
    #[schema(required = false)]
    ports: Vec<String>,
    #[schema(required = false)]
    volumes: Vec<String>,
    #[schema(required = false)]
    restart: String,
    #[schema(required = false)]
    user: String,
    #[schema(required = false)]
    workdir: String,
    #[schema(required = false)]
    read_only: bool,
    #[schema(required = false)]
    tty: bool,
    #[schema(required = false)]
    pids: u64,
    /// A line for the shell, or JSON.
    #[schema(required = false)]
    healthcheck: String,
    #[serde(flatten)]
    build: Upload,
}

/// Run a container once, without an app. With a Dockerfile or a context, what is to run is built first (which needs `builds:write`, too), and
/// the run's log begins with the build's.
#[utoipa::path(post, path = "/api/v1/containers", tag = "containers", operation_id = "run_container",
    request_body(content((ContainerForm = "application/json"), (ContainerUpload = "multipart/form-data"))),
    responses((status = 202, description = "Accepted, durably: the run.", body = RunView, headers(("Location" = String, description = "The run."))),
        (status = 400, description = "All that is wrong with it, told together in `errors`."),
        (status = 429, description = "`quota_exceeded`: `detail` names the quota, its limit and its use.")))]
pub async fn run(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    if kind.is_some_and(|kind| kind.starts_with(b"multipart/form-data")) {
        return from_upload(&app, &caller, request).await;
    }
    let (headers, bytes) = body::read_spec(request).await?;
    let (app, caller, sent) = (&app, &*caller, &bytes);
    replay::once(app, caller, "POST containers", &headers, &bytes, |id| async move {
        let mut fields = spec::object(sent)?;
        let registry = match registry(&mut fields) {
            Ok(registry) => registry,
            Err(wrong) => return Err(app.apps.with_faults_of(caller, &fields, wrong).await),
        };
        let new = NewRun { id: Some(RunId::from(id)), registry, built_here: false };
        Ok(accepted(app, &app.apps.run_once(caller, &fields, new).await?))
    })
    .await
}

fn registry(fields: &mut Map<String, Value>) -> Result<Option<String>> {
    match fields.remove("registry") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(_) => Err(Error::invalid("invalid_spec", "registry", "must be a text")),
    }
}

async fn from_upload(app: &App, caller: &Principal, request: Request) -> Result<Response> {
    caller.must_have(Permission::BuildsWrite)?;
    let headers: HeaderMap = request.headers().clone();
    let mut parts = ContainerParts::default();
    let mut draft = multipart::read(&app.builds, caller, request, &mut parts).await?;
    let content = [draft.fingerprint(), parts.fingerprint()].concat();
    if draft.first(TextPart::Image).is_none() && draft.first(TextPart::Push).is_none() {
        draft.text(TextPart::Push, SecretString::from("false"));
    }
    replay::once(app, caller, "POST containers", &headers, &content, |id| async move {
        let mut fields = parts.fields()?;
        if let Some(named) = ["image", "build"].into_iter().find(|name| fields.contains_key(*name)) {
            return Err(Error::invalid("invalid_spec", named, "is what is built here; leave it out"));
        }
        fields.insert("build".into(), id.to_string().into());
        // Before anything is built for nothing.
        app.apps.check_spec(caller, &fields)?;
        app.builds.submit(caller, id, draft).await?;
        let new = NewRun { id: Some(RunId::from(id)), registry: None, built_here: true };
        match app.apps.run_once(caller, &fields, new).await {
            Ok(run) => Ok(accepted(app, &run)),
            Err(error) => Err(without_build(app, caller, id, error).await),
        }
    })
    .await
}

/// A build whose container is refused is nobody's wish; one that the store lost sight of is found again by the same key.
async fn without_build(app: &App, caller: &Principal, id: BuildId, error: Error) -> Error {
    if !matches!(error, Error::Unavailable { .. } | Error::Internal(_))
        && let Err(left) = app.builds.delete(caller, id, false).await
    {
        tracing::warn!(build = %id, error = %left, "the build of a container that was refused is left");
    }
    error
}

/// The container's parts of an upload, in the order in which they came.
#[derive(Default)]
struct ContainerParts(Vec<(String, SecretString)>);

impl Parts for ContainerParts {
    fn kind(&self, name: &str) -> PartKind {
        // A container is made of a build of its own.
        if name == "reuse" {
            return PartKind::Unknown;
        }
        if OWN.contains(&name) || TAKEN.contains(&name) { PartKind::Own } else { PartKind::of(name) }
    }

    fn own(&mut self, name: &str, text: SecretString) {
        self.0.push((name.to_owned(), text));
    }
}

impl ContainerParts {
    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for part in self.0.iter().flat_map(|(name, text)| [name.as_str(), text.expose_secret()]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().to_vec()
    }

    /// All parts as the fields that the validator reads.
    fn fields(&self) -> Result<Map<String, Value>> {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, text) in &self.0 {
            by_name.entry(name).or_default().push(text.expose_secret());
        }
        let mut fields = match by_name.remove("spec").as_deref() {
            None => Map::new(),
            Some([one]) => spec::object(one.as_bytes())?,
            Some(_) => return Err(twice("spec")),
        };
        for (name, texts) in by_name {
            if fields.contains_key(name) {
                return Err(Error::invalid("invalid_spec", name, "is given in `spec`, too"));
            }
            fields.insert(name.to_owned(), value(name, &texts)?);
        }
        Ok(fields)
    }
}

fn twice(name: &str) -> Error {
    Error::Invalid { code: "invalid_spec", fields: vec![FieldError::new(name, "may be given only once")] }
}

/// A field from the texts of its parts. What is wrong with it the validator says.
fn value(name: &str, texts: &[&str]) -> Result<Value> {
    let one = if let [one] = texts { Some(*one) } else { None };
    match name {
        "command" | "entrypoint" => Ok(one.and_then(|one| json(one).filter(Value::is_array)).unwrap_or_else(|| strings(texts))),
        "env" => match one.and_then(|one| json(one).filter(Value::is_object)) {
            Some(given) => Ok(given),
            None => variables(texts),
        },
        "ports" => Ok(one
            .and_then(|one| json(one).filter(Value::is_array))
            .unwrap_or_else(|| texts.iter().map(|text| port(text)).collect())),
        "volumes" => Ok(one
            .and_then(|one| json(one).filter(Value::is_array))
            .unwrap_or_else(|| texts.iter().map(|text| volume(text)).collect())),
        "healthcheck" => {
            let text = one.ok_or_else(|| twice(name))?;
            Ok(json(text).filter(Value::is_object).unwrap_or_else(|| serde_json::json!({"test": text})))
        }
        _ => {
            let text = one.ok_or_else(|| twice(name))?;
            let is_text = ["restart", "user", "workdir", "network", "memory", "cpus"].contains(&name);
            Ok(json(text).filter(|value| !is_text || value.is_string()).unwrap_or_else(|| text.into()))
        }
    }
}

fn strings(texts: &[&str]) -> Value {
    texts.iter().copied().map(Value::from).collect()
}

/// A JSON value, with no key twice anywhere; none for a plain text.
fn json(text: &str) -> Option<Value> {
    let mut wrapped = spec::object(format!("{{\"v\": {text}\n}}").as_bytes()).ok()?;
    let value = wrapped.remove("v")?;
    wrapped.is_empty().then_some(value)
}

fn variables(texts: &[&str]) -> Result<Value> {
    let mut env = Map::new();
    for text in texts {
        // Never quoted: it may be a secret.
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Error::invalid("invalid_spec", "env", "must have the form NAME=VALUE, or be one JSON object"))?;
        if env.insert(name.to_owned(), value.into()).is_some() {
            return Err(Error::invalid("invalid_spec", format!("env.{name}"), "is given twice"));
        }
    }
    Ok(env.into())
}

/// `[HOST:]CONTAINER[/PROTOCOL]`; anything else as it is, for the validator to refuse.
fn port(text: &str) -> Value {
    let number = |text: &str| text.parse::<u16>().ok();
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let read = match ports.split_once(':') {
        Some((host, container)) => number(host).zip(number(container)).map(|(host, container)| (Some(host), container)),
        None => number(ports).map(|container| (None, container)),
    };
    match read {
        Some((host, container)) => serde_json::json!({"container": container, "host": host, "protocol": protocol}),
        None => text.into(),
    }
}

/// `NAME:PATH[:ro]`
fn volume(text: &str) -> Value {
    let (text, read_only) = text.strip_suffix(":ro").map_or((text, false), |rest| (rest, true));
    match text.split_once(':') {
        Some((name, path)) => serde_json::json!({"volume": name, "path": path, "read_only": read_only}),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(parts: &[(&str, &str)]) -> Result<Map<String, Value>> {
        let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), SecretString::from((*text).to_owned())));
        ContainerParts(parts.collect()).fields()
    }

    #[test]
    fn parts_are_json_or_text() {
        for (parts, expected) in [
            (vec![("command", "sh"), ("command", "-c"), ("command", "[1]")], json!({"command": ["sh", "-c", "[1]"]})),
            (vec![("command", r#"["a", "b"]"#)], json!({"command": ["a", "b"]})),
            (vec![("command", "[")], json!({"command": ["["]})),
            (vec![("env", "A=1"), ("env", "B=x=y")], json!({"env": {"A": "1", "B": "x=y"}})),
            (vec![("env", r#"{"A": {"secret": "s"}}"#)], json!({"env": {"A": {"secret": "s"}}})),
            (
                vec![("ports", "80"), ("ports", "20080:81/udp")],
                json!({"ports": [
                    {"container": 80, "host": null, "protocol": "tcp"}, {"container": 81, "host": 20080, "protocol": "udp"}]}),
            ),
            (
                vec![("volumes", "data:/data:ro"), ("volumes", "b:/b")],
                json!({"volumes": [
                    {"volume": "data", "path": "/data", "read_only": true}, {"volume": "b", "path": "/b", "read_only": false}]}),
            ),
            (vec![("read_only", "true"), ("pids", "5"), ("cpus", "1.5")], json!({"read_only": true, "pids": 5, "cpus": "1.5"})),
            (vec![("user", "1000"), ("memory", "64m")], json!({"user": "1000", "memory": "64m"})),
            (vec![("spec", r#"{"user": "1"}"#), ("workdir", "/x")], json!({"user": "1", "workdir": "/x"})),
            (vec![("healthcheck", "true")], json!({"healthcheck": {"test": "true"}})),
            (vec![("healthcheck", r#"{"disable": true}"#)], json!({"healthcheck": {"disable": true}})),
            // What closes the bracket around it is a text.
            (vec![("user", r#""a", "image": "b""#)], json!({"user": r#""a", "image": "b""#})),
        ] {
            assert_eq!(Value::Object(fields(&parts).expect("fields")), expected, "{parts:?}");
        }
        for parts in [
            vec![("env", "A=1"), ("env", "A=2")],
            vec![("env", "A")],
            vec![("user", "1"), ("user", "2")],
            vec![("spec", r#"{"user": "1"}"#), ("user", "1")],
            vec![("spec", r#"{"user": "1", "user": "2"}"#)],
            vec![("spec", "{}"), ("spec", "{}")],
        ] {
            assert!(fields(&parts).is_err(), "{parts:?}");
        }
    }
}
