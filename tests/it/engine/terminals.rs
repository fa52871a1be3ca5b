//! Processes in a container, with a terminal and without.

use std::time::{Duration, Instant};

use dockwright::engine::containers::{Containers, Exec, ExecRequest, Terminals};
use dockwright::engine::docker::Docker;
use dockwright::engine::frames::{FrameReader, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::own::Own;
use super::{cli, eventually};
use crate::support::gate::Gate;
use crate::support::{seen, unique};

fn request(command: &[&str], tty: bool) -> ExecRequest {
    let command = command.iter().map(|part| (*part).to_owned()).collect();
    ExecRequest { command, user: None, tty, size: None }
}

/// Reads until it has seen this; all that came.
async fn until(exec: &mut Exec, wanted: &str) -> String {
    let mut seen = Vec::new();
    let reads = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            assert_ne!(exec.output.read_buf(&mut seen).await.expect("reads"), 0, "ended: {:?}", String::from_utf8_lossy(&seen));
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reads).await.is_ok();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(in_time, "never {wanted:?}: {seen:?}");
    seen
}

async fn code(docker: &Docker, exec: &str) -> i64 {
    seen("it ends", async || docker.exit_code(exec).await.expect("answers")).await
}

/// How many processes of the container have this in their arguments.
fn processes(id: &str, token: &str) -> usize {
    cli(&["top", id, "-eo", "pid,args"]).lines().filter(|line| line.contains(token)).count()
}

#[tokio::test]
async fn the_first_bytes_pass_whatever_they_are() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let script = r"stty raw -echo; printf '\000\001\002\003ready'; head -c 6 | od -An -tx1";
    let mut exec = own.docker.exec(&id, &request(&["sh", "-c", script], true)).await.expect("starts");
    let mut first = [0; 9];
    exec.output.read_exact(&mut first).await.expect("reads");
    assert_eq!(&first, b"\x00\x01\x02\x03ready");
    exec.input.write_all(b"\x02\x01\x00\xff\x03\x04").await.expect("writes");
    let seen = until(&mut exec, "04").await;
    assert!(seen.contains("02 01 00 ff 03 04"), "{seen:?}");
    assert_eq!(code(&own.docker, &exec.id).await, 0);
}

#[tokio::test]
async fn a_megabyte_goes_in_and_comes_back() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let mut exec =
        own.docker.exec(&id, &request(&["sh", "-c", "stty raw -echo; echo ready; exec cat"], true)).await.expect("starts");
    until(&mut exec, "ready").await;
    // All bytes there are, Docker's own keys for leaving a terminal (Ctrl-P, Ctrl-Q) among them.
    let sent: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 256) as u8).collect();
    let Exec { id: name, output, mut input } = exec;
    let copy = sent.clone();
    let write = tokio::spawn(async move {
        input.write_all(&copy).await.expect("writes");
        input.flush().await.expect("writes");
        input
    });
    let mut back = Vec::new();
    let mut output = output.take(sent.len() as u64 + 1);
    // The newline of "ready" may come late.
    while back.len() < sent.len() + usize::from(back.first() == Some(&b'\n')) {
        let read = tokio::time::timeout(Duration::from_secs(20), output.read_buf(&mut back)).await.expect("goes on");
        assert_ne!(read.expect("reads"), 0, "{} {:?} {:?}", back.len(), &back[..10], &back[back.len() - 10..]);
    }
    let back = back.strip_prefix(b"\n").unwrap_or(&back);
    assert!(back == &sent[..], "{} of {} bytes", back.len(), sent.len());
    drop(write.await.expect("writes"));
    own.docker.end(&id, &name).await.expect("ends");
}

