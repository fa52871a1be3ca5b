//! Git sources: a commit is fetched, and becomes a context like one that was uploaded.
//!
//! ```text
//! url       what docker build writes: HOST, PATH, REF, SUBDIR
//! address   may we go there? the name is resolved and its addresses are pinned      (egress)
//! fetch     `git fetch --depth 1` of the one reference into a bare repository       bounded in time, bytes and memory
//! tree      `git ls-tree` and `git cat-file` → a tar, entry by entry                bounded in entries and bytes
//! ```
//!
//! Nothing is ever checked out: no working tree, no hooks, no filters, no links on our disk. Files are as they are committed, and all have
//! the time of the commit, so that the same commit makes the same context. `.git` is no part of it, as with `docker build`.
//! Submodules are fetched in the same way, each by the rules for its own address.
//!
//! | code | |
//! |---|---|
//! | `git_url` | the URL, or that of a submodule, cannot be |
//! | `git_host_refused` | the host is none that we go to |
//! | `git_unreachable` (502) | it does not answer, or not as it should: tried three times |
//! | `git_certificate` (502) | nobody whom we trust vouches for it |
//! | `git_authentication` `git_not_found` `git_redirect` | the server asks for (other) credentials, has no such repository, sends us elsewhere |
//! | `git_ref_missing` `git_subdir_missing` | no such branch, tag, commit or folder |
//! | `git_submodule` | a submodule that cannot be found, or too many |
//! | `git_unsafe` | objects that git itself refuses |
//! | `git_timeout` (504) | it took longer than `git-timeout` |
//! | `git_too_large` (413) | more than an upload may have |
//! | `git_failed` | anything else that git says |
//! | `git_busy` (429, 503) `git_missing` (503) | too many at once; there is no git on this machine |

mod address;
mod fault;
mod fetch;
mod process;
mod submodules;
mod tree;
mod turns;
mod url;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::archive::ArchiveLimits;
use super::storage::{ContextStorage, Received};
use crate::domain::{Credentials, GitInfo, Owner};
use crate::egress::Egress;
use crate::error::{Error, Result};

pub use process::installed;
use turns::Turns;
pub use url::{GitUrl, Repository};
use work::Work;

/// What an operator sets.
#[derive(Debug, Clone)]
pub struct GitSettings {
    pub egress: Egress,
    /// A file with certificates, in PEM, that stand in for the machine's own authorities.
    pub authorities: Option<PathBuf>,
    /// Longest time of one fetch with its submodules.
    pub timeout: Duration,
    /// Most fetches under way at once; one owner has half of them at most.
    pub at_once: usize,
}

/// Fetches git sources.
#[derive(Debug)]
pub struct GitSources {
    settings: GitSettings,
    turns: Turns,
}

/// What is to be fetched, for whom.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub url: GitUrl,
    pub owner: Owner,
    /// Each is shown to its own host alone.
    pub credentials: Vec<Credentials>,
    /// Most bytes of what comes over the network, and of the context.
    pub bytes: u64,
    pub limits: ArchiveLimits,
}

/// A commit as a context.
pub struct Fetched {
    pub received: Received,
    pub info: GitInfo,
}

impl GitSources {
    #[must_use]
    pub fn new(settings: GitSettings) -> Self {
        Self { turns: Turns::new(settings.at_once), settings }
    }

    /// Fetches a commit and keeps it like an upload that has arrived. A caller that goes away ends it.
    ///
    /// # Errors
    /// See the module's page for the codes.
    pub async fn fetch(self: &Arc<Self>, storage: &ContextStorage, wanted: Wanted) -> Result<Fetched> {
        let turn = self.turns.take(&wanted.owner).await?;
        let gone = CancellationToken::new();
        let _when_dropped = gone.clone().drop_guard();
        let limit = self.settings.timeout;
        let watch = Watch { deadline: Instant::now() + limit, limit, gone };
        let (settings, storage) = (self.settings.clone(), storage.clone());
        // A task of its own, so that what was started is ended and removed in order, whoever goes away.
        let work = async move {
            let fetched = Work::begin(settings, storage, wanted, watch).await?.run().await;
            drop(turn);
            fetched
        };
        tokio::spawn(work).await.map_err(Error::internal)?
    }
}

/// When to give up.
#[derive(Debug, Clone)]
struct Watch {
    deadline: Instant,
    limit: Duration,
    gone: CancellationToken,
}

impl Watch {
    /// Answers, with the reason, as soon as it is time to give up.
    async fn over(&self) -> Error {
        tokio::select! {
            () = tokio::time::sleep_until(self.deadline) => {
                let limit = humantime::format_duration(self.limit);
                let detail = format!("git: took longer than the limit of {limit} (git-timeout)");
                Error::GatewayTimeout { code: "git_timeout", detail }
            }
            () = self.gone.cancelled() => Error::ClientTimeout("the caller went away".into()),
        }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! { biased; done = work => done, over = self.over() => Err(over) }
    }
}
