//! What `dockwright build` tells of a build that waits, or is overtaken, and how it looks in a window.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use dockwright::domain::{BuildId, ImageRef};
use dockwright::store::tag_push::TagPush;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetwinsize;

use super::builds::{admin, ended, folder, text};
use super::builds_live::{at_terminal, id_in};
use super::person::Person;
use crate::pipeline::on_both_stores;
use crate::support::gate::{Behind, Gate};
use crate::support::service::{self, Backend};
use crate::support::{own, registry, unique, watch};

on_both_stores!(
    why_a_build_waits_is_told,
    of_a_superseded_tag_is_told_that_it_is,
    the_sending_of_a_folder_is_seen,
    in_a_window_that_is_resized_nothing_is_left_behind_and_no_line_is_broken,
);

async fn why_a_build_waits_is_told(backend: Backend) {
    let (service, admin) = admin(backend).await;
    let ada = Person::of(&service, &service.user("ada").await);
    admin.run("user set ada --quota builds_running=1").well();
    let first = ada.say("FROM busybox\nRUN sleep 600\n", "build - --no-push --no-cache --detach").well();
    let first = first.out.trim_end().to_owned();
    service.until(&serde_json::json!({"id": first}), |build| build["state"] == "building").await;
    let context = folder(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let mut command = ada.command("build --no-push", &[text(context.path())]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut told = BufReader::new(child.stderr.take().expect("piped"));
    let (mut line, mut before) = (String::new(), String::new());
    while !line.starts_with("waits: ") {
        before += &line;
        line.clear();
        assert!(told.read_line(&mut line).expect("text") > 0, "it ended: {before}");
    }
    assert!(line.contains("quota builds_running: the limit is 1"), "{line}");
    let second = id_in(&before).to_owned();
    let shown = ada.shows(&format!("inspect {second}"));
    assert!(shown.contains("quota builds_running") && shown.contains("queue.waits_for"), "{shown}");
    let mut terminal = at_terminal(&ada, "build --no-push", text(context.path()), 120);
    terminal.until("quota builds_running: the limit is 1");
    ada.run(&format!("cancel {first}")).well();
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{rest}");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown}");
}

async fn of_a_superseded_tag_is_told_that_it_is(backend: Backend) {
    let (service, admin) = admin(backend).await;
    let name = format!("{}/{}", registry(), unique("told"));
    let (old, moved) = (format!("{name}:1"), format!("{name}:latest"));
    let tag: ImageRef = moved.parse().expect("an image");
    // A younger build of the same account has it.
    let owner = service.get("/api/v1/me").await["name"].as_str().and_then(|name| name.parse().ok()).expect("a name");
    let push = TagPush { order: 1 << 40, build: BuildId::new(), owner, digest: None };
    service.store.enter_tag_push(&tag, &push).await.expect("entered");
    let context = folder(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let line = format!("build -t {old} -t {moved} --metadata-file {}", text(file.path()));
    let built = ended(admin.command(&line, &[text(context.path())])).well();
    let words = format!("{moved} is not published: it was superseded by build {}", push.build);
    assert!(built.err.contains(&words) && !built.out.contains(&moved), "{}{}", built.out, built.err);
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).expect("is there")).expect("JSON");
    assert_eq!(told["image.name"], old);
    let all = ended(admin.command(&format!("build -t {moved}"), &[text(context.path())]));
    assert!(all.code == 1 && all.out.is_empty() && all.err.contains("Superseded by build"), "{} {}", all.code, all.err);
}

async fn the_sending_of_a_folder_is_seen(backend: Backend) {
    let service = service::start(backend).await;
    let gate = Gate::before(Behind::Tcp(service.address.to_string()), "POST /api/v1/builds HTTP", 100_000).await;
    let through = Person::at(&format!("http://{}", gate.address), &service.token);
    let context = folder(&[("Dockerfile", "FROM busybox\nCOPY big /\n"), ("big", &"x".repeat(4_000_000))]);
    let mut terminal = at_terminal(&through, "build --no-push --full-upload", text(context.path()), 120);
    gate.reached().await;
    terminal.until("Sending the context");
    terminal.until("[===");
    gate.open();
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown}");
    // In pieces: while the service is asked what it has, nothing is sent yet.
    let gate = Gate::before(Behind::Tcp(service.address.to_string()), "POST /api/v1/contexts HTTP", 0).await;
    let through = Person::at(&format!("http://{}", gate.address), &service.token);
    let mut terminal = at_terminal(&through, "build --no-push", text(context.path()), 120);
    gate.reached().await;
    terminal.until("Reading the folder");
    assert!(!terminal.shown().contains("Sending"), "{}", terminal.shown());
    gate.open();
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown}");
}