#[tokio::test]
async fn a_size_is_seen_at_once_and_when_it_changes() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let mut asked = request(&["sh"], true);
    asked.size = Some((97, 41));
    let mut exec = own.docker.exec(&id, &asked).await.expect("starts");
    exec.input.write_all(b"stty size\n").await.expect("writes");
    until(&mut exec, "41 97").await;
    own.docker.resize(&exec.id, 123, 45).await.expect("resizes");
    exec.input.write_all(b"stty size\n").await.expect("writes");
    until(&mut exec, "45 123").await;
    exec.input.write_all(b"exit 9\n").await.expect("writes");
    assert_eq!(code(&own.docker, &exec.id).await, 9);
    own.docker.resize(&exec.id, 1, 1).await.expect("what has ended has no size");
}

#[tokio::test]
async fn without_a_terminal_the_outputs_are_apart() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let asked = ExecRequest { user: Some("7".into()), ..request(&["sh", "-c", "id -u; cat; echo err >&2; exit 3"], false) };
    let mut exec = own.docker.exec(&id, &asked).await.expect("starts");
    exec.input.write_all(b"\x01\x00\x02in").await.expect("writes");
    exec.input.shutdown().await.expect("closes");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut frames = FrameReader::new(exec.output);
    while let Some(piece) = frames.next().await.expect("frames") {
        if piece.source == Source::Stderr { &mut err } else { &mut out }.extend_from_slice(&piece.bytes);
    }
    assert_eq!((&out[..], &err[..]), (&b"7\n\x01\x00\x02in"[..], &b"err\n"[..]));
    assert_eq!(code(&own.docker, &exec.id).await, 3);
    own.docker.end(&id, &exec.id).await.expect("has ended");
}

#[tokio::test]
async fn it_has_no_more_rights_than_its_container() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let mut exec = own
        .docker
        .exec(&id, &request(&["sh", "-c", "grep -E 'CapBnd|NoNewPrivs' /proc/self/status; echo end"], true))
        .await
        .expect("starts");
    let seen = until(&mut exec, "end").await;
    assert!(seen.contains("00000000000004eb") && seen.contains("NoNewPrivs:\t1"), "{seen:?}");
}

#[tokio::test]
async fn what_cannot_be_executed_is_told() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let asked = ExecRequest { size: Some((80, 24)), ..request(&["no-such-shell"], true) };
    let began = Instant::now();
    let mut exec = own.docker.exec(&id, &asked).await.expect("the engine tells it on the terminal");
    assert!(began.elapsed() < Duration::from_secs(5), "one tries the next shell: {:?}", began.elapsed());
    until(&mut exec, "executable file not found").await;
    assert!(matches!(code(&own.docker, &exec.id).await, 126 | 127));
    own.docker.kill(&id, "SIGKILL").await.expect("ends");
    own.ended(&id).await;
    let error = own.docker.exec(&id, &request(&["sh"], true)).await.err().expect("does not run");
    assert_eq!(error.code, "container_not_running", "{error:?}");
    let error = own.docker.exec(&own.token, &request(&["sh"], true)).await.err().expect("is not there");
    assert_eq!(error.code, "container_not_found", "{error:?}");
}

/// Starts a shell in a terminal that has started others in every way, and whose connection is then dropped.
async fn abandoned(docker: &Docker, id: &str, token: &str) -> String {
    let script = format!(
        "trap '' HUP; sh -c 'sleep 1001; : {token}' & setsid sh -c 'sleep 1002; : {token}' & env -i sh -c 'sleep 1003; : {token}' & \
         echo up-{token}; while :; do sleep 1; done; : {token}"
    );
    let mut exec = docker.exec(id, &request(&["sh", "-c", &script], true)).await.expect("starts");
    until(&mut exec, &format!("up-{token}")).await;
    eventually(10, "all of them run", || processes(id, &format!(": {token}")) >= 4).await;
    exec.id
}

