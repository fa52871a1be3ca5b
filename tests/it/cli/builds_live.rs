//! `dockwright build` at a real terminal, interrupted, and with a service that is started again.

use std::net::TcpListener;

use super::builds::{folder, text};
use super::person::Person;
use super::pty::Pty;
use crate::pipeline::on_both_stores;
use crate::support::process::Process;
use crate::support::service::{self, Backend};
use crate::support::{own, redis_url, unique};

on_both_stores!(
    live_steps_fit_the_window_and_a_flood_does_not_reach_it,
    control_c_cancels_the_build_at_the_service,
    a_service_that_is_started_again_loses_no_build_and_no_line,
);

/// Only what is at a terminal for a moment: no run of these tests is seen by a person.
pub fn at_terminal(person: &Person, line: &str, context: &str, columns: u16) -> Pty {
    let mut command = person.command(line, &[context]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    Pty::start(&command, columns, 16)
}

/// The id that the command tells first.
pub fn id_in(shown: &str) -> &str {
    let at = shown.find("build 01").expect("an id") + "build ".len();
    &shown[at..at + 36]
}

/// Lines as they stand on the screen, without colours and movements.
fn lines(shown: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut kept = String::new();
        let mut parts = line.split('\u{1b}');
        kept.push_str(parts.next().unwrap_or_default());
        for part in parts {
            kept.push_str(part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest));
        }
        kept
    };
    shown.split("\r\n").map(line).collect()
}

async fn live_steps_fit_the_window_and_a_flood_does_not_reach_it(backend: Backend) {
    let service = service::start(backend).await;
    let admin = Person::of(&service, &service.token);
    let flood = "i=0; while [ $i -lt 20000 ]; do echo line-$i-of-a-flood-that-is-wider-than-this-terminal-is; i=$((i+1)); done; \
        sleep 1; printf 'last \\033[2Jwords\\n'; exit 3";
    let context = folder(&[("Dockerfile", &format!("FROM busybox\nRUN {flood}\n"))]);
    let mut terminal = at_terminal(&admin, "build --no-push --no-cache", text(context.path()), 50);
    terminal.until(" => => # line-");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(shown.contains("[+] Building") && shown.contains("=> ERROR [2/2] RUN"), "{shown:?}");
    // Before the last lines and the error, which may be as long as they are.
    let (live, after) = shown.split_once("------").expect("what the failed step wrote last");
    for line in lines(live) {
        assert!(line.chars().count() < 50, "{line:?}");
    }
    assert!(shown.len() < 120_000, "{} bytes of a flood of more than a million", shown.len());
    assert!(after.contains("line-19999-") && after.contains("last words") && after.contains("step_failed"), "{after:?}");
    assert!(!shown.contains("\u{1b}[2J"), "what a step writes moves nothing here");
}

async fn control_c_cancels_the_build_at_the_service(backend: Backend) {
    let service = service::start(backend).await;
    let admin = Person::of(&service, &service.token);
    let context = folder(&[("Dockerfile", &own("RUN echo be''gun; sleep 600\n"))]);
    let mut terminal = at_terminal(&admin, "build --no-push --no-cache", text(context.path()), 120);
    terminal.until("# begun");
    terminal.send("\u{3}");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(130), "{shown}");
    assert!(!terminal.is_changed());
    let build = admin.run(&format!("inspect --json {}", id_in(&shown))).json();
    assert_eq!(build["state"], "cancelled", "{build}");
}

/// A service that can be stopped and started at the same address.
fn serve(address: &str, data: &std::path::Path, store: &[&str]) -> Process {
    let mut process = Process::start(&[&["serve", "--listen", address, "--lease", "2s"], store].concat(), data);
    process.address();
    process
}

async fn a_service_that_is_started_again_loses_no_build_and_no_line(backend: Backend) {
    let data = tempfile::tempdir().expect("a folder");
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
    let (url, prefix) = (redis_url(), unique("cli"));
    let store = match backend {
        Backend::Sqlite => Vec::new(),
        Backend::Redis => vec!["--store", &url, "--store-prefix", &prefix],
    };
    let process = serve(&address, data.path(), &store);
    let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token");
    let admin = Person::at(&format!("http://{address}"), token.trim());
    let context = folder(&[("Dockerfile", &own("RUN echo first-be''gun; sleep 4; echo it-is-o''ver\n"))]);
    let mut terminal = at_terminal(&admin, "build --no-push --no-cache --progress plain", text(context.path()), 120);
    terminal.until("first-begun");
    process.kill();
    terminal.until("the service does not answer");
    let process = serve(&address, data.path(), &store);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.contains("it-is-over") && shown.contains("sha256:"), "{shown}");
    let log = admin.run(&format!("logs {}", id_in(&shown))).well().out;
    for line in log.lines().filter(|line| line.ends_with("gun") || line.ends_with("over")) {
        assert_eq!(shown.matches(line).count(), log.matches(line).count(), "{line}: every line once\n{shown}");
    }
    // A service that says nothing more does not hold anybody: the second Ctrl-C leaves.
    let mut terminal = at_terminal(&admin, "build --no-push --no-cache", text(context.path()), 120);
    terminal.until("# first-begun");
    process.signal("-STOP");
    terminal.send("\u{3}");
    terminal.until("once more leaves at once");
    terminal.send("\u{3}");
    let (status, shown) = terminal.end();
    process.signal("-CONT");
    assert_eq!(status.code(), Some(130), "{shown}");
    assert!(shown.contains("dockwright inspect"), "{shown}");
    assert!(admin.run(&format!("rm --force {}", id_in(&shown))).code == 0);
}
