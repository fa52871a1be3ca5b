//! A secret and a key are looked for in every place that there is, while their build runs and after it.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::secret;
use crate::accounts::canaries::everything;
use crate::credentials::{assert_not_in_folder, assert_nowhere, forms, is_in, is_in_folder};
use crate::hooks::receiver::Receiver;
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::service::{docker, dockerfile};
use crate::support::{registry, seen, unique, watch};
use crate::uploads::pieces;

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
        form.part("ssh.default", Part::bytes(self.key.clone().into_bytes()))
    }
}

/// Steps that use the secrets, print them, and leave a layer with a mark behind.
fn steps(last: &str, mark: &str) -> String {
    format!(
        "FROM busybox\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=lines cat /run/secrets/token /run/secrets/lines && \
         base64 /run/secrets/token && md5sum /run/secrets/* >/sums && : {}\n\
         RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo {mark} | tee /own\n\
         RUN --mount=type=secret,id=token {last}\n",
        unique("own")
    )
}

/// Every layer of a build's image, its configuration and history.
fn assert_not_in_image(all: &[String], mark: &str, build: &str, folder: &Path) {
    let image = format!("dockwright.local/build:{build}");
    let (tar, layers) = (folder.join("image.tar"), folder.join("image"));
    std::fs::create_dir(&layers).expect("a folder");
    docker(&["save", "-o", &tar.to_string_lossy(), &image]);
    tar::Archive::new(std::fs::File::open(&tar).expect("saved")).unpack(&layers).expect("a tar");
    assert!(assert_not_in_folder(all, &layers) > 3, "layers and configuration");
    assert!(is_in_folder(mark, &layers), "what is in a layer is found");
    std::fs::remove_dir_all(&layers).expect("there");
    std::fs::remove_file(&tar).expect("there");
    let told = docker(&["history", "--no-trunc", &image]) + &docker(&["image", "inspect", &image]);
    assert!(told.contains("sha256:"), "{told}");
    assert_nowhere(all, told.as_bytes(), "the image's history");
}

/// What the engine's cache says of itself, and its databases.
async fn assert_not_in_cache(all: &[String], mark: &str) {
    // An engine that counts for somebody refuses to count for another at the same time.
    let tells =
        async || Some(docker(&["system", "df", "-v", "--format", "{{json .BuildCache}}"])).filter(|told| !told.is_empty());
    let told = seen("the engine tells what it has cached", tells).await;
    assert!(told.contains(mark), "the steps are in the cache");
    assert_nowhere(all, told.as_bytes(), "the engine's cache");
    let root = docker(&["info", "-f", "{{.DockerRootDir}}"]);
    let databases = ["metadata_v2.db", "cache.db", "snapshots.db", "metadata.db", "history.db"];
    let read = databases.iter().filter_map(|name| std::fs::read(Path::new(&root).join("buildkit").join(name)).ok());
    let looked_at = read.map(|bytes| assert_nowhere(all, &bytes, "a database of BuildKit")).count();
    assert!(looked_at > 0, "none of BuildKit's databases in {root} can be read: run this as whoever can");
}

/// The manifest of what was published, its configuration and layers, as they come from the registry.
async fn assert_not_at_registry(all: &[String], mark: &str, image: &str) {
    let (host, path) = image.split_once('/').expect("a host");
    let (path, tag) = path.rsplit_once(':').expect("a tag");
    let get = async |what: String| {
        let request = crate::support::http().get(format!("http://{host}/v2/{path}/{what}"));
        let answer = request.header("accept", "application/vnd.docker.distribution.manifest.v2+json").send().await;
        answer.and_then(reqwest::Response::error_for_status).expect("an answer").bytes().await.expect("bytes")
    };
    let manifest: Value = serde_json::from_slice(&get(format!("manifests/{tag}")).await).expect("JSON");
    let blobs: Vec<&Value> = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]).collect();
    let mut marked = 0;
    for blob in blobs {
        let bytes = get(format!("blobs/{}", blob["digest"].as_str().expect("a digest"))).await;
        assert_nowhere(all, &bytes, "a published blob");
        marked += usize::from(is_in(mark, &bytes));
    }
    assert!(marked > 1, "what is in a layer and in the configuration is found");
}

async fn assert_not_told(all: &[String], client: &Client, build: &str) {
    for place in ["", "/logs", "/dockerfile", "/steps", "/logs?step=1"] {
        assert_nowhere(all, client.text(&format!("{build}{place}")).await.as_bytes(), place);
    }
    let events = client.request(Method::GET, &format!("/{build}/logs")).header("accept", "text/event-stream").send().await;
    assert_nowhere(all, events.expect("an answer").text().await.expect("text").as_bytes(), "the events");
}

/// All that the events of everything tell, as it comes.
async fn overheard(client: &Client) -> Arc<Mutex<Vec<u8>>> {
    let mut events = client.request(Method::GET, "/../events").send().await.expect("an answer");
    assert!(events.status().is_success());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok(Some(chunk)) = events.chunk().await {
            notes.lock().expect("not poisoned").extend_from_slice(&chunk);
        }
    });
    heard
}

