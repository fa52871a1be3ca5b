//! The texts for pipelines, as they stand in docs/ci.md and in the action, run against the real service.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::builds::{ended, folder, text};
use super::person::{Ended, dockwright};
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, tag_digest};
use crate::support::{own, registry, unique};

on_both_stores!(
    every_pipelines_text_publishes,
    a_job_without_the_client_fails_with_the_logs_tail,
    a_job_without_the_client_tries_again,
    a_job_that_is_cancelled_cancels_its_build,
    the_action_builds_and_tells_the_digest,
);

const CLIENT: &str = env!("CARGO_BIN_EXE_dockwright");

pub fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("is there")
}

/// The blocks of one language below a headline.
pub fn blocks(page: &str, headline: &str, language: &str) -> Vec<String> {
    let section = page.split("\n## ").find(|section| section.starts_with(headline)).expect("a section");
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

/// The text of the last YAML block scalar (`run: |`, `- |`), without its indentation.
fn scalar(yaml: &str) -> String {
    let lines: Vec<&str> = yaml.lines().collect();
    let head = lines.iter().rposition(|line| line.ends_with('|')).expect("a block of text");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[head + 1]);
    let inside = lines[head + 1..].iter().take_while(|line| line.is_empty() || indent(line) >= depth);
    inside.map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}

/// A script in a folder as a job runs it: with the client on the path, and where and who in the environment.
fn script(service: &Running, at: &Path, (shell, script): (&str, &str), more: &[(&str, &str)]) -> Command {
    let client = Path::new(CLIENT).parent().expect("a folder");
    let path = format!("{}:{}", client.display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new(shell);
    for (name, value) in dockwright(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["-e", "-c", script]).current_dir(at).env("PATH", path);
    command.env("DOCKWRIGHT_URL", service.url("")).env("DOCKWRIGHT_TOKEN", &service.token).envs(more.iter().copied());
    command
}

pub fn job(service: &Running, at: &Path, what: (&str, &str), more: &[(&str, &str)]) -> Ended {
    ended(script(service, at, what, more))
}

fn curl() -> String {
    blocks(&read("docs/ci.md"), "curl", "sh").pop().expect("a block")
}

fn client_sha256() -> String {
    hex::encode(Sha256::digest(std::fs::read(CLIENT).expect("the binary")))
}

/// A way to the service on which the first request of each kind is refused, as while it starts.
async fn at_first_refused(service: &Running) -> String {
    let (behind, refused) = (service.url(""), Arc::new(Mutex::new(HashSet::new())));
    let pass = move |request: Request| {
        let (url, first) =
            (format!("{behind}{}", request.uri()), refused.lock().expect("whole").insert(request.method().clone()));
        async move { if first { starting() } else { passed_on(url, request).await } }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass)).await });
    format!("http://{address}")
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [("Retry-After", "1")], r#"{"status": 503, "id": "no build", "finished_at": null}"#)
        .into_response()
}

async fn passed_on(url: String, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    let answer =
        crate::support::http().request(head.method, url).headers(head.headers).body(body).send().await.expect("an answer");
    (answer.status(), Body::from_stream(answer.bytes_stream())).into_response()
}

async fn every_pipelines_text_publishes(backend: Backend) {
    let service = service::start(backend).await;
    let page = read("docs/ci.md");
    let github = blocks(&page, "GitHub Actions", "yaml").pop().expect("a block");
    let gitlab = blocks(&page, "GitLab CI", "yaml").pop().expect("a block");
    let woodpecker = blocks(&page, "Woodpecker", "yaml").pop().expect("a block");
    let jenkins = blocks(&page, "Jenkins", "groovy").pop().expect("a block");
    let jenkins = jenkins.split("'''").nth(1).expect("its shell").to_owned();
    let scripts = [
        ("bash", scalar(&github), "GITHUB_SHA"),
        ("sh", scalar(&gitlab), "CI_COMMIT_SHORT_SHA"),
        ("sh", scalar(&woodpecker), "CI_COMMIT_SHA"),
        ("sh", jenkins, "BUILD_NUMBER"),
        ("sh", curl(), "TAG"),
    ];
    let (at, runner) = (folder(&[("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n")]), folder(&[]));
    let output = runner.path().join("output");
    let (client, sum) = (format!("file://{CLIENT}"), client_sha256());
    for (shell, script, tag) in scripts {
        let image = format!("{}/{}", registry(), unique("ci"));
        let more = [("IMAGE", image.as_str()), (tag, "the-tag"), ("CI_COMMIT_REF_SLUG", "main"), ("CI_REPO", "team/app")];
        let runners = [
            ("GITHUB_OUTPUT", text(&output)),
            ("RUNNER_TEMP", text(runner.path())),
            ("CLIENT", &client),
            ("CLIENT_SHA256", &sum),
        ];
        let done = job(&service, at.path(), (shell, &script), &[&more[..], &runners].concat()).well();
        let digest = tag_digest(&format!("{image}:the-tag"), None).await.unwrap_or_else(|| panic!("{tag}: {}", done.err));
        assert!(done.out.contains(&format!("{image}:the-tag@{digest}")), "{tag}: {}{}", done.out, done.err);
        assert!(!done.err.contains(&service.token) && !done.out.contains(&service.token));
        if tag == "GITHUB_SHA" {
            assert_eq!(std::fs::read_to_string(&output).expect("is there"), format!("digest={digest}\n"));
        }
    }
}

