//! What is left when a build ends, or is stopped.

use std::time::{Duration, Instant};

use dockwright::domain::{BuilderKind, LogStream, local_tag};
use dockwright::engine::{Builder, Images};
use tokio::sync::mpsc;

use super::{build, build_dockerfile, cli, context, docker, eventually, request};
use crate::support::unique;

fn containers_with(token: &str) -> String {
    cli(&["ps", "-a", "--no-trunc", "--format", "{{.Command}}"]).lines().filter(|line| line.contains(token)).collect()
}

/// Processes on this machine whose arguments hold the token.
fn processes_with(token: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(token.len()).any(|w| w == token.as_bytes())).count()
}

/// Whether an image without a name is left of a build whose Dockerfile held the token.
fn image_without_name_of(token: &str) -> bool {
    let all = cli(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    all.lines().any(|id| {
        // Those of other tests come and go meanwhile.
        let history = std::process::Command::new("docker").args(["history", "--no-trunc", id]).output();
        String::from_utf8_lossy(&history.expect("docker's command runs").stdout).contains(token)
    })
}

#[tokio::test]
async fn dropping_a_build_stops_it_within_a_second_and_leaves_nothing() {
    for builder in [BuilderKind::Buildkit, BuilderKind::Classic] {
        let token = unique("stop");
        let file = format!("FROM busybox\nRUN echo first-{token}\nRUN echo {token} && sleep 1000; : {token}\n");
        let asked = request(builder);
        let tag = local_tag(asked.id);
        let (lines, mut told) = mpsc::channel(64);
        let docker = docker();
        let mut running = Box::pin(docker.build(asked, context(&[("Dockerfile", &file)]), lines));
        let begun = async {
            while let Some(line) = told.recv().await {
                if line.stream == LogStream::Stdout && line.text == token {
                    return;
                }
            }
            panic!("the build ended before its step said anything");
        };
        tokio::select! {
            result = &mut running => panic!("{result:?}"),
            () = begun => {}
        }
        assert!(processes_with(&format!("sleep 1000; : {token}")) > 0);
        let dropped = Instant::now();
        drop(running);
        eventually(5, "the step's process is gone", || processes_with(&format!("sleep 1000; : {token}")) == 0).await;
        assert!(dropped.elapsed() < Duration::from_secs(1), "{builder:?}: {:?}", dropped.elapsed());
        eventually(5, "its container is gone", || containers_with(&token).is_empty()).await;
        eventually(10, "its images are gone", || !image_without_name_of(&token)).await;
        assert_eq!(docker.image_id(&tag).await.expect("answers"), None);
    }
}

#[tokio::test]
async fn a_failed_classic_build_leaves_no_image_without_a_name() {
    let token = unique("fail");
    let done = build_dockerfile(
        BuilderKind::Classic,
        &format!(
            "FROM busybox AS one\nRUN echo one-{token} > /x\nFROM busybox\nCOPY --from=one /x /x\nRUN echo {token}\nRUN exit 3\n"
        ),
    )
    .await;
    assert_eq!(done.error().code, "step_failed");
    eventually(10, "no image of it is left", || !image_without_name_of(&token)).await;
    assert_eq!(containers_with(&token), "");
}

#[tokio::test]
async fn builds_leak_neither_descriptors_nor_goroutines() {
    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("Linux").count()
    }
    fn goroutines() -> i64 {
        cli(&["info", "-f", "{{.NGoroutines}}"]).parse().expect("a number")
    }
    let file = format!("FROM busybox\nRUN echo {}\n", unique("leak"));
    build_dockerfile(BuilderKind::Buildkit, &file).await.clean_up().await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (descriptors_before, goroutines_before) = (descriptors(), goroutines());
    for _ in 0..30 {
        build_dockerfile(BuilderKind::Buildkit, &file).await.clean_up().await;
    }
    // Thirty leaks would show as thirty or more; other tests use the engine meanwhile.
    eventually(10, "descriptors are given back", || descriptors() < descriptors_before + 10).await;
    eventually(60, "the engine's goroutines end", || goroutines() < goroutines_before + 30).await;
    let now = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(now < tasks + 10, "{tasks} tasks before, {now} after");
}

#[tokio::test]
async fn a_large_context_costs_no_memory() {
    const CHUNK: usize = 1024 * 1024;
    const CHUNKS: u64 = 256;
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
    let mut file = tar::Header::new_gnu();
    file.set_path("big").expect("short");
    file.set_size(CHUNKS * CHUNK as u64);
    file.set_mode(0o644);
    file.set_cksum();
    let text = b"FROM busybox\nCOPY Dockerfile /\n";
    let mut dockerfile = tar::Header::new_gnu();
    dockerfile.set_path("Dockerfile").expect("short");
    dockerfile.set_size(text.len() as u64);
    dockerfile.set_mode(0o644);
    dockerfile.set_cksum();
    let mut head = dockerfile.as_bytes().to_vec();
    head.extend_from_slice(text);
    head.resize(1024, 0);
    head.extend_from_slice(file.as_bytes());
    let peak = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = std::sync::Arc::clone(&peak);
    let body = (0..CHUNKS).map(move |_| {
        seen.fetch_max(resident_kib(), std::sync::atomic::Ordering::Relaxed);
        Ok(bytes::Bytes::from(vec![0_u8; CHUNK]))
    });
    let end = [Ok(bytes::Bytes::from(vec![0_u8; 1024]))];
    let stream = futures::stream::iter(std::iter::once(Ok(bytes::Bytes::from(head))).chain(body).chain(end));
    let (lines, mut told) = mpsc::channel(64);
    let asked = request(BuilderKind::Buildkit);
    let tag = local_tag(asked.id);
    let before = resident_kib();
    let docker = docker();
    let (built, ()) = tokio::join!(docker.build(asked, Box::pin(stream), lines), async { while told.recv().await.is_some() {} });
    built.expect("builds");
    let grown = peak.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(before);
    // Other tests of this process allocate too; a body kept in memory would be 256 MiB.
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
    docker.untag(&tag).await.expect("goes");
}

#[tokio::test]
async fn a_context_that_breaks_off_ends_the_build() {
    let broken = futures::stream::iter([Ok(bytes::Bytes::from(vec![b'x'; 512])), Err(std::io::Error::other("the disk is gone"))]);
    let (lines, _told) = mpsc::channel(64);
    let error = docker().build(request(BuilderKind::Buildkit), Box::pin(broken), lines).await.expect_err("fails");
    assert_eq!(error.code, "context_unreadable", "{error:?}");
    assert!(error.message.contains("the disk is gone"), "{error:?}");
}

#[tokio::test]
async fn a_second_attempt_of_a_build_leaves_no_image_of_the_first() {
    let token = unique("again");
    let mut first = request(BuilderKind::Buildkit);
    let id = first.id;
    first.no_cache = true;
    build(first, &[("Dockerfile", &format!("FROM busybox\nRUN echo {token}-1 > /x\n"))]).await.image();
    let mut second = request(BuilderKind::Buildkit);
    second.id = id;
    let done = build(second, &[("Dockerfile", &format!("FROM busybox\nRUN echo {token}-2 > /x\n"))]).await;
    done.image();
    assert!(!image_without_name_of(&token));
    done.clean_up().await;
}