/// What was told of the builds beside them: events and webhooks.
async fn assert_not_overheard(all: &[String], client: &Client, builds: &[String], events: &Mutex<Vec<u8>>, receiver: &Receiver) {
    let told = |build: &String| receiver.heard().iter().any(|heard| heard.body.contains(build.as_str()));
    watch("the webhook was told of every build", || builds.iter().all(told)).await;
    for heard in receiver.heard() {
        assert_nowhere(all, format!("{}{}", heard.head, heard.body).as_bytes(), "what a webhook was told");
    }
    let hooks: Value = serde_json::from_str(&client.text("../webhooks").await).expect("JSON");
    let hook = hooks["items"][0]["id"].as_str().unwrap_or_else(|| panic!("no webhook: {hooks}"));
    let deliveries = client.text(&format!("../webhooks/{hook}/deliveries")).await;
    assert!(deliveries.contains(&builds[0]), "{deliveries}");
    assert_nowhere(all, deliveries.as_bytes(), "the deliveries");
    let events = events.lock().expect("not poisoned");
    assert!(builds.iter().all(|build| is_in(build, &events)), "events of every build");
    assert_nowhere(all, &events, "the events of everything");
}

/// A context in pieces: a blob of its own lies in the folder.
async fn in_pieces(client: &Client, text: &str) -> Form {
    let declared = client.request(Method::POST, "/../contexts").header("content-type", "application/x-ndjson");
    let declared = declared.body(pieces::manifest(&[("Dockerfile", text.as_bytes())])).send().await.expect("an answer");
    let manifest: Value = declared.json().await.expect("JSON");
    let path = format!("/../contexts/{}/blobs", manifest["id"].as_str().unwrap_or_else(|| panic!("refused: {manifest}")));
    let given = client.request(Method::POST, &path).body(pieces::blobs(&[text.as_bytes()])).send().await;
    assert!(given.expect("an answer").status().is_success());
    Form::new().text("manifest", manifest["id"].as_str().expect("an id").to_owned())
}

/// Sends a build twice with one key, so that the second answer is the first, as it was kept; reads along until its step waits.
async fn waiting(client: &Client, canaries: &Canaries, text: &str) -> String {
    let (key, mut running) = (unique("key"), String::new());
    for replayed in [false, true] {
        let form = canaries.add_to(dockerfile(text)).text("push", "false");
        let sent = client.request(Method::POST, "").header("idempotency-key", &key).multipart(form);
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.headers().contains_key("idempotent-replayed"), replayed);
        let build: Value = answer.json().await.expect("JSON");
        running = build["id"].as_str().unwrap_or_else(|| panic!("not accepted: {build}")).to_owned();
    }
    let mut log = client.request(Method::GET, &format!("/{running}/logs?follow=true")).send().await.expect("a log");
    let mut seen = String::new();
    while !seen.contains("\nwaiting") {
        let chunk = log.chunk().await.expect("the log").unwrap_or_else(|| panic!("the log ended: {seen}"));
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains("[redacted]"), "{seen}");
    running
}

async fn leave_no_trace(store: &[&str], redis: Option<&RedisServer>) {
    let (data, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (canaries, mark, receiver) = (Canaries::new(folder.path()), unique("mark"), Receiver::willing().await);
    let all = &canaries.forms;
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--keep-hot-log", "1s"];
    args.extend(["--allow-egress", "127.0.0.1"]);
    args.extend(store);
    let mut process = Process::start(&args, data.path());
    let client = Client::new(&tokio::task::block_in_place(|| process.address()), data.path());
    let hook = client.request(Method::POST, "/../webhooks").json(&json!({"url": receiver.url()})).send().await;
    assert!(hook.expect("an answer").status().is_success());
    let events = overheard(&client).await;
    let stored = || {
        assert!(assert_not_in_folder(all, data.path()) > 1);
        assert!(is_in_folder(&mark, data.path()) || redis.is_some(), "what is stored is found");
        if let Some(redis) = redis {
            let kept = everything(&redis.url());
            assert!(is_in(&mark, &kept), "what is stored is found");
            assert_nowhere(all, &kept, "a key of Redis");
            // Its append-only file has every write that there ever was.
            assert!(assert_not_in_folder(all, redis.dir()) > 1);
            assert!(is_in_folder(&mark, redis.dir()), "what was written is found");
        }
    };
    let running = waiting(&client, &canaries, &steps("echo waiting && sleep 600", &mark)).await;
    stored();
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", process.pid())).expect("a command line");
    assert_nowhere(all, &cmdline, "the process's arguments");
    client.request(Method::POST, &format!("/{running}/cancel")).send().await.expect("an answer");
    assert_eq!(client.ended(&running).await["state"], "cancelled");
    assert_not_in_cache(all, &mark).await;
    let mut builds = vec![running];
    // One that ends well, one that is published, and one whose step fails with the secret in its words.
    let image = format!("{}/{}:1", registry(), unique("canary"));
    for (last, state) in [("true", "built"), ("echo published", "published"), ("cat /run/secrets/token && exit 3", "failed")] {
        let text = steps(last, &mark);
        let form = if state == "built" { in_pieces(&client, &text).await } else { dockerfile(&text) };
        let push = (state == "published").to_string();
        let build = client.submit(canaries.add_to(form).text("image", image.clone()).text("push", push)).await;
        let ended = client.ended(&build).await;
        assert_eq!(ended["state"], state, "{ended}");
        match state {
            "built" => assert_not_in_image(all, &mark, &build, folder.path()),
            "published" => assert_not_at_registry(all, &mark, &image).await,
            _ => {}
        }
        assert_not_in_cache(all, &mark).await;
        assert_not_told(all, &client, &build).await;
        builds.push(build);
    }
    assert!(is_in_folder(&mark, &data.path().join("blobs")), "the context in pieces is here");
    let archived = |build: &String| data.path().join("logs").join(format!("{build}.zst")).exists();
    watch("every log is archived", || builds.iter().all(archived)).await;
    assert!(is_in_folder(&mark, &data.path().join("logs")), "what is in a log is found");
    stored();
    assert_not_overheard(all, &client, &builds, &events, &receiver).await;
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
