//! An engine of a test's own, to be stopped and started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::watch;

/// A `dockerd` on a socket and in a folder of its own, with neither bridge nor firewall rules. Stopped when dropped.
///
/// It lives in a network namespace of its own: a `dockerd --bridge=none` removes the machine's `docker0`, which is another engine's.
pub struct OwnEngine {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl OwnEngine {
    /// Starts it, and gives it the base image.
    pub async fn start() -> Self {
        let mut engine = Self { dir: tempfile::tempdir().expect("a folder"), child: None };
        engine.restart().await;
        let mut image =
            Command::new("docker").args(["save", "busybox:latest"]).stdout(Stdio::piped()).spawn().expect("the docker client");
        let loaded = engine.docker(&["load"]).stdin(image.stdout.take().expect("piped")).stdout(Stdio::null()).status();
        assert!(loaded.expect("the docker client").success(), "busybox:latest is loaded");
        assert!(image.wait().expect("the docker client").success(), "busybox:latest is saved");
        engine
    }

    /// Starts it on the data that it had.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let at = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::create(at("log")).expect("a file");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "dockerd", "--host"])
            .arg(self.address())
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"));
        command.arg("--pidfile").arg(at("pid")).args([
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("dockerd starts"));
        let ping = || {
            self.docker(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        watch("dockerd answers", ping).await;
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What `docker ARGS` prints.
    pub fn prints(&self, args: &[&str]) -> String {
        let output = self.docker(args).output().expect("the docker client");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.address()).args(args);
        command
    }

    /// Sends it a signal by name (`-STOP`).
    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// SIGKILL: what it was doing is left as it is.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        let _ = self.child.take().expect("it runs").wait();
        // Its containerd is killed with it. Until somebody asks how that one ended, the next dockerd takes it to be running.
        let _ = std::fs::remove_file(self.dir.path().join("exec/containerd/containerd.pid"));
    }

    /// Where it keeps its containers and volumes.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.stop();
    }
}
