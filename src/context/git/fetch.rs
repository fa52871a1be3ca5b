//! One reference out of one repository.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr};

use super::Watch;
use super::address::Remote;
use super::fault::{gives_names_only, of_fetch, refused, too_large};
use super::process::{Local, not_started};
use super::url::is_hash;
use crate::context::storage::ContextStorage;
use crate::domain::Timestamp;
use crate::error::{Error, Result};

/// What was fetched stands under this name.
const FETCHED: &str = "refs/dockwright/source";
/// As deep as git counts (its `INFINITE_DEPTH`): the whole history, and nothing without a depth, for the old protocol of plain files knows
/// none and so is never spoken; it would let a server send us to other hosts.
const ALL: &str = "--depth=2147483647";
/// Memory of each of git's processes, in bytes.
const MEMORY: u64 = 1 << 30;
/// What git says that is kept, in bytes.
const SAID: u64 = 64 * 1024;
/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The commit that a reference named.
pub(super) struct Commit {
    pub hash: String,
    pub committed_at: Timestamp,
}

/// What one fetch may take.
pub(super) struct Bounds<'a> {
    pub watch: &'a Watch,
    pub storage: &'a ContextStorage,
    /// Most bytes on the disk.
    pub bytes: u64,
}

/// Fetches what `reference` names (the default branch, if nothing), without its history.
///
/// # Errors
/// See the page of [`super`].
pub(super) async fn fetch(local: &Local, remote: &Remote, reference: Option<&str>, bounds: &Bounds<'_>) -> Result<Commit> {
    let wanted = match reference {
        None => "default branch".to_owned(),
        Some(name) if is_hash(name) => format!("commit {name}"),
        Some(name) => format!("branch or tag {name:?}"),
    };
    let by_name = format!("+{}:{FETCHED}", reference.unwrap_or("HEAD"));
    let (status, said) = call(local, remote, &["--depth=1"], &[&by_name], bounds).await?;
    if status.success() {
        return look_up(local, FETCHED, &remote.repository.to_string()).await;
    }
    let Some(hash) = reference.filter(|name| is_hash(name) && gives_names_only(&said)) else {
        return Err(of_fetch(remote, &wanted, &said));
    };
    // An old server gives only what has a name: everything with a name, then, and the commit out of it.
    let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    let (status, said) = call(local, remote, &[ALL], &all, bounds).await?;
    if !status.success() {
        return Err(of_fetch(remote, &wanted, &said));
    }
    look_up(local, hash, &remote.repository.to_string()).await
}

async fn look_up(local: &Local, name: &str, url: &str) -> Result<Commit> {
    let said = local.ask(&["log", "-1", "--no-show-signature", "--format=%H %ct", "--end-of-options", name, "--"]).await?;
    let missing = || refused("git_ref_missing", format!("{url}: what was asked for is no commit, or is not there"));
    let said = said.ok_or_else(missing)?;
    let (hash, seconds) = said.trim().split_once(' ').ok_or_else(missing)?;
    if !is_hash(hash) {
        return Err(missing());
    }
    // A commit may claim any time; one that no calendar has is none.
    let seconds = seconds.parse::<i64>().ok().filter(|seconds| (0..253_402_300_800).contains(seconds)).unwrap_or(0);
    Ok(Commit { hash: hash.to_owned(), committed_at: Timestamp::from_millis(seconds * 1000) })
}

/// Runs one `git fetch`; how it ended and what it said.
async fn call(
    local: &Local,
    remote: &Remote,
    options: &[&str],
    refspecs: &[&str],
    bounds: &Bounds<'_>,
) -> Result<(ExitStatus, String)> {
    let mut command = local.command_to(remote);
    command.args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]).args(options);
    command.arg("--end-of-options").arg(remote.repository.to_string()).args(refspecs);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(not_started)?;
    let stderr = child.stderr.take().expect("piped, because it was asked for");
    let mut fetching = Fetching { child, stderr };
    fetching.confine(bounds.bytes).map_err(Error::internal)?;
    let mut said = Vec::new();
    let ended = tokio::select! {
        biased;
        over = bounds.watch.over() => Err(over),
        full = full(local.folder(), bounds) => Err(full),
        ended = fetching.end(&mut said) => ended.map_err(Error::internal),
    };
    if ended.is_err() {
        fetching.kill().await;
    }
    let status = ended?;
    // A file that came to the limit was cut off there; git itself tells only that its helper ended.
    if !status.success() && bytes_in(local.folder()) >= bounds.bytes {
        return Err(too_large(bounds.bytes));
    }
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Answers when the disk has no more room for the fetch.
async fn full(folder: &Path, bounds: &Bounds<'_>) -> Error {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if let Err(error) = bounds.storage.check_room() {
            return error;
        }
        if bytes_in(folder) > bounds.bytes {
            return too_large(bounds.bytes);
        }
    }
}

/// Bytes of all files below a folder of ours.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { bytes_in(&entry.path()) } else { meta.len() })
    });
    sizes.sum()
}

/// A `git fetch` with the processes that it starts: a group of their own, so that they end together.
struct Fetching {
    child: Child,
    stderr: ChildStderr,
}

impl Fetching {
    fn group(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    }

    /// Bounds every file that is written and the memory of each process: also what it starts, which is later than this.
    fn confine(&self, bytes: u64) -> std::io::Result<()> {
        for (resource, most) in [(Resource::Fsize, bytes), (Resource::Data, MEMORY), (Resource::Core, 0)] {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            match self.group().map(|pid| prlimit(Some(pid), resource, limit)) {
                // It is over already.
                None | Some(Err(rustix::io::Errno::SRCH)) => {}
                Some(done) => drop(done?),
            }
        }
        Ok(())
    }

    /// Waits for the end of all of it: each of its processes holds the other end of what it says.
    async fn end(&mut self, said: &mut Vec<u8>) -> std::io::Result<ExitStatus> {
        (&mut self.stderr).take(SAID).read_to_end(said).await?;
        tokio::io::copy(&mut self.stderr, &mut tokio::io::sink()).await?;
        self.child.wait().await
    }

    async fn kill(mut self) {
        self.signal();
        // They are gone in a moment; their folder is removed after that.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.end(&mut Vec::new())).await;
    }

    fn signal(&self) {
        if let Some(group) = self.group() {
            // Fails only when nobody is left in it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.signal();
    }
}
