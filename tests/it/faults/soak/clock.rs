//! A wall clock that is wrong by a day, and jumps: leases do not go by it. The clock is libfaketime's, inside our own binary.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::process::Process;
use crate::support::service::{docker, dockerfile};
use crate::support::unique;

/// Short, but longer than a busy disk takes over one write: a lease that is lost to that says nothing of clocks.
const SHORT: [&str; 4] = ["--lease", "4s", "--workers", "1"];

fn library() -> PathBuf {
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|name| Path::new("/usr/lib").join(name));
    let found = folders.iter().map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is installed (scripts/test does it)")
}

/// A wall clock that tests set, by a file that is read at every look at it. What counts on (and not what is the time) is left alone,
/// as it is when a clock is set.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    fn new(offset: &str) -> Self {
        let clock = Self(tempfile::NamedTempFile::new().expect("a file"));
        clock.set(offset);
        clock
    }

    fn set(&self, offset: &str) {
        std::fs::write(self.0.path(), offset).expect("written");
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.path().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Whole hours between a build's acceptance, by the service's clock, and now.
fn hours_off(build: &Value) -> i64 {
    let told: jiff::Timestamp = build["created_at"].as_str().expect("a time").parse().expect("a time");
    let seconds = told.as_second() - jiff::Timestamp::now().as_second();
    (seconds + seconds.signum() * 1800) / 3600
}

/// Jumps a day ahead and two back while a build runs for several leases.
async fn jumps(client: &Client, clock: &Clock) {
    let mark = unique("mark");
    let text = format!("FROM busybox\nRUN echo {mark} && sleep 16 && true\n");
    let id = client.submit(dockerfile(&text).text("push", "false")).await;
    crate::support::watch("the step runs", || crate::options::runs(&mark)).await;
    for (offset, hours) in [("+1d", 24), ("-1d", -24)] {
        clock.set(offset);
        let other = client.submit(dockerfile("FROM busybox\n").text("push", "false")).await;
        assert_eq!(hours_off(&client.get(&other).await), hours, "the service's clock has jumped");
        assert_eq!(client.request(reqwest::Method::DELETE, &format!("/{other}")).send().await.expect("an answer").status(), 200);
        assert_eq!(client.moves(&id, 6).await, None, "nobody took the lease away at {offset}");
        let build = client.get(&id).await;
        assert_eq!(build["attempt"], 1, "at {offset}: {build}");
    }
    let ended = client.ended_at_last(&id).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "{ended}");
    docker(&["rmi", &format!("dockwright.local/build:{id}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_jumps_a_day_leaves_leases_alone() {
    let (clock, data) = (Clock::new("+0"), tempfile::tempdir().expect("a folder"));
    let environment = clock.environment();
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], &SHORT[..]].concat();
    let mut process = Process::start_with(&arguments, data.path(), &borrowed(&environment));
    let client = Client::new(&tokio::task::block_in_place(|| process.address()), data.path());
    jumps(&client, &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_are_days_apart_share_leases() {
    let (cluster, ahead, behind) = (Cluster::new(), Clock::new("+1d"), Clock::new("-1d"));
    let mut api = cluster.start_with("api", &SHORT, &borrowed(&ahead.environment()));
    let client = cluster.client(&mut api);
    let doomed = cluster.start_with("worker", &SHORT, &borrowed(&behind.environment()));
    let mark = unique("mark");
    let text = format!("FROM busybox\nRUN echo {mark} && sleep 12 && true\n");
    let id = client.submit(dockerfile(&text).text("push", "false")).await;
    crate::support::watch("the step runs", || crate::options::runs(&mark)).await;
    // The api's janitor, two days ahead, does not think the worker dead; when it is, it is known as soon as ever.
    assert_eq!(client.moves(&id, 6).await, None);
    assert_eq!(client.get(&id).await["attempt"], 1);
    doomed.kill();
    let killed = std::time::Instant::now();
    let _saviour = cluster.start_with("worker", &SHORT, &borrowed(&behind.environment()));
    let mut build = client.get(&id).await;
    while build["attempt"] != 2 {
        assert!(killed.elapsed().as_secs() < 10, "reclaimed within 10 s of its lease: {build}");
        build = client.moves(&id, 1).await.unwrap_or(client.get(&id).await);
    }
    let ended = client.ended_at_last(&id).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &2.into()), "{ended}");
    docker(&["rmi", &format!("dockwright.local/build:{id}")]);
}
