//! `dockwright exec`, at a real terminal and in a pipe.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::person::Person;
use super::pty::Pty;
use crate::support::container::Container;
use crate::support::gate::{Behind, Gate};
use crate::support::harbor::{Harbor, Swept, harbor};
use crate::support::process::Process;
use crate::support::service::{Backend, docker};
use crate::support::watch;
use dockwright::config::Settings;

const SLEEP: &str = "exec sleep 100000";

/// A service, and ada at the command line with an app `box` that runs.
async fn ada() -> (Harbor, Person) {
    let harbor = harbor(Backend::Sqlite).await;
    let token = harbor.user("ada").await;
    let ada = Person::of(&harbor, &token);
    ada.run("app create box --image busybox --network none -- sleep 100000").well();
    ada.run("app run box --wait").well();
    (harbor, ada)
}

fn shell(person: &Person, script: &str) -> Command {
    person.command("exec -it box sh -c", &[script])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_at_this_terminal() {
    let (_harbor, ada) = ada().await;
    let mut terminal = Pty::start(&ada.command("exec -it box sh", &[]), 97, 31);
    terminal.until("/ # ");
    assert!(terminal.is_changed(), "keys are handed on as they are");
    terminal.send("stty size; tty; echo a-$((6*7))\n");
    let shown = terminal.until("a-42\r\n");
    assert!(shown.contains("31 97\r\n") && shown.contains("/dev/pts/"), "{shown:?}");
    assert_eq!(shown.matches("stty size").count(), 1, "one echo, the container's: {shown:?}");
    // Every key reaches it, those that would end or stop a program here, too.
    terminal.clear();
    terminal.send("echo be''gun; cat\n");
    terminal.until("begun");
    // A key that comes before the program has the terminal is the shell's.
    terminal.send("here\n");
    terminal.until("here\r\nhere\r\n");
    terminal.send("\u{3}");
    // Typed before the prompt is there, the next line was once seen to be lost.
    terminal.until("^C\r\n/ # ");
    terminal.send("echo cat-ended-$?\n");
    terminal.until("cat-ended-130\r\n");
    terminal.send("echo be''gun-too; cat\n");
    terminal.until("begun-too");
    terminal.send("there\n");
    terminal.until("there\r\nthere\r\n");
    terminal.send("\u{1a}");
    terminal.until("Stopped");
    terminal.send("echo grüße-✓\n");
    terminal.until("\ngrüße-✓\r\n");
    terminal.send("exit 7\n");
    terminal.until("stopped jobs");
    terminal.send("exit 7\n");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(7), "{shown}");
    assert!(!terminal.is_changed(), "it is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size_of_the_terminal_is_passed_on() {
    let (_harbor, ada) = ada().await;
    let script = "trap 'echo now $(stty size)' WINCH; trap 'echo bye; exit 3' INT; echo begun; while :; do sleep 0.1; done";
    let mut terminal = Pty::start(&shell(&ada, script), 80, 24);
    terminal.until("begun");
    terminal.resize(132, 50);
    terminal.until("now 50 132");
    terminal.resize(2000, 10);
    terminal.until("now 10 1000");
    terminal.send("\u{3}");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(3), "{shown}");
    assert!(shown.contains("bye"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_it_the_terminal_is_as_it_was() {
    let (_harbor, ada) = ada().await;
    for (signal, code) in [("-TERM", 143), ("-HUP", 129), ("-INT", 130), ("-QUIT", 131)] {
        let mut terminal = Pty::start(&shell(&ada, "echo begun; exec sleep 1000"), 80, 24);
        terminal.until("begun");
        assert!(terminal.is_changed());
        terminal.signal(signal);
        let (status, shown) = terminal.end();
        assert_eq!(status.code(), Some(code), "{signal}: {shown}");
        assert!(!terminal.is_changed(), "{signal}");
    }
    // One that cannot begin has changed nothing.
    let mut terminal = Pty::start(&ada.command("exec -it box no-such-program", &[]), 80, 24);
    let (status, shown) = terminal.end();
    assert!(status.code() != Some(0) && shown.contains("no-such-program"), "{status} {shown}");
    assert!(!terminal.is_changed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_away_is_told_and_the_terminal_is_as_it_was() {
    let data = tempfile::tempdir().expect("a folder");
    let _swept = Swept::of(Settings { data_dir: Some(data.path().to_owned()), ..Settings::default() }).await;
    let mut service = Process::start(&["serve", "--listen", "127.0.0.1:0"], data.path());
    let url = format!("http://{}", service.address());
    let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token");
    let admin = Person::at(&url, token.trim());
    admin.run("app create box --image busybox --network none -- sleep 100000").well();
    watch("the engine is known", || admin.run("ps").code == 0).await;
    admin.run("app run box --wait").well();
    let mut terminal = Pty::start(&shell(&admin, "echo begun; exec sleep 1000"), 80, 24);
    terminal.until("begun");
    service.kill();
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(shown.contains("error: no more is heard of the service"), "{shown}");
    assert!(!terminal.is_changed());
    admin.run("exec box true").refused(&format!("cannot reach {url}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_broke_off_is_come_back_to() {
    let harbor = harbor(Backend::Sqlite).await;
    let token = harbor.user("ada").await;
    let container = Container::of(&harbor, &token, SLEEP).await;
    let gate = Gate::before(Behind::Tcp(harbor.address.to_string()), "nothing is held", 0).await;
    let through = Person::at(&format!("http://{}", gate.address), &token);
    let mut terminal = Pty::start(&through.command("exec -it", &[&container.name, "sh"]), 80, 24);
    terminal.send("kept=here; echo be''gun\n");
    terminal.until("begun");
    drop(gate);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(1), "{shown}");
    let session = shown.rsplit("--session ").next().and_then(|rest| rest.split(':').next()).expect("told how");
    let direct = Person::of(&harbor, &token);
    let again = direct.command(&format!("exec -it --session {session}"), &[&container.name]);
    let mut terminal = Pty::start(&again, 111, 22);
    terminal.send("echo $kept $(stty size); exit 4\n");
    terminal.until("here 22 111\r\n");
    assert_eq!(terminal.end().0.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pipe_input_output_and_end_are_those_of_the_process() {
    let (_harbor, ada) = ada().await;
    assert_eq!(ada.say("hi\n", "exec -i box cat").well().out, "hi\n");
    let ended = ada.with("exec box sh -c", "echo out; echo err >&2; exit 9");
    assert_eq!((ended.out.as_str(), ended.err.as_str(), ended.code), ("out\n", "err\n", 9));
    assert_eq!(ada.say("not read\n", "exec box cat").well().out, "", "without -i there is no input");
    // Bytes of every kind, more than fits into any buffer.
    let mut all: Vec<u8> = (0..=255).collect();
    all = all.repeat(8192);
    let mut child = piped(ada.command("exec -i box sh -c", &["cat; echo done >&2"]));
    let (mut stdin, sent) = (child.stdin.take().expect("piped"), all.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("ends").expect("all is taken");
    assert!(output.stdout == all, "{} of {} bytes came back", output.stdout.len(), all.len());
    assert_eq!((output.stderr.as_slice(), output.status.code()), (&b"done\n"[..], Some(0)));
    assert_eq!(ada.run("exec -u 1000:1000 box id -u").well().out, "1000\n");
    ada.run("exec -it box sh").refused("standard input is no terminal: leave out -t");
}

fn piped(mut command: Command) -> std::process::Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slow_or_gone_holds_up_nothing() {
    let (harbor, ada) = ada().await;
    // Nobody reads: it can be ended all the same.
    let mut child = piped(ada.command("exec box yes", &[]));
    let mut first = [0; 2];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("begins");
    assert_eq!(&first, b"y\n");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    // The reader goes.
    let mut child = piped(ada.command("exec box yes", &[]));
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("begins");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    drop(harbor);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_entered_is_told_in_plain_words() {
    let (harbor, ada) = ada().await;
    ada.run("exec nothing sh").refused("there is no such container (not_found, 404)");
    ada.run("app create idle --image busybox --network none -- true").well();
    ada.run("exec -i idle sh").refused("nothing of the app runs: start it with `dockwright app run idle`");
    let name = ada.run("ps --json").json()[0]["name"].as_str().expect("a name").to_owned();
    ada.run(&format!("stop -g 1s {name}")).well();
    ada.run(&format!("exec {name} true")).refused("not_running");
    ada.run("exec box true").refused("nothing of the app runs");
    let eve = Person::of(&harbor, &harbor.user("eve").await);
    for target in [&name, "box"] {
        eve.run(&format!("exec {target} true")).refused("there is no such container (not_found, 404)");
    }
    assert_eq!(docker(&["ps", "-q", "--filter", &format!("name={name}")]), "");
}
