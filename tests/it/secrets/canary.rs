//! A secret and a key are looked for in every place that there is, while their build runs and after it.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use reqwest::multipart::{Form, Part};

use super::secret;
use crate::accounts::canaries::everything;
use crate::credentials::{assert_not_in_folder, assert_nowhere, forms};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::service::{docker, dockerfile};
use crate::support::unique;

/// What is sent, and every form in which it could lie somewhere.
struct Canaries {
    token: String,
    lines: String,
    key: String,
    forms: Vec<String>,
}

impl Canaries {
    fn new(folder: &Path) -> Self {
        let file = folder.join("key");
        let mut make = Command::new("ssh-keygen");
        let made = make.args(["-q", "-t", "ed25519", "-N", "", "-C", "canary@test", "-f"]).arg(&file).status();
        assert!(made.expect("ssh-keygen; install openssh-client").success());
        let key = std::fs::read_to_string(&file).expect("a key");
        let (token, line) = (unique("Canary"), unique("Line"));
        let lines = format!("user=ada\npassword={line}\n");
        let mut forms: Vec<String> = [&token, &line].iter().flat_map(|one| forms("x", one)).collect();
        // Its first lines have the public half, which may be told.
        forms.extend(key.lines().skip(3).filter(|line| line.len() > 20).map(str::to_owned));
        assert!(forms.len() > 10);
        Self { token, lines, key, forms }
    }

    fn add_to(&self, form: Form) -> Form {
        let form = secret(secret(form, "token", self.token.clone()), "lines", self.lines.clone());
        form.part("ssh.default", Part::bytes(self.key.clone().into_bytes())).text("push", "false")
    }
}

/// Steps that use the secrets, print them, and leave a layer behind.
fn steps(last: &str) -> String {
    format!(
        "FROM busybox\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=lines cat /run/secrets/token /run/secrets/lines && \
         base64 /run/secrets/token && md5sum /run/secrets/* >/sums\n\
         RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo {} >/own\n\
         RUN --mount=type=secret,id=token {last}\n",
        unique("own")
    )
}

/// Every layer of a build's image, its configuration and history, and what the engine's cache says of itself.
fn assert_not_on_engine(all: &[String], build: &str, folder: &Path) {
    let image = format!("dockwright.local/build:{build}");
    let (tar, layers) = (folder.join("image.tar"), folder.join("image"));
    std::fs::create_dir(&layers).expect("a folder");
    docker(&["save", "-o", &tar.to_string_lossy(), &image]);
    tar::Archive::new(std::fs::File::open(&tar).expect("saved")).unpack(&layers).expect("a tar");
    assert!(assert_not_in_folder(all, &layers) > 3, "layers and configuration");
    std::fs::remove_dir_all(&layers).expect("there");
    std::fs::remove_file(&tar).expect("there");
    let told = docker(&["history", "--no-trunc", &image]) + &docker(&["image", "inspect", &image]);
    assert!(told.contains("sha256:"), "{told}");
    assert_nowhere(all, told.as_bytes(), "the image's history");
    assert_nowhere(all, docker(&["system", "df", "-v", "--format", "{{json .BuildCache}}"]).as_bytes(), "the engine's cache");
    let root = docker(&["info", "-f", "{{.DockerRootDir}}"]);
    for file in ["buildkit/metadata_v2.db", "buildkit/cache.db", "buildkit/snapshots.db", "buildkit/metadata.db"] {
        if let Ok(bytes) = std::fs::read(Path::new(&root).join(file)) {
            assert_nowhere(all, &bytes, file);
        }
    }
}

async fn assert_not_told(all: &[String], client: &Client, build: &str) {
    for place in ["", "/logs", "/dockerfile"] {
        assert_nowhere(all, client.text(&format!("{build}{place}")).await.as_bytes(), place);
    }
    let events = client.request(Method::GET, &format!("/{build}/logs")).header("accept", "text/event-stream").send().await;
    assert_nowhere(all, events.expect("an answer").text().await.expect("text").as_bytes(), "the events");
}

async fn leave_no_trace(store: &[&str], redis: Option<&RedisServer>) {
    let (data, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let canaries = Canaries::new(folder.path());
    let all = &canaries.forms;
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--keep-hot-log", "1h"];
    args.extend(store);
    let mut process = Process::start(&args, data.path());
    let client = Client::new(&tokio::task::block_in_place(|| process.address()), data.path());
    let stored = || {
        assert!(assert_not_in_folder(all, data.path()) > 1);
        if let Some(redis) = redis {
            assert_nowhere(all, &everything(&redis.url()), "a key of Redis");
            // Its append-only file has every write that there ever was.
            assert!(assert_not_in_folder(all, redis.dir()) > 1);
        }
    };
    // Twice with one key: the second answer is the first, as it was kept.
    let (key, text) = (unique("key"), steps("echo waiting && sleep 600"));
    let mut running = String::new();
    for replayed in [false, true] {
        let sent = client.request(Method::POST, "").header("idempotency-key", &key).multipart(canaries.add_to(dockerfile(&text)));
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.headers().contains_key("idempotent-replayed"), replayed);
        let build: serde_json::Value = answer.json().await.expect("JSON");
        running = build["id"].as_str().unwrap_or_else(|| panic!("not accepted: {build}")).to_owned();
    }
    let mut builds = vec![running.clone()];
    let mut log = client.request(Method::GET, &format!("/{running}/logs?follow=true")).send().await.expect("a log");
    let mut seen = String::new();
    while !seen.contains("\nwaiting") {
        let chunk = log.chunk().await.expect("the log").unwrap_or_else(|| panic!("the log ended: {seen}"));
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains("[redacted]"), "{seen}");
    stored();
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", process.pid())).expect("a command line");
    assert_nowhere(all, &cmdline, "the process's arguments");
    client.request(Method::POST, &format!("/{running}/cancel")).send().await.expect("an answer");
    assert_eq!(client.ended(&running).await["state"], "cancelled");
    // One that ends well, and one whose step fails with the secret in its words.
    for (last, state) in [("true", "built"), ("cat /run/secrets/token && exit 3", "failed")] {
        let build = client.submit(canaries.add_to(dockerfile(&steps(last)))).await;
        let ended = client.ended(&build).await;
        assert_eq!(ended["state"], state, "{ended}");
        if state == "built" {
            assert_not_on_engine(all, &build, folder.path());
        }
        assert_not_told(all, &client, &build).await;
        builds.push(build);
    }
    stored();
    for build in &builds {
        client.delete(build).await;
    }
    let log = process.ended_log();
    assert!(log.lines().count() > 50, "a log that tells everything");
    assert_nowhere(all, log.as_bytes(), "the service's log");
    // Now that nothing is left in its journal.
    assert_not_in_folder(all, data.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_keys_are_found_nowhere_with_the_embedded_store() {
    leave_no_trace(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_keys_are_found_nowhere_with_redis() {
    let redis = RedisServer::start().await;
    leave_no_trace(&["--store", &redis.url()], Some(&redis)).await;
}
