//! A terminal, as a window or a connection gives it to a program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::support::watch;

/// A terminal with one program at it. Dropping it ends the program.
pub struct Pty {
    child: Child,
    /// The window's side. None when the window was closed.
    window: Option<File>,
    /// The program's side, so that it can be looked at when the program has ended.
    program: OwnedFd,
    bytes: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
    before: String,
}

impl Pty {
    /// Starts a command at a terminal of this many columns and rows.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&window).expect("granted");
        unlockpt(&window).expect("unlocked");
        let name = ptsname(&window, Vec::new()).expect("a name");
        let program = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("its other side");
        resize(&program, columns, rows);
        let before = settings(&program);
        let side = || std::process::Stdio::from(program.try_clone().expect("a copy"));
        // A session of its own, with this as its terminal: as a log-in makes it. It becomes the command, and keeps the process's id.
        let mut at_terminal = Command::new("setsid");
        at_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => at_terminal.env(name, value),
                None => at_terminal.env_remove(name),
            };
        }
        let child = at_terminal.stdin(side()).stdout(side()).stderr(side()).spawn().expect("setsid runs");
        let window = File::from(window);
        let mut screen = window.try_clone().expect("a copy");
        let (sender, bytes) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, window: Some(window), program, bytes, seen: Vec::new(), before }
    }

    pub fn send(&mut self, keys: &str) {
        self.window.as_mut().expect("it is open").write_all(keys.as_bytes()).expect("takes keys");
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.program, columns, rows);
    }

    /// Everything that was shown until `text` was.
    pub fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = String::from_utf8_lossy(&self.seen).into_owned();
            if shown.contains(text) {
                return shown;
            }
            let more = self.bytes.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            self.seen.extend(more.unwrap_or_else(|_| panic!("never {text:?}: {shown:?}")));
        }
    }

    /// What was waited for so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Forgets what was shown so far.
    pub fn clear(&mut self) {
        self.seen.clear();
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// Waits until the program handles interrupts itself (`SigCgt` of proc(5)).
    pub async fn watches_signals(&self) {
        const INTERRUPT: u64 = 1 << 1;
        let file = format!("/proc/{}/status", self.child.id());
        let catches = || {
            let status = std::fs::read_to_string(&file).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
            mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & INTERRUPT != 0)
        };
        watch("it catches interrupts", catches).await;
    }

    /// Whether the program changed how the terminal treats keys.
    pub fn is_changed(&self) -> bool {
        settings(&self.program) != self.before
    }

    /// Waits for the program's end; what it has shown all in all.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it never ends: {:?}", String::from_utf8_lossy(&self.seen));
            if let Ok(more) = self.bytes.recv_timeout(Duration::from_millis(20)) {
                self.seen.extend(more);
            }
        };
        while let Ok(more) = self.bytes.recv_timeout(Duration::from_millis(100)) {
            self.seen.extend(more);
        }
        (status, String::from_utf8_lossy(&self.seen).into_owned())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).expect("resized");
}

fn settings(terminal: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(terminal).expect("a terminal's settings"))
}
