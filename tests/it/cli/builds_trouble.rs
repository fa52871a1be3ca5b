//! `dockwright build` when the service is busy or says nothing, and when it is interrupted at a bad moment.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};

use super::builds::{admin, ended, folder, text};
use super::front::Front;
use super::person::Person;
use super::pty::Pty;
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, Running};
use crate::support::watch;

on_both_stores!(a_service_that_is_busy_is_asked_again, an_interrupted_submission_leaves_no_build_and_tells_no_lies);

async fn a_service_that_is_busy_is_asked_again(backend: Backend) {
    let (service, admin) = admin(backend).await;
    let context = folder(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    for how in ["", "--full-upload"] {
        let front = Front::before(service.address, "127.0.0.1:0", 2, true).await;
        let through = Person::at(&front.url(), &service.token);
        let before = admin.run("ps --builds --all --json").json().as_array().expect("a list").len();
        let built = ended(through.command(&format!("build --no-push {how}"), &[text(context.path())])).well();
        assert_eq!(front.refuses(), 0, "{}", built.err);
        assert!(built.err.contains("it is tried again"), "{}", built.err);
        let after = admin.run("ps --builds --all --json").json().as_array().expect("a list").len();
        assert_eq!(after - before, 1, "one build");
    }
    let front = Front::before(service.address, "127.0.0.1:0", 100, true).await;
    let through = Person::at(&front.url(), &service.token);
    let given_up = ended(through.command("build --no-push --patience 1s", &[text(context.path())]));
    assert!(given_up.code == 3 && given_up.err.contains("503"), "{} {}", given_up.code, given_up.err);
}

/// A build whose submission is accepted, and whose answer is held.
async fn held(service: &Running, admin: &Person, front: &Front, context: &str) -> (Child, String) {
    let through = Person::at(&front.url(), &service.token);
    let known = |builds: &str| admin.run(builds).json()[0]["id"].as_str().map(str::to_owned);
    let before = known("ps --builds --all --json");
    let mut command = through.command("build --no-push --no-cache", &[context]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    // The file with the token has to stay while it starts.
    watch("it is accepted", || known("ps --builds --all --json") != before).await;
    drop(through);
    (child, known("ps --builds --all --json").expect("an id"))
}

fn interrupt(child: &Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// Interrupts it, and reads what it says until it has said that it heard of that; the rest.
fn heard(child: &mut Child) -> BufReader<ChildStderr> {
    let mut told = BufReader::new(child.stderr.take().expect("piped"));
    interrupt(child);
    let mut line = String::new();
    while !line.contains("once more leaves at once") {
        line.clear();
        assert!(told.read_line(&mut line).expect("text") > 0, "it ended");
    }
    told
}

async fn an_interrupted_submission_leaves_no_build_and_tells_no_lies(backend: Backend) {
    let (service, admin) = admin(backend).await;
    let long = folder(&[("Dockerfile", "FROM busybox\nRUN sleep 600\n")]);
    let short = folder(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    // The answer comes: the build is cancelled.
    let front = Front::before(service.address, "127.0.0.1:0", 0, false).await;
    let (mut child, id) = held(&service, &admin, &front, text(long.path())).await;
    let _told = heard(&mut child);
    front.open();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    service.until(&serde_json::json!({"id": id}), |build| build["state"] == "cancelled").await;
    // It comes when the build has ended: there is nothing to cancel.
    let front = Front::before(service.address, "127.0.0.1:0", 0, false).await;
    let (mut child, id) = held(&service, &admin, &front, text(short.path())).await;
    service.ended(&serde_json::json!({"id": id})).await;
    let mut told = heard(&mut child);
    front.open();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("has ended") && rest.contains(&id), "{rest}");
    // It does not come, and the caller does not wait.
    let front = Front::before(service.address, "127.0.0.1:0", 0, false).await;
    let (mut child, id) = held(&service, &admin, &front, text(long.path())).await;
    let mut told = heard(&mut child);
    interrupt(&child);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("may have been accepted") && !rest.contains("nothing is built"), "{rest}");
    admin.run(&format!("cancel {id}")).well();
}

/// Nobody listens there: it is not even come to that.
#[tokio::test(flavor = "multi_thread")]
async fn control_c_ends_a_command_that_still_reads() {
    let context = folder(&[("Dockerfile", "FROM busybox\n")]);
    let nowhere = Person::at("http://127.0.0.1:1", "token");
    let of_stdin = nowhere.command("build - --no-push", &[]);
    let beside = nowhere.command("build --no-push -f -", &[text(context.path())]);
    let secret = nowhere.command("build --no-push --secret id=a,src=/dev/tty", &[text(context.path())]);
    for command in [of_stdin, beside, secret] {
        let mut terminal = Pty::start(&command, 80, 24);
        terminal.send("FROM busybox\n");
        // The terminal's own echo, and then what makes the command read.
        terminal.until("FROM busybox");
        terminal.watches_signals().await;
        let began = std::time::Instant::now();
        terminal.send("\u{3}");
        let (status, shown) = terminal.end();
        assert_eq!(status.code(), Some(130), "{shown}");
        assert!(shown.contains("interrupted; nothing is built"), "{shown}");
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
