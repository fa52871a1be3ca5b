//! What is refused before it is sent, and what a terminal is never made to obey.

use super::person::{Person, run};
use super::pty::Pty;
use crate::support::harbor::{harbor, word};
use crate::support::service::Backend;

/// The escape sequences of a title, a cleared screen, a link and a changed direction, in every spelling.
const EVIL: &str = "\u{1b}]0;evil\u{7}\u{1b}[2J\u{9b}2J\u{1b}]8;;http://evil\u{1b}\\x\u{202e}";

fn obeyed(text: &str) -> Option<char> {
    text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
}

/// Nobody listens there: what is told of a name was known before.
#[test]
fn a_name_that_is_none_is_refused_before_anything_is_sent() {
    let nowhere = Person::at("http://127.0.0.1:1", "token");
    let lines = [
        "app show",
        "app run",
        "app rm",
        "app set --memory 1m",
        "run show",
        "run logs",
        "run stop",
        "run rm",
        "run list --app",
        "logs",
        "stats",
        "exec",
        "inspect",
        "start",
        "stop",
        "restart",
        "kill",
        "rm",
        "volume show",
        "volume rm",
        "network show",
        "network rm",
        "image rm",
        "user show",
        "user remove",
        "token revoke",
        "registry remove",
        "registry check",
    ];
    let names = ["..", EVIL, "a/b", ".", "../apps", "a b", "a?x=y", "a#b", "%2e%2e", "a\nb", ""];
    for (at, line) in lines.into_iter().enumerate() {
        // All of them once; then the one that leads elsewhere.
        for name in names.iter().take(if at == 0 { names.len() } else { 1 }) {
            let ended = nowhere.with(line, name);
            assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{line} {name:?}: {}", ended.err);
            assert!(!ended.err.contains("cannot reach"), "{line} {name:?} was sent: {}", ended.err);
            assert_eq!(obeyed(&ended.err), None, "{line} {name:?}: {:?}", ended.err);
        }
        nowhere.with(line, "fine").refused("cannot reach http://127.0.0.1:1");
    }
}

#[test]
fn a_line_that_cannot_be_read_ends_with_2() {
    for line in [
        "app",
        "app create",
        "app create x -e A",
        "app set x --pids many",
        "run once --image a --build b",
        "ps --nope",
        "logs -n x y",
        "exec",
        "image tag a",
        "nope",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let ended = run(&args, "");
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{line}: {}", ended.err);
        assert!(ended.err.contains("--help"), "{line}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_shown_and_not_obeyed() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = Person::of(&harbor, &harbor.user("ada").await);
    let fields = serde_json::json!({"image": "busybox", "network": "none", "labels": {"note": EVIL}, "command": ["echo", EVIL], "env": {"EVIL": EVIL}});
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), fields.to_string()).expect("written");
    let file = file.path().to_str().expect("text");
    let mut told = vec![ada.run(&format!("app create evil --file {file}")).well()];
    let run = ada.run("app run evil --wait --json").json();
    // A program of that name, and a folder: the engine's words quote them.
    told.push(ada.with("run once --image busybox --network none --wait --", EVIL));
    told.push(ada.with("run once --image busybox --network none --wait -w", &format!("/{EVIL}")));
    told.push(ada.with("run once --image", EVIL));
    told.push(ada.with("app set evil --restart", EVIL));
    let id = word(&run["id"]);
    for line in
        ["app list", "app show evil", "run list", &format!("run show {id}"), "ps -a", &format!("inspect {id}"), "image list"]
    {
        told.push(ada.run(line));
        told.push(ada.run(&format!("{line} --json")));
    }
    for (at, ended) in told.iter().enumerate() {
        let all = format!("{}{}", ended.out, ended.err);
        let json_may_turn = all.replace('\u{202e}', "");
        let seen = if ended.out.starts_with(['{', '[']) { obeyed(&json_may_turn) } else { obeyed(&all) };
        assert_eq!(seen, None, "{at}: {all:?}");
    }
    assert!(told[0].out.contains(r"\u{1b}]0;evil"), "it is seen for what it is: {}", told[0].out);
    assert_eq!(ada.run("app show evil --json").json()["command"][1], EVIL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_brings_colours_to_a_terminal_and_every_byte_to_a_file() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = Person::of(&harbor, &harbor.user("ada").await);
    let script = r"printf '\033[31mred\033]0;evil\007\033[2Jend\n\302\2332Jnext\n'; sleep 1; printf 'unfinished'";
    ada.with("app create loud --image busybox --network none -- sh -c", script).well();
    ada.run("app run loud --wait").well();
    let mut terminal = Pty::start(&ada.command("logs -f loud", &[]), 80, 24);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(shown, "\u{1b}[31mredend\u{1b}[0m\r\nnext\r\nunfinished\r\n");
    let raw = ada.run("logs loud").well().out;
    assert_eq!(raw, "\u{1b}[31mred\u{1b}]0;evil\u{7}\u{1b}[2Jend\n\u{9b}2Jnext\nunfinished\n");
}
