//! Several processes on one queue, and what happens when one of them is lost.

use std::path::Path;
use std::time::Duration;

use reqwest::multipart::Form;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::service::{docker, dockerfile, tag_digest};
use crate::support::{redis_url, registry, unique};

/// Processes that share a Redis prefix and a data folder.
struct Cluster {
    data: tempfile::TempDir,
    prefix: String,
}

impl Cluster {
    fn new() -> Self {
        Self { data: tempfile::tempdir().expect("a folder"), prefix: unique("cluster") }
    }

    fn start(&self, role: &str) -> Process {
        let args = [
            "serve",
            "--store",
            &redis_url(),
            "--store-prefix",
            &self.prefix,
            "--role",
            role,
            "--listen",
            "127.0.0.1:0",
            "--lease",
            "2s",
            "--workers",
            "2",
        ];
        Process::start(&args, self.data.path())
    }

    fn client(&self, address: String) -> Client {
        Client { base: format!("http://{address}/api/v1/builds"), token: token(self.data.path()) }
    }
}

fn token(data: &Path) -> String {
    std::fs::read_to_string(data.join("admin-token")).expect("a token").trim().to_owned()
}

struct Client {
    base: String,
    token: String,
}

impl Client {
    async fn submit(&self, form: Form) -> String {
        let answer =
            crate::support::http().post(&self.base).bearer_auth(&self.token).multipart(form).send().await.expect("an answer");
        let build: Value = answer.json().await.expect("JSON");
        build["id"].as_str().unwrap_or_else(|| panic!("not accepted: {build}")).to_owned()
    }

    async fn get(&self, path: &str) -> Value {
        let asked =
            crate::support::http().get(format!("{}/{path}", self.base)).bearer_auth(&self.token).timeout(Duration::from_secs(70));
        asked.send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn ended(&self, id: &str) -> Value {
        self.get(&format!("{id}?wait=60")).await
    }

    /// Follows the log until it holds `text`.
    async fn logged(&self, id: &str, text: &str) {
        let asked = crate::support::http().get(format!("{}/{id}/logs?follow=true", self.base)).bearer_auth(&self.token);
        let mut log = asked.timeout(Duration::from_secs(60)).send().await.expect("a log");
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = log.chunk().await.expect("the log").unwrap_or_else(|| panic!("the log ended without {text:?}: {seen}"));
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apis_and_two_workers_share_one_queue_and_each_can_be_lost() {
    let cluster = Cluster::new();
    let mut first_api = cluster.start("api");
    let first = cluster.client(first_api.address());
    let mut second_api = cluster.start("api");
    let second = cluster.client(second_api.address());
    let workers = [cluster.start("worker"), cluster.start("worker")];
    let image = format!("{}/{}", registry(), unique("shared"));
    let mut ids = Vec::new();
    for index in 0..8 {
        let client = if index % 2 == 0 { &first } else { &second };
        ids.push(client.submit(dockerfile("FROM busybox\n").text("image", format!("{image}:{index}"))).await);
    }
    for id in &ids {
        assert_eq!(second.ended(id).await["state"], "published");
    }
    first_api.kill();
    let [lost, left] = workers;
    lost.kill();
    let id = second.submit(dockerfile("FROM busybox\n").text("image", format!("{image}:last"))).await;
    assert_eq!(second.ended(&id).await["state"], "published", "the others go on");
    left.signal("-TERM");
    assert!(left.wait().success(), "SIGTERM ends with 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_worker_is_killed_ends_published_once() {
    let cluster = Cluster::new();
    let mut api = cluster.start("api");
    let client = cluster.client(api.address());
    let mut doomed = cluster.start("worker");
    doomed.wait_for("the engine answers");
    let (mark, image) = (unique("mark"), format!("{}/{}:1", registry(), unique("killed")));
    let file = format!("FROM busybox\nRUN echo {mark} && sleep 3\nCMD [\"true\"]\n");
    let id = client.submit(dockerfile(&file).text("image", image.clone())).await;
    client.logged(&id, &format!("{mark}\n")).await;
    doomed.kill();
    let _saviour = cluster.start("worker");
    let ended = client.ended(&id).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"published".into(), &2.into()), "{ended}");
    assert_eq!(ended["destinations"][0]["digest"].as_str(), tag_digest(&image, None).await.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_runs_and_the_rest_waits_for_the_next_start() {
    let cluster = Cluster::new();
    let mut process = cluster.start("all");
    let client = cluster.client(process.address());
    let mark = unique("mark");
    let running = client.submit(dockerfile(&format!("FROM busybox\nRUN echo {mark} && sleep 2\n")).text("push", "false")).await;
    client.logged(&running, &format!("{mark}\n")).await;
    process.signal("-TERM");
    assert!(process.wait().success());
    let mut again = cluster.start("all");
    let client = cluster.client(again.address());
    let ended = client.get(&running).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "finished before the process ended: {ended}");
    docker(&["rmi", &format!("dockwright.local/build:{running}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_log_nobody_reads_any_more_builds_and_ends() {
    let data = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&["serve", "--listen", "127.0.0.1:0", "--log-level", "debug"], data.path());
    let client = Client { base: format!("http://{}/api/v1/builds", process.address()), token: token(data.path()) };
    process.unread();
    for _ in 0..3 {
        let id = client.submit(dockerfile("FROM busybox\n").text("push", "false")).await;
        let ended = client.ended(&id).await;
        assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "{ended}");
        docker(&["rmi", &format!("dockwright.local/build:{id}")]);
    }
    process.signal("-TERM");
    assert!(process.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_what_it_acknowledged_when_killed() {
    let data = tempfile::tempdir().expect("a folder");
    let start = || {
        Process::start(&["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--engine", "unix:///nowhere.sock"], data.path())
    };
    let mut process = start();
    let client = Client { base: format!("http://{}/api/v1/builds", process.address()), token: token(data.path()) };
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.submit(dockerfile("FROM busybox\n").text("push", "false")).await);
    }
    process.kill();
    let mut process = start();
    let client = Client { base: format!("http://{}/api/v1/builds", process.address()), token: token(data.path()) };
    for (position, id) in ids.iter().enumerate() {
        let build = client.get(id).await;
        assert_eq!((&build["state"], &build["queue"]["position"]), (&"queued".into(), &position.into()), "{build}");
    }
}
