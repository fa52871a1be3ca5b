//! Settings that contradict each other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Config, Role, StoreUrl};
use crate::domain::limits;
use crate::domain::quantity::{Bytes, Cpus};

impl Config {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.workers == 0 {
            bail!("workers: must be at least 1");
        }
        if self.keep_runs == 0 {
            bail!("keep_runs: must be at least 1");
        }
        if self.role != Role::All && matches!(self.store, StoreUrl::Sqlite) {
            bail!(
                "role: api and worker share a store, and the embedded one serves a single process; set store to a redis:// URL"
            );
        }
        if self.lease.0 < Duration::from_secs(1) {
            bail!("lease: must be at least 1s");
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            bail!("tls_cert, tls_key: one goes with the other");
        }
        if self.build_timeout.0 > self.max_build_timeout.0 {
            bail!("build_timeout: is longer than max_build_timeout");
        }
        if self.webhook_retry.0.is_zero() {
            bail!("webhook_retry: must be more than 0");
        }
        for (name, many) in [("keep_builds", self.keep_builds), ("keep_days", self.keep_days)] {
            if many == Some(0) {
                bail!("{name}: must be at least 1");
            }
        }
        if self.disk_low > self.disk_high || self.disk_high > 100 {
            let (low, high) = (self.disk_low, self.disk_high);
            bail!("disk_low, disk_high: are {low} and {high}; they must be percents, the low one not above the high one");
        }
        if self.max_fetches == 0 {
            bail!("max_fetches: must be at least 1");
        }
        // What is older than an hour in the folder of uploads under way is taken for what a crash has left.
        if self.git_timeout.0 > Duration::from_secs(1800) {
            bail!("git_timeout: must be at most 30m");
        }
        self.check_git_ca()?;
        self.check_containers()
    }

    /// Git says nothing of a file that it cannot use until it meets a server.
    fn check_git_ca(&self) -> anyhow::Result<()> {
        let Some(file) = &self.git_ca else { return Ok(()) };
        let text = std::fs::read_to_string(file).with_context(|| format!("git_ca: cannot read {}", file.display()))?;
        if !file.is_absolute() || !text.contains("-----BEGIN CERTIFICATE-----") {
            bail!("git_ca: {} must be an absolute path of a file with certificates in PEM", file.display());
        }
        Ok(())
    }

    fn check_containers(&self) -> anyhow::Result<()> {
        if self.container_memory < Bytes(limits::LEAST_MEMORY_BYTES) {
            bail!("container_memory: must be at least {}", Bytes(limits::LEAST_MEMORY_BYTES));
        }
        if self.container_memory > self.max_container_memory {
            bail!("container_memory: is more than max_container_memory");
        }
        if self.container_cpus > self.max_container_cpus {
            bail!("container_cpus: is more than max_container_cpus");
        }
        if self.container_cpus < Cpus(limits::LEAST_MILLI_CPUS) {
            bail!("container_cpus: must be at least {}", Cpus(limits::LEAST_MILLI_CPUS));
        }
        if self.max_container_pids == 0 {
            bail!("max_container_pids: must be at least 1");
        }
        let plain = |root: &PathBuf| {
            let named = root.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
            root.is_absolute() && named && root.parent().is_some()
        };
        match self.bind_roots.iter().find(|root| !plain(root)) {
            Some(root) => bail!("bind_roots: {} must be absolute, without .., and not /", root.display()),
            None => Ok(()),
        }
    }
}
