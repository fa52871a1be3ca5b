//! The real binary, as processes that can be killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One `dockwright` process. Dropping it kills it.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// `dockwright ARGS`; nothing of the caller's settings is inherited.
    pub fn start(args: &[&str], data_dir: &Path) -> Self {
        Self::start_with(args, data_dir, &[])
    }

    /// The same, with this environment on top.
    pub fn start_with(args: &[&str], data_dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockwright"));
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("DOCKWRIGHT_") && !name.starts_with("DOCKWRIGHT_TEST_"))
        {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).args(args).arg("--data-dir").arg(data_dir).args([
            "--min-free-disk",
            "1m",
            "--disk-high",
            "100",
        ]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads the process's log until a line holds `text`; the line.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("the process never said {text:?}: {:#?}", self.seen)
    }

    /// Whoever reads its log goes away.
    pub fn unread(&mut self) {
        let (_, none) = mpsc::channel();
        self.lines = none;
    }

    /// The address it serves on.
    pub fn address(&mut self) -> String {
        let line = self.wait_for("serving on");
        line.rsplit("://").next().expect("an address").trim().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGTERM and answers all that it logged.
    pub fn ended_log(mut self) -> String {
        self.signal("-TERM");
        self.child.wait().expect("ends");
        self.seen.extend(self.lines.iter());
        self.seen.join("\n")
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("ends")
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "the runner shows it with a failure")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.seen.extend(self.lines.iter());
            eprintln!("what the process logged:\n{}", self.seen.join("\n"));
        }
    }
}