/// A window of tmux with one command in it. Dropping it ends both.
struct Window(String);

impl Window {
    fn open(command: &Command, columns: u16, rows: u16) -> Self {
        let window = Self(unique("dockwright"));
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().expect("text")))
            .collect();
        // The window is full when it begins: what is empty below would push out at the top when the window becomes narrower.
        let script = format!("seq {rows}; {}; echo ended-$?; cat", words.join(" "));
        let mut tmux = window.tmux();
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let opened = tmux.args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, &script]).status();
        assert!(opened.expect("tmux; install it").success());
        window
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.0]);
        tmux
    }

    /// Between two of the command's writes: what it has written for the old window and the new one shows is nobody's to mend.
    async fn resize(&self, columns: u16, rows: u16) {
        let children = format!("/proc/{0}/task/{0}/children", self.asked("#{pane_pid}"));
        let command = std::fs::read_to_string(children).expect("the shell runs");
        let command = Pid::from_raw(command.trim().parse().expect("one child")).expect("an id");
        kill_process(command, Signal::STOP).expect("it runs");
        let mut shown = self.shows();
        watch("all that it has written is shown", || std::mem::replace(&mut shown, self.shows()) == shown).await;
        let (width, height) = (columns.to_string(), rows.to_string());
        assert!(self.tmux().args(["resize-window", "-x", &width, "-y", &height]).status().expect("tmux").success());
        let terminal = std::fs::File::open(self.asked("#{pane_tty}")).expect("a terminal");
        watch("the terminal has that size", || {
            let size = tcgetwinsize(&terminal).expect("a size");
            (size.ws_col, size.ws_row) == (columns, rows)
        })
        .await;
        kill_process(command, Signal::CONT).expect("it is there");
    }

    fn asked(&self, what: &str) -> String {
        let told = self.tmux().args(["display-message", "-p", what]).output().expect("tmux").stdout;
        String::from_utf8(told).expect("text").trim().to_owned()
    }

    /// What stands there, from the first line on that has scrolled away.
    fn shows(&self) -> String {
        let captured = self.tmux().args(["capture-pane", "-p", "-J", "-S", "-"]).output().expect("tmux");
        String::from_utf8(captured.stdout).expect("text")
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").status();
    }
}

async fn in_a_window_that_is_resized_nothing_is_left_behind_and_no_line_is_broken(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let step = "RUN i=0; while [ ! -e /tmp/never ] && [ $i -lt 40 ]; do echo line-$i-that-is-much-wider-than-any-of-these-windows; \
        i=$((i+1)); sleep 0.1; done";
    let context = folder(&[("Dockerfile", &own(&format!("{step}\nRUN echo of-the-last-step\n")))]);
    let mut command = admin.command("build --no-push --no-cache", &[text(context.path())]);
    command.env("TERM", "screen").env_remove("NO_COLOR");
    let window = Window::open(&command, 50, 16);
    watch("it is shown live", || window.shows().contains(" => => # line-5-")).await;
    assert!(window.shows().lines().all(|line| line.chars().count() < 50), "{}", window.shows());
    // As high as before: what a terminal pushes out at its top is taken back by nobody.
    window.resize(30, 16).await;
    watch("it goes on, narrower", || window.shows().contains(" => => # line-20-")).await;
    window.resize(70, 20).await;
    watch("it ends", || window.shows().contains("ended-")).await;
    let shown = window.shows();
    assert!(shown.contains("ended-0") && shown.contains("sha256:"), "{shown}");
    let left: Vec<&str> = shown.lines().filter(|line| line.starts_with("[+]") || line.starts_with(" => => #")).collect();
    assert_eq!(left, [""; 0], "of the block nothing is left: {shown}");
    // The number before FROM is of whichever build had that step first: the engine shares it.
    for part in ["] FROM", "[2/3] RUN", "[3/3] RUN"] {
        assert_eq!(shown.matches(part).count(), 1, "{part}, once: {shown}");
    }
    let whole = |line: &&str| {
        [" => ", "sha256:", "ended-0"].iter().any(|start| line.starts_with(start))
            || line.trim().parse::<u16>().is_ok()
            || line.trim().is_empty()
    };
    assert!(shown.lines().all(|line| whole(&line)), "{shown}");
}