async fn a_job_without_the_client_fails_with_the_logs_tail(backend: Backend) {
    let service = service::start(backend).await;
    let image = format!("{}/{}", registry(), unique("ci"));
    let more = [("IMAGE", image.as_str()), ("TAG", "1")];
    let at = folder(&[("Dockerfile", "FROM busybox\nRUN echo the-reason; exit 5\n")]);
    let failed = job(&service, at.path(), ("sh", &curl()), &more);
    assert!(failed.code == 1 && failed.err.contains("the-reason") && failed.out.is_empty(), "{} {}", failed.code, failed.err);
    let at = folder(&[("Dockerfile", "RUNN\n")]);
    let refused = job(&service, at.path(), ("sh", &curl()), &more);
    assert!(refused.code == 1 && refused.err.contains("RUNN"), "{} {}", refused.code, refused.err);
    let at = folder(&[("Dockerfile", "FROM busybox\n")]);
    let nowhere = [("IMAGE", "127.0.0.1:9/nobody"), ("TAG", "1")];
    let unreachable = job(&service, at.path(), ("sh", &curl()), &nowhere);
    assert!(unreachable.code == 3 && unreachable.err.contains("127.0.0.1:9"), "{} {}", unreachable.code, unreachable.err);
}

async fn a_job_without_the_client_tries_again(backend: Backend) {
    let service = service::start(backend).await;
    let front = at_first_refused(&service).await;
    let image = format!("{}/{}", registry(), unique("ci"));
    let more = [("IMAGE", image.as_str()), ("TAG", "1"), ("DOCKWRIGHT_URL", &front)];
    let at = folder(&[("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n")]);
    let done = job(&service, at.path(), ("sh", &curl()), &more).well();
    let digest = tag_digest(&format!("{image}:1"), None).await.expect("published");
    assert_eq!(done.out, format!("{image}:1@{digest}\n"), "{}", done.err);
}

async fn a_job_that_is_cancelled_cancels_its_build(backend: Backend) {
    let service = service::start(backend).await;
    let image = format!("{}/{}", registry(), unique("ci"));
    let at = folder(&[("Dockerfile", &own("RUN echo it-runs && sleep 600\n"))]);
    let mut job = script(&service, at.path(), ("sh", &curl()), &[("IMAGE", &image), ("TAG", "1")]);
    let mut job = job.stdin(Stdio::null()).spawn().expect("the shell runs");
    let build = loop {
        let builds = service.get("/api/v1/builds").await;
        match builds["items"].get(0) {
            Some(build) => break build.clone(),
            None => assert!(job.try_wait().expect("a child").is_none(), "the job has ended"),
        }
    };
    service.logged(&build, "it-runs").await;
    let pid = Pid::from_child(&job);
    kill_process(pid, Signal::TERM).expect("the shell runs");
    let code = tokio::task::spawn_blocking(move || job.wait()).await.expect("waited").expect("ends").code();
    assert_eq!((code, &service.ended(&build).await["state"]), (Some(143), &Value::from("cancelled")));
}

