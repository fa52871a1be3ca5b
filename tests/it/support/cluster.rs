//! Several processes on one store and one data folder.

use super::client::Client;
use super::process::Process;
use super::{redis_url, unique};

/// Processes that share a prefix in Redis and a data folder.
pub struct Cluster {
    data: tempfile::TempDir,
    prefix: String,
    redis: String,
}

impl Cluster {
    pub fn new() -> Self {
        Self { data: tempfile::tempdir().expect("a folder"), prefix: unique("cluster"), redis: redis_url() }
    }

    /// One process; `more` are further arguments of `serve`.
    pub fn start(&self, role: &str, more: &[&str]) -> Process {
        self.start_with(role, more, &[])
    }

    /// The same, with this environment on top.
    pub fn start_with(&self, role: &str, more: &[&str], environment: &[(&str, &str)]) -> Process {
        let shared = ["--store", &self.redis, "--store-prefix", &self.prefix, "--listen", "127.0.0.1:0"];
        Process::start_with(&[&["serve", "--role", role], &shared[..], more].concat(), self.data.path(), environment)
    }

    pub fn client(&self, api: &mut Process) -> Client {
        Client::new(&tokio::task::block_in_place(|| api.address()), self.data.path())
    }
}