#[tokio::test]
async fn what_a_killed_service_has_left_is_ended_by_the_next() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let folder = tempfile::tempdir().expect("a folder");
    let service = || super::docker().with_marks_in(folder.path().to_owned()).expect("a folder");
    let (left, ended, new) = (unique("left"), unique("ended"), unique("new"));
    let killed = service();
    abandoned(&killed, &id, &left).await;
    let exec = abandoned(&killed, &id, &ended).await;
    killed.end(&id, &exec).await.expect("ends");
    drop(killed);
    let next = service();
    let exec = abandoned(&next, &id, &new).await;
    next.end_left().await.expect("ends");
    assert_eq!(processes(&id, &format!(": {left}")), 0, "{}", cli(&["top", &id, "-eo", "pid,args"]));
    assert!(processes(&id, &format!(": {new}")) >= 4, "its own goes on");
    next.end(&id, &exec).await.expect("ends");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left to do");
}

#[tokio::test]
async fn an_abandoned_terminal_ends_with_all_it_has_started() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let (token, other) = (unique("end"), unique("other"));
    let exec = abandoned(&own.docker, &id, &token).await;
    let neighbour = abandoned(&own.docker, &id, &other).await;
    assert!(processes(&id, &format!(": {token}")) >= 4, "dropping the connection does not end it");
    own.docker.end(&id, &exec).await.expect("ends");
    assert_eq!(processes(&id, &format!(": {token}")), 0, "{}", cli(&["top", &id, "-eo", "pid,args"]));
    assert!(processes(&id, &format!(": {other}")) >= 4, "a neighbour goes on");
    assert!(own.docker.exit_code(&exec).await.expect("answers").is_some());
    own.docker.end(&id, &exec).await.expect("nothing happens");
    own.docker.end(&id, &neighbour).await.expect("ends");
    assert_eq!(processes(&id, &format!(": {other}")), 0);
    assert_eq!(processes(&id, "sleep 1000"), 2, "the container and its init go on");
}

/// Over TCP an engine is taken to be elsewhere: its processes are not ours to signal.
#[tokio::test]
async fn an_abandoned_terminal_ends_at_an_engine_elsewhere() {
    let own = Own::new().await;
    let gate = Gate::engine("/nothing is held/", 0).await;
    let docker = Docker::connect(Some(&format!("tcp://{}", gate.address))).expect("an address");
    let id = own.shell("sleep 1000").await;
    let token = unique("end");
    let script = format!("trap '' HUP; setsid sh -c 'sleep 1002; : {token}' & echo up; while :; do sleep 1; done; : {token}");
    for user in [None, Some("7".to_owned())] {
        let asked = ExecRequest { user, ..request(&["sh", "-c", &script], true) };
        let mut exec = docker.exec(&id, &asked).await.expect("starts");
        until(&mut exec, "up").await;
        let name = exec.id.clone();
        drop(exec);
        eventually(10, "both run", || processes(&id, &format!(": {token}")) >= 2).await;
        docker.end(&id, &name).await.expect("ends");
        eventually(5, "both are gone", || processes(&id, &format!(": {token}")) == 0).await;
    }
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let own = Own::new().await;
    let gate = Gate::engine("/resize", 0).await;
    let docker = Docker::connect(Some(&format!("tcp://{}", gate.address))).expect("an address");
    let id = own.shell("sleep 1000").await;
    let asked = ExecRequest { size: Some((80, 24)), ..request(&["sleep", "1007"], true) };
    let mut starting = Box::pin(docker.exec(&id, &asked));
    tokio::select! {
        done = &mut starting => panic!("{:?}", done.err()),
        () = gate.reached() => {}
    }
    eventually(10, "it runs", || processes(&id, "sleep 1007") == 1).await;
    drop(starting);
    eventually(10, "it is gone", || processes(&id, "sleep 1007") == 0).await;
}

#[tokio::test]
async fn what_ends_with_its_container_needs_no_ending() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    let exec = own.docker.exec(&id, &request(&["sh"], true)).await.expect("starts");
    own.docker.remove(&id, true).await.expect("goes");
    own.docker.end(&id, &exec.id).await.expect("is gone");
}
