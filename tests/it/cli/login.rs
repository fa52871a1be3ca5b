//! `dockwright login` and `logout`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::builds::ended;
use super::person::{Ended, dockwright};
use super::pty::Pty;
use crate::support::service::{self, Backend};

/// `dockwright ARGS` of somebody with this configuration, in a folder without a service's data.
fn of(home: &Path, args: &[&str]) -> Command {
    let mut command = dockwright(args);
    command.env("XDG_CONFIG_HOME", home).current_dir(home);
    command
}

fn login(home: &Path, url: &str, token: &str) -> Ended {
    let mut command = of(home, &["login", url, "--token-stdin"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary runs");
    writeln!(child.stdin.take().expect("piped"), "{token}").expect("takes it");
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { out: text(output.stdout), err: text(output.stderr), code: output.status.code().expect("no signal") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_kept_for_one_address_and_for_nobody_else_to_read() {
    let service = service::start(Backend::Sqlite).await;
    let other = service::start(Backend::Sqlite).await;
    let ada = service.user("ada").await;
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    ended(of(home, &["token", "list"])).refused("dockwright login");
    login(home, &service.url(""), "dw_wrong").refused("unauthenticated");
    assert!(!home.join("dockwright/login.json").exists(), "what does not work is not kept");
    let told = login(home, &service.url("/"), &ada).well();
    assert!(told.err.contains("as ada") && !told.err.contains(&ada) && told.out.is_empty(), "{}", told.err);
    let file = home.join("dockwright/login.json");
    assert_eq!(std::fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    // All commands know where and who.
    assert!(ended(of(home, &["token", "list"])).well().out.contains("ID"));
    // What is said goes first, and a token goes to no address but its own.
    let elsewhere = other.url("");
    let mut command = of(home, &["token", "list"]);
    command.env("DOCKWRIGHT_URL", &elsewhere);
    ended(command).refused("no token");
    let mut command = of(home, &["user", "list", "--url", &elsewhere]);
    command.env("DOCKWRIGHT_TOKEN", &other.token);
    assert!(ended(command).well().out.contains("admin"));
    login(home, "ftp://x", &ada).refused("is no address");
    login(home, "http://me:secret@127.0.0.1:1", &ada).refused("no name and no password");
    ended(of(home, &["logout"])).well();
    assert!(!std::fs::read_to_string(&file).expect("is there").contains(&ada));
    ended(of(home, &["logout", &service.url("")])).refused("there is no log-in");
    ended(of(home, &["token", "list"])).refused("no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_typed_is_not_shown() {
    let service = service::start(Backend::Sqlite).await;
    let home = tempfile::tempdir().expect("a folder");
    let mut command = dockwright(&["login", &service.url("")]);
    command.env("XDG_CONFIG_HOME", home.path());
    let mut terminal = Pty::start(&command, 100, 20);
    terminal.until("Token for ");
    assert!(terminal.is_changed());
    terminal.send(&format!("{}\n", service.token));
    let (status, shown) = terminal.end();
    assert!(status.success() && shown.contains("as admin") && !shown.contains(&service.token), "{shown}");
    assert!(!terminal.is_changed());
    // An interrupted one leaves the terminal as it was, and the log-in of before.
    let mut terminal = Pty::start(&command, 100, 20);
    terminal.until("Token for ");
    terminal.send("\u{3}");
    assert_eq!(terminal.end().0.code(), Some(130));
    assert!(!terminal.is_changed());
    let mut command = dockwright(&["user", "list"]);
    command.env("XDG_CONFIG_HOME", home.path());
    ended(command).well();
}
