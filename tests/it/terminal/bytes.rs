//! What goes in and what comes out.

use std::process::Command;

use serde_json::json;

use super::ada_with;
use super::socket::{open_as, try_as};
use crate::support::{unique, watch};

/// A query that runs this shell script.
fn script(text: &str) -> String {
    serde_urlencoded::to_string([("cmd", "sh"), ("cmd", "-c"), ("cmd", text)]).expect("a query")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_shell_there_is_answers_and_its_end_is_told() {
    let (service, container, ada) = ada_with("60s").await;
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?cols=97&rows=41", container.name)).await;
    terminal.send("stty size; echo $0-$TERM\n").await;
    terminal.until("41 97\r\n").await;
    // busybox has ash and no bash.
    terminal.until("ash-xterm").await;
    terminal.resize(123, 45).await;
    terminal.send("stty size\n").await;
    terminal.until("45 123\r\n").await;
    terminal.send("exit 7\n").await;
    assert_eq!(terminal.end().await, (Some(json!({"exit": 7})), 1000, String::new()));
    let mut by_run = open_as(&service, &ada, &format!("{}/exec?cmd=id&cmd=-u&user=7", container.run)).await;
    by_run.until("7\r\n").await;
    assert_eq!(by_run.end().await.0, Some(json!({"exit": 0})));
    let mut none = open_as(&service, &ada, &format!("{}/exec?cmd=no-such-program", container.name)).await;
    none.until("executable file not found").await;
    let (exit, code, _) = none.end().await;
    assert!(matches!(exit.expect("told")["exit"].as_i64(), Some(126 | 127)) && code == 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_and_a_large_paste_is_whole() {
    let (service, container, ada) = ada_with("60s").await;
    let first = r"stty raw -echo; printf '\000\001\002\003ready\n'; head -c 6 | od -An -tx1; exec cat";
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?{}", container.name, script(first))).await;
    assert_eq!(terminal.take(10).await, b"\x00\x01\x02\x03ready\n");
    terminal.send(b"\x02\x01\x00\xff\x03\x04").await;
    terminal.until("02 01 00 ff 03 04\n").await;
    // One message, of which every byte comes back while it is still being sent.
    let paste: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
    terminal.send(&paste).await;
    assert!(terminal.take(paste.len()).await == paste, "a megabyte came back as it was");
    // A character cut in two is put together by whoever reads it.
    let crab = "\u{1F980}é".as_bytes();
    for part in crab.chunks(1) {
        terminal.send(part).await;
    }
    assert_eq!(terminal.take(crab.len()).await, crab);
    assert_eq!(terminal.refused(vec![0; (2 << 20) + 1]).await, 1009, "more is no paste");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_interrupts() {
    let (service, container, ada) = ada_with("60s").await;
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?cmd=sh", container.name)).await;
    terminal.send("sleep 12345; echo ended\n").await;
    watch("it sleeps", || container.processes("sleep 12345") == 1).await;
    terminal.send(b"\x03").await;
    terminal.send("echo then $((40 + 2))\n").await;
    terminal.until("then 42").await;
    assert_eq!(container.processes("sleep 12345"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_both_outputs_are_told_apart_and_the_input_ends() {
    let (service, container, ada) = ada_with("60s").await;
    // Nothing is written just before the end: a busy engine gives up what it has not passed on two seconds after that.
    // The engine passes two outputs on beside each other, so that what comes first of them is known only when the other one waits.
    let text = "echo err >&2; read go; tty; cat; exit 3";
    let mut pipes = open_as(&service, &ada, &format!("{}/exec?tty=false&{}", container.name, script(text))).await;
    assert_eq!(pipes.said().await, json!({"stream": "stderr"}));
    pipes.until("err\n").await;
    pipes.send(b"go\n").await;
    pipes.until("not a tty\n").await;
    assert_eq!(pipes.said().await, json!({"stream": "stdout"}));
    pipes.send(b"\x01\x00in\n").await;
    assert_eq!(pipes.take(5).await, b"\x01\x00in\n");
    pipes.say(&json!({"eof": true})).await;
    assert_eq!(pipes.end().await, (Some(json!({"exit": 3})), 1000, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_frame_or_parameter_is_told() {
    let (service, container, ada) = ada_with("60s").await;
    for text in [
        "resize",
        "{}",
        r#"{"resize":{"cols":0,"rows":5}}"#,
        r#"{"resize":{"cols":80,"rows":1001}}"#,
        r#"{"resize":{"cols":8,"rows":8},"x":1}"#,
    ] {
        let mut terminal = open_as(&service, &ada, &format!("{}/exec", container.name)).await;
        terminal.text(text).await;
        assert_eq!(terminal.end().await.1, 4400, "{text}");
    }
    for (query, field) in [
        ("cols=0&rows=5", "cols"),
        ("rows=1001", "rows"),
        ("tty=maybe", "tty"),
        ("user=-x", "user"),
        ("user=a%20b", "user"),
        ("cmd=%00", "cmd"),
        ("cmd=", "cmd"),
        ("user=a&user=b", "user"),
        ("session=x", "session"),
        ("privileged=true", "privileged"),
    ] {
        let (status, told) = try_as(&service, &ada, &format!("{}/exec?{query}", container.name)).await.err().expect("refused");
        assert_eq!((status, told["errors"][0]["field"].as_str()), (400, Some(field)), "{query}: {told}");
    }
}

/// What nobody reads is not read from the process either: it waits, and the service's memory does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_process_and_not_its_neighbour() {
    let (service, container, ada) = ada_with("60s").await;
    let mark = unique("flood");
    let flood = format!("i=0; while :; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i > /tmp/{mark}; done");
    let _slow = open_as(&service, &ada, &format!("{}/exec?tty=false&{}", container.name, script(&flood))).await;
    let count = || {
        let read = Command::new("docker").args(["exec", &container.id, "cat", &format!("/tmp/{mark}")]).output().expect("docker");
        String::from_utf8_lossy(&read.stdout).trim().parse::<u64>().unwrap_or(0)
    };
    // It comes to stand still: the same number several times in a row.
    let mut last = (0, 0);
    let mut look = tokio::time::interval(std::time::Duration::from_millis(200));
    for _ in 0..100 {
        look.tick().await;
        let now = count();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        if last.1 == 5 {
            break;
        }
    }
    assert!(last.1 == 5 && last.0 < 60, "it went on: {last:?} MB");
    let mut other = open_as(&service, &ada, &format!("{}/exec?cmd=echo&cmd=here", container.name)).await;
    other.until("here").await;
}
