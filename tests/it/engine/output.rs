//! What containers write, line by line.

use std::time::{Duration, Instant};

use dockwright::domain::limits::LOG_LINE_BYTES;
use dockwright::engine::EngineError;
use dockwright::engine::containers::{Containers, OutputLine, OutputRange, Told};
use dockwright::engine::docker::Docker;
use futures::{StreamExt, TryStreamExt};

use super::own::Own;
use crate::support::gate::Gate;

fn texts(lines: &[OutputLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

async fn read(own: &Own, id: &str, range: OutputRange) -> Vec<OutputLine> {
    own.docker.output(id, range).await.expect("answers").try_collect().await.expect("to its end")
}

#[tokio::test]
async fn both_outputs_come_apart_with_their_times() {
    let own = Own::new().await;
    let id = own.shell(r"echo one; sleep 0.05; echo two >&2; sleep 0.05; printf '\377\001\n'; sleep 0.05; printf 'no end'").await;
    let lines = own.lines(&id, true).await;
    assert_eq!(texts(&lines), ["one", "two", "\u{FFFD}\u{1}", "no end"]);
    assert_eq!(lines.iter().map(|line| line.stderr).collect::<Vec<_>>(), [false, true, false, false]);
    let started = own.details(&id).await.started_at.expect("it ran").as_millis();
    // The engine notes the start a little after it.
    assert!((lines[0].nanos / 1_000_000 - started).abs() < 10_000, "{started} {lines:?}");
    assert!(lines.windows(2).all(|pair| pair[0].nanos < pair[1].nanos), "{lines:?}");

    let last = OutputRange { tail: Some(2), ..OutputRange::default() };
    assert_eq!(texts(&read(&own, &id, last).await), ["\u{FFFD}\u{1}", "no end"]);
    let younger = OutputRange { since_nanos: Some(lines[1].nanos + 1), ..OutputRange::default() };
    assert_eq!(texts(&read(&own, &id, younger).await), ["\u{FFFD}\u{1}", "no end"]);
    let from = OutputRange { since_nanos: Some(lines[1].nanos), ..OutputRange::default() };
    assert_eq!(read(&own, &id, from).await[0], lines[1], "not before it");
}

#[tokio::test]
async fn a_terminal_is_one_output() {
    let own = Own::new().await;
    let mut request = own.request(&["sh", "-c", r"tty; echo err >&2; printf '\001\002\n'; echo; printf 'no end'"]);
    request.tty = true;
    let id = own.start(request).await.expect("starts");
    let lines = own.lines(&id, true).await;
    assert_eq!(texts(&lines), ["/dev/pts/0", "err", "\u{1}\u{2}", "", "no end"]);
    assert!(lines.iter().all(|line| !line.stderr));
    assert_eq!(own.lines(&id, false).await, lines, "read again at once");
}

#[tokio::test]
async fn a_long_line_comes_in_pieces_of_one_time() {
    let own = Own::new().await;
    let size = 100_000;
    for tty in [false, true] {
        let script = format!("head -c {size} /dev/zero | tr '\\0' x; echo; echo next");
        let mut request = own.request(&["sh", "-c", &script]);
        request.tty = tty;
        let id = own.start(request).await.expect("starts");
        own.ended(&id).await;
        let lines = own.lines(&id, false).await;
        let (next, pieces) = lines.split_last().expect("lines");
        assert_eq!(next.text, "next", "terminal: {tty}");
        assert!(
            pieces.iter().all(|piece| piece.text.len() <= LOG_LINE_BYTES && piece.nanos == pieces[0].nanos),
            "terminal: {tty}"
        );
        assert!(pieces.iter().all(|piece| piece.text.bytes().all(|byte| byte == b'x')), "terminal: {tty}");
        assert_eq!(pieces.iter().map(|piece| piece.text.len()).sum::<usize>(), size, "terminal: {tty}");
    }
}

/// Read as fast as can be, the engine's chunks are cut anywhere.
#[tokio::test]
async fn no_line_of_many_is_lost_or_cut() {
    let own = Own::new().await;
    for tty in [false, true] {
        let mut request =
            own.request(&["sh", "-c", "seq 30000 | sed 's/.*/line number & of this test, which is read all at once/'"]);
        request.tty = tty;
        let id = own.start(request).await.expect("starts");
        own.ended(&id).await;
        let lines = own.lines(&id, false).await;
        assert_eq!(lines.len(), 30000, "terminal: {tty}");
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(line.text, format!("line number {} of this test, which is read all at once", i + 1));
        }
    }
}

#[tokio::test]
async fn who_follows_gets_lines_as_they_come_and_the_end() {
    let own = Own::new().await;
    let id = own.shell("echo first; until [ -e /go ]; do sleep 0.02; done; echo second; printf rest").await;
    let follow = OutputRange { follow: true, ..OutputRange::default() };
    let mut lines = own.docker.output(&id, follow).await.expect("answers");
    assert_eq!(lines.next().await.expect("a line").expect("is told").text, "first");
    let now = Instant::now();
    super::cli(&["exec", &id, "touch", "/go"]);
    assert_eq!(lines.next().await.expect("a line").expect("is told").text, "second");
    assert_eq!(lines.next().await.expect("a line").expect("is told").text, "rest");
    assert!(lines.next().await.is_none(), "it ends with the container");
    assert!(now.elapsed() < Duration::from_secs(20), "{:?}", now.elapsed());
}

async fn failure<T>(mut told: Told<T>) -> Option<EngineError> {
    while let Some(one) = told.next().await {
        if let Err(error) = one {
            return Some(error);
        }
    }
    None
}

#[tokio::test]
async fn an_engine_that_goes_away_is_an_error_and_no_end() {
    let own = Own::new().await;
    let id = own.shell("echo first; sleep 1000").await;
    let gate = Gate::engine("/nothing is held/", 0).await;
    let docker = Docker::connect(Some(&format!("tcp://{}", gate.address))).expect("an address");
    let follow = OutputRange { follow: true, ..OutputRange::default() };
    let mut lines = docker.output(&id, follow).await.expect("answers");
    let events = docker.events(None).await.expect("answers");
    let stats = docker.stats(&id).await.expect("answers");
    assert_eq!(lines.next().await.expect("a line").expect("is told").text, "first");
    drop(gate);
    let error = lines.next().await.expect("is told").expect_err("no line");
    assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
    let error = failure(events).await.expect("is told");
    assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
    let error = failure(stats).await.expect("is told");
    assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
}

#[tokio::test]
async fn there_is_no_output_of_what_is_not_there() {
    let own = Own::new().await;
    let error = own.docker.output(&own.token, OutputRange::default()).await.err().expect("is not there");
    assert_eq!(error.code, "container_not_found", "{error:?}");
}

#[tokio::test]
async fn alone_a_flood_of_output_costs_no_memory() {
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
    let own = Own::new().await;
    // A single line, of which the engine keeps its 30 MiB.
    let id = own.shell("head -c 60000000 /dev/urandom | tr '\\n' ' '").await;
    own.ended(&id).await;
    let before = resident_kib();
    let (mut most, mut bytes) = (0, 0);
    let mut lines = own.docker.output(&id, OutputRange::default()).await.expect("answers");
    while let Some(line) = lines.try_next().await.expect("to its end") {
        bytes += line.text.len();
        assert!(line.text.len() <= 3 * LOG_LINE_BYTES, "replaced bytes are three");
        most = most.max(resident_kib());
    }
    assert!(bytes > 10_000_000, "{bytes}");
    assert!(most.saturating_sub(before) < 16 * 1024, "{before} {most}");
}