async fn the_action_builds_and_tells_the_digest(backend: Backend) {
    let service = service::start(backend).await;
    let action = read(".github/actions/build/action.yml");
    let script = scalar(&action);
    assert!(!script.contains("${{"), "no input becomes a part of the script");
    let dockerfile = "FROM busybox AS wanted\nARG A\nARG B\nRUN test \"$A$B\" = 'a b$(touch x)'\n\
        RUN --mount=type=secret,id=npm test \"$(cat /run/secrets/npm)\" = 'a=canary word' && touch /seen\nFROM wanted\nRUN false\n";
    let at = folder(&[("sub/Dockerfile", dockerfile)]);
    let image = format!("{}/{}", registry(), unique("action"));
    let (output, tags) = (at.path().join("output"), format!("{image}:1\n{image}:2\n"));
    let (client, sum) = (format!("file://{CLIENT}"), client_sha256());
    let wrong = format!("{:0>64}", 1);
    let given = |sum, push, tags| {
        let given = [
            ("INPUT_CONTEXT", "sub"),
            ("INPUT_TAGS", tags),
            ("INPUT_BUILD_ARGS", "A=a \nB=b$(touch x)\n"),
            ("INPUT_SECRETS", "npm=a=canary word\n"),
            ("INPUT_TARGET", "wanted"),
            ("INPUT_PROJECT", "of-the-action"),
            ("INPUT_PUSH", push),
            ("INPUT_CLIENT_URL", &client),
            ("INPUT_CLIENT_SHA256", sum),
            ("GITHUB_OUTPUT", text(&output)),
        ];
        // What is not given comes as an empty text.
        let all = ["DOCKWRIGHT_CA_FILE", "INPUT_FILE", "INPUT_REGISTRIES", "INPUT_PLATFORM", "INPUT_CLIENT"];
        let empty = all.into_iter().map(|name| (name, ""));
        job(&service, at.path(), ("bash", &script), &empty.chain(given).collect::<Vec<_>>())
    };
    let other = given(&wrong, "true", &tags);
    assert!(other.code == 1 && other.err.contains("sha256sum"), "another client is not run: {}", other.err);
    assert_eq!(given(&sum, "maybe", &tags).code, 2);
    given(&sum, "true", &tags).well();
    let digest = tag_digest(&format!("{image}:2"), None).await.expect("published");
    let told = std::fs::read_to_string(&output).expect("is there");
    assert!(told.starts_with(&format!("digest={digest}\nid=01")), "{told}");
    assert!(!at.path().join("x").exists());
    assert_eq!(service.get("/api/v1/builds").await["items"][0]["options"]["project"], "of-the-action");
    let local = given(&sum, "false", "").well();
    assert!(local.out.starts_with("sha256:"), "built, not published: {}", local.out);
}

/// What a page or the action names with `${{ … }}`, after this word.
fn named<'a>(text: &'a str, after: &str) -> HashSet<&'a str> {
    let rest = text.split(after).skip(1);
    rest.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default()).collect()
}

#[test]
fn what_the_pages_and_the_action_name_is_there() {
    let (page, action) = (read("docs/ci.md"), read(".github/actions/build/action.yml"));
    let yaml = |text: &str| -> Value { serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")) };
    let github = blocks(&page, "GitHub Actions", "yaml");
    for headline in ["GitLab CI", "Woodpecker"] {
        blocks(&page, headline, "yaml").iter().for_each(|block| assert!(yaml(block).is_object()));
    }
    let parsed = yaml(&action);
    let keys = |value: &Value| -> HashSet<String> { value.as_object().expect("names").keys().cloned().collect() };
    let (inputs, outputs) = (keys(&parsed["inputs"]), keys(&parsed["outputs"]));
    assert_eq!(named(&action, "inputs."), inputs.iter().map(String::as_str).collect(), "each input is used, and no other");
    let steps = yaml(&github[0])["jobs"]["image"]["steps"].clone();
    let uses = steps.as_array().expect("steps").iter().find(|step| step["with"].is_object()).expect("the action's step");
    assert!(keys(&uses["with"]).is_subset(&inputs), "{uses}");
    let required = |input: &&String| parsed["inputs"][input.as_str()]["required"] == true;
    assert!(inputs.iter().filter(required).all(|input| uses["with"][input].is_string()), "{uses}");
    for block in &github {
        let wanted = named(block, "steps.image.outputs.");
        assert!(!wanted.is_empty() && wanted.iter().all(|name| outputs.contains(*name)), "{wanted:?}");
        let steps = yaml(block)["jobs"]["image"]["steps"].clone();
        assert!(steps.as_array().expect("steps").iter().any(|step| step["id"] == "image"), "{steps}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slim_image_needs_authorities_for_https_alone() {
    let service = service::start(Backend::Sqlite).await;
    let lists = |url: &str, ca: Option<&str>| {
        let mut command = dockwright(&["--url", url, "ps", "--builds"]);
        command.env("DOCKWRIGHT_TOKEN", &service.token).env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
        if let Some(file) = ca {
            command.env("DOCKWRIGHT_CA_FILE", file);
        }
        ended(command)
    };
    lists(&service.url(""), None).well();
    lists("https://127.0.0.1:9", None).refused("the package ca-certificates");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/cert.pem");
    let unheard = lists("https://127.0.0.1:9", Some(text(&own)));
    assert!(!unheard.err.contains("ca-certificates") && unheard.err.contains("127.0.0.1:9"), "{}", unheard.err);
}
