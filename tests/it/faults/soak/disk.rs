//! A disk that fills up, on a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::service::{context, dockerfile, tar};
use crate::support::{unique, watch};

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path()).status();
        assert!(mounted.expect("mount").success(), "mounting a small file system needs root");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room but `left` bytes.
    pub fn fill(&self, left: u64) -> Filler {
        let stat = rustix::fs::statvfs(self.path()).expect("a file system");
        let size = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
        let path = self.path().join("filler");
        let block = vec![1; 1 << 16];
        let mut file = std::fs::File::create(&path).expect("a file");
        let mut written = 0;
        while written < size {
            let most = usize::try_from((size - written).min(1 << 16)).expect("small");
            match std::io::Write::write(&mut file, &block[..most]) {
                Ok(some) => written += some as u64,
                Err(_) => break,
            }
        }
        Filler(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// The room comes back when it is dropped.
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn post(client: &Client, form: reqwest::multipart::Form) -> (u16, Value) {
    let answer = client.request(reqwest::Method::POST, "").multipart(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_what_comes_and_keeps_what_runs() {
    let disk = SmallDisk::mount("64m");
    let data = disk.path().join("data");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--workers", "1"];
    let mut process = Process::start_with(&arguments, &data, &[]);
    let client = Client::new(&tokio::task::block_in_place(|| process.address()), &data);
    let mark = unique("mark");
    let text = format!(
        "FROM busybox\nRUN echo {mark}-1 && sleep 4 && for i in $(seq 10000); do echo line $i of many that need some room on the disk of the service; done && echo {mark}-2\n"
    );
    let running = client.submit(dockerfile(&text).text("push", "false")).await;
    watch_log(&client, &running, &format!("{mark}-1")).await;

    // Below the floor (1 MiB in tests): what comes is refused, by name.
    let filler = disk.fill(700 << 10);
    let small = || dockerfile("FROM busybox\n").text("push", "false");
    for form in [small(), context(tar(&[("Dockerfile", "FROM busybox\n")])).text("push", "false")] {
        let (status, said) = post(&client, form).await;
        assert_eq!((status, &said["code"]), (507, &"storage_full".into()), "{said}");
    }
    let ready = client.outside("/readyz").await;
    assert_eq!((ready.0, &ready.1["checks"]["disk"]["ok"]), (503, &false.into()), "{}", ready.1);
    drop(filler);

    // A context that does not fit, though there was room when it began.
    let filler = disk.fill(6 << 20);
    let big = "x".repeat(12 << 20);
    let (status, said) =
        post(&client, context(tar(&[("Dockerfile", "FROM busybox\n"), ("big", &big)])).text("push", "false")).await;
    assert_eq!((status, &said["code"]), (507, &"storage_full".into()), "{said}");
    let incoming = data.join("incoming");
    watch("what had come of it is removed", || std::fs::read_dir(&incoming).is_ok_and(|left| left.count() == 0)).await;
    drop(filler);

    // Not a byte left, for longer than the lease, while the build's lines come.
    let filler = disk.fill(0);
    watch("the step ends", || !crate::options::runs(&mark)).await;
    drop(filler);
    let ended = client.ended_at_last(&running).await;
    let log = client.text(&format!("{running}/logs")).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "{ended}\n{log}");
    let lines = log.lines().filter(|line| line.starts_with("line ")).count();
    assert!(lines == 10_000 && log.contains(&format!("{mark}-2\n")), "{lines} lines");
    let after = client.submit(small()).await;
    assert_eq!(client.ended_at_last(&after).await["state"], "built", "it recovers by itself");
    for id in [&running, &after] {
        assert_eq!(client.delete(id).await["record"], "removed");
    }
}

async fn watch_log(client: &Client, id: &str, text: &str) {
    let mut log = client.request(reqwest::Method::GET, &format!("/{id}/logs?follow=true")).send().await.expect("a log");
    let mut seen = String::new();
    while !seen.lines().any(|line| line.starts_with(text)) {
        let chunk = log.chunk().await.expect("the log").unwrap_or_else(|| panic!("the log ended without {text:?}: {seen}"));
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
}
