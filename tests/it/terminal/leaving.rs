//! Going away, coming back, and what becomes of a process that nobody comes back to.

use std::time::Instant;

use serde_json::json;

use super::ada_with;
use super::socket::{open_as, try_as};
use crate::support::{seen, unique, watch};

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_finds_the_process_and_its_screen() {
    let (service, container, ada) = ada_with("60s").await;
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?cmd=sh", container.name)).await;
    let session = terminal.session.clone();
    let back = format!("{}/exec?session={session}", container.name);
    terminal.send("here=kept; stty -echo; echo on the screen\n").await;
    terminal.until("on the screen\r\n").await;
    // It goes on while nobody is there, and what it writes is no more than it keeps.
    terminal
        .send("echo working; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo done; touch /tmp/done\n")
        .await;
    terminal.until("working").await;
    terminal.break_off();
    let done = || !crate::support::service::docker(&["exec", &container.id, "ls", "/tmp/done"]).is_empty();
    watch("it goes on alone", done).await;
    let mut again = open_as(&service, &ada, &back).await;
    assert_eq!(again.session, session);
    let screen = again.until("done\r\n").await;
    assert!(screen.contains("line 19999") && !screen.contains("line 10000\r"), "the last of it");
    assert!((32 << 10..=64 << 10).contains(&screen.len()), "{} bytes", screen.len());
    again.send("echo $here\n").await;
    again.until("kept\r\n").await;
    again.leave().await;
    let mut third = open_as(&service, &ada, &back).await;
    third.send("exit 5\n").await;
    assert_eq!(third.end().await.0, Some(json!({"exit": 5})));
    assert_eq!(try_as(&service, &ada, &back).await.err().map(|refused| refused.0), Some(404), "it has ended and was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_saw_is_told_to_whoever_comes_back() {
    let (service, container, ada) = ada_with("60s").await;
    let mark = unique("last");
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?cmd=sh", container.name)).await;
    let back = format!("{}/exec?session={}", container.name, terminal.session);
    terminal.send(format!("echo started; (sleep 1; echo {mark} | tr a-z A-Z); exit 4\n")).await;
    terminal.until("started").await;
    terminal.break_off();
    watch("it has ended", || container.processes("sleep 1") == container.processes("sleep 100000")).await;
    let mut again = open_as(&service, &ada, &back).await;
    again.until(&mark.to_uppercase()).await;
    assert_eq!(again.end().await, (Some(json!({"exit": 4})), 1000, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_takes_the_terminal_over() {
    let (service, container, ada) = ada_with("60s").await;
    let mut first = open_as(&service, &ada, &format!("{}/exec?cmd=cat", container.name)).await;
    first.send("before\n").await;
    first.until("before\r\nbefore\r\n").await;
    let mut second = open_as(&service, &ada, &format!("{}/exec?session={}", container.name, first.session)).await;
    let (_, code, why) = first.end().await;
    assert_eq!((code, why.as_str()), (4409, "the terminal was taken over from elsewhere"));
    second.until("before\r\nbefore\r\n").await;
    second.send("after\n").await;
    second.until("after\r\nafter\r\n").await;
    assert_eq!(container.processes("cat"), 1, "it is the same process");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_process_is_ended_with_its_children() {
    let (service, container, ada) = ada_with("2s").await;
    let mark = unique("left");
    let script = format!("trap '' HUP; setsid sh -c 'sleep 1002; : {mark}' & echo up; while :; do sleep 1; done; : {mark}");
    let query = serde_urlencoded::to_string([("cmd", "sh"), ("cmd", "-c"), ("cmd", &script)]).expect("a query");
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?{query}", container.name)).await;
    terminal.until("up").await;
    let back = format!("{}/exec?session={}", container.name, terminal.session);
    watch("both run", || container.processes(&mark) >= 2).await;
    let left = Instant::now();
    terminal.break_off();
    watch("they are gone", || container.processes(&mark) == 0).await;
    assert!(left.elapsed().as_secs() >= 2, "not before its time: {:?}", left.elapsed());
    assert_eq!(container.processes("sleep 100000"), 2, "the container goes on, with its init");
    assert_eq!(try_as(&service, &ada, &back).await.err().map(|refused| refused.0), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_a_number_of_terminals_and_gets_back_those_it_left() {
    let (service, container, ada) = ada_with("1s").await;
    let bob = service.user("bob").await;
    let bobs = crate::support::container::Container::of(&service, &bob, super::IDLE).await;
    let path = format!("{}/exec?cmd=cat", container.name);
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(open_as(&service, &ada, &path).await);
    }
    let (status, told) = try_as(&service, &ada, &path).await.err().expect("refused");
    assert_eq!((status, &told["code"]), (429, &json!("too_many_terminals")));
    open_as(&service, &bob, &format!("{}/exec?cmd=cat", bobs.name)).await.leave().await;
    open.pop().expect("one of them").leave().await;
    seen("there is room again", async || try_as(&service, &ada, &path).await.ok()).await.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_says_so_and_leaves_no_process() {
    let (service, container, ada) = ada_with("60s").await;
    let (here, gone) = (unique("here"), unique("gone"));
    let path = |mark: &str| format!("{}/exec?cmd=sh&cmd=-c&cmd=cat;%20:%20{mark}", container.name);
    let mut terminal = open_as(&service, &ada, &path(&here)).await;
    open_as(&service, &ada, &path(&gone)).await.break_off();
    watch("both run", || container.processes(&here) == 1 && container.processes(&gone) == 1).await;
    let (stopped, end) = tokio::join!(service.service.stop(), terminal.end());
    drop(stopped);
    assert_eq!((end.1, end.2.as_str()), (1001, "the service stops"));
    assert_eq!((container.processes(&here), container.processes(&gone)), (0, 0));
}
