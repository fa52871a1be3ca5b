//! One git source, from its URL to a context on the disk.

use std::collections::VecDeque;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::address::Remote;
use super::fault::{may_pass, of_context, refused, too_large};
use super::fetch::{Bounds, Commit, bytes_in, fetch};
use super::process::{Local, installed, missing};
use super::submodules::Submodules;
use super::tree::{Link, Part, Totals, survey, write};
use super::url::Repository;
use super::{Fetched, GitSettings, Wanted, Watch};
use crate::context::fault::ContextError;
use crate::context::storage::{ContextStorage, Received};
use crate::context::stream::write::TarWriter;
use crate::domain::limits::GIT_SUBMODULES;
use crate::domain::{GitInfo, Timestamp};
use crate::error::{Error, Result};

/// Chunks between the reading of objects and the writing of the context.
const CHUNKS: usize = 4;
/// How deep submodules of submodules go.
const DEPTH: usize = 8;
/// The pauses before a server that is in trouble is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1500)];

pub(super) struct Work {
    settings: GitSettings,
    storage: ContextStorage,
    wanted: Wanted,
    watch: Watch,
    /// Removed when this is dropped.
    folder: TempDir,
    repositories: usize,
    totals: Totals,
}

/// A part whose links to other repositories are still to be followed.
struct Open {
    part: Part,
    repository: Repository,
    commit: String,
    /// Where the part's tree is in its own repository.
    inside: String,
    links: Vec<Link>,
    depth: usize,
}

impl Work {
    pub(super) async fn begin(settings: GitSettings, storage: ContextStorage, wanted: Wanted, watch: Watch) -> Result<Self> {
        installed().await.map_err(|why| missing(&why))?;
        let folder = storage.folder().await?;
        Ok(Self { settings, storage, wanted, watch, folder, repositories: 0, totals: Totals::default() })
    }

    pub(super) async fn run(mut self) -> Result<Fetched> {
        let url = self.wanted.url.clone();
        let (local, commit) = self.fetch(&url.repository, url.reference.as_deref()).await?;
        let inside = url.subdir.clone().unwrap_or_default();
        let tree = tree_at(&local, &commit.hash, &inside, &url.repository).await?;
        let parts = self.parts(Part { local, tree, at: String::new() }, &url.repository, &commit.hash, inside).await?;
        let received = self.pack(parts, commit.committed_at).await?;
        let info = GitInfo {
            url: url.repository.to_string(),
            reference: url.reference,
            commit: commit.hash,
            subdir: url.subdir,
            committed_at: commit.committed_at,
        };
        Ok(Fetched { received, info })
    }

    /// Tries again what may pass.
    async fn fetch(&mut self, repository: &Repository, reference: Option<&str>) -> Result<(Local, Commit)> {
        for pause in PAUSES {
            match self.fetch_once(repository, reference).await {
                Err(error) if may_pass(&error) => tracing::debug!(%repository, %error, "the git server is asked again"),
                done => return done,
            }
            let pause = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.watch.within(pause).await?;
        }
        self.fetch_once(repository, reference).await
    }

    async fn fetch_once(&mut self, repository: &Repository, reference: Option<&str>) -> Result<(Local, Commit)> {
        let find = Remote::find(&self.settings, repository.clone(), &self.wanted.credentials);
        let remote = self.watch.within(find).await?;
        let left = self.wanted.bytes.saturating_sub(bytes_in(self.folder.path()));
        if left == 0 {
            return Err(too_large(self.wanted.bytes));
        }
        let local = Local::make(self.folder.path().join(self.repositories.to_string())).await?;
        let bounds = Bounds { watch: &self.watch, storage: &self.storage, bytes: left };
        match fetch(&local, &remote, reference, &bounds).await {
            Ok(commit) => {
                self.repositories += 1;
                Ok((local, commit))
            }
            Err(error) => {
                // What an end in the middle has left is in the way of another try; at the latest it goes with the folder around it.
                let _ = tokio::fs::remove_dir_all(local.folder()).await;
                Err(error)
            }
        }
    }

    /// The context's own part, and those of all submodules below it.
    async fn parts(&mut self, root: Part, repository: &Repository, commit: &str, inside: String) -> Result<Vec<Part>> {
        let links = self.survey(&root).await?;
        let first = Open { part: root, repository: repository.clone(), commit: commit.to_owned(), inside, links, depth: 0 };
        let (mut open, mut parts) = (VecDeque::from([first]), Vec::new());
        while let Some(next) = open.pop_front() {
            if !next.links.is_empty() {
                self.follow(&next, &mut open).await?;
            }
            parts.push(next.part);
        }
        Ok(parts)
    }

    async fn follow(&mut self, from: &Open, open: &mut VecDeque<Open>) -> Result<()> {
        if from.depth == DEPTH {
            return Err(refused("git_submodule", format!("{}: submodules go deeper than {DEPTH}", from.repository)));
        }
        let submodules = Submodules::of(&from.part.local, &from.commit, &from.repository).await?;
        for link in &from.links {
            // Counted with the repository that is the source itself.
            if self.repositories > GIT_SUBMODULES {
                return Err(refused("git_submodule", format!("there are more than {GIT_SUBMODULES} submodules")));
            }
            let repository = submodules.at(&joined(&from.inside, &link.path))?;
            let (local, commit) = self.fetch(&repository, Some(&link.commit)).await?;
            let tree = tree_at(&local, &commit.hash, "", &repository).await?;
            let part = Part { local, tree, at: joined(&from.part.at, &link.path) };
            let links = self.survey(&part).await?;
            open.push_back(Open { part, repository, commit: commit.hash, inside: String::new(), links, depth: from.depth + 1 });
        }
        Ok(())
    }

    async fn survey(&mut self, part: &Part) -> Result<Vec<Link>> {
        let (part, limits, mut totals) = (part.clone(), self.wanted.limits.clone(), self.totals);
        let listing = tokio::task::spawn_blocking(move || survey(&part, &mut totals, &limits).map(|links| (links, totals)));
        let listed = self.watch.within(async { listing.await.map_err(Error::internal) }).await?;
        let (links, totals) = listed.map_err(told)?;
        self.totals = totals;
        Ok(links)
    }

    /// Writes all parts into one tar, which is kept like an upload.
    async fn pack(&self, parts: Vec<Part>, time: Timestamp) -> Result<Received> {
        let mtime = u64::try_from(time.as_millis() / 1000).unwrap_or(0);
        let mut incoming = self.storage.begin(self.wanted.bytes).await?;
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        tokio::task::spawn_blocking(move || {
            let mut writer = TarWriter::new(sender);
            let written = parts.iter().try_for_each(|part| write(part, mtime, &mut writer));
            if let Err(error) = written.and_then(|()| writer.finish().map_err(ContextError::Io)) {
                writer.fail(error.into());
            }
        });
        let keep = async {
            while let Some(chunk) = chunks.recv().await {
                incoming.write(chunk.map_err(|error| told(ContextError::reading(error)))?).await?;
            }
            incoming.finish().await
        };
        self.watch.within(keep).await
    }
}

fn told(error: ContextError) -> Error {
    match error {
        ContextError::Refused(fault) => of_context(fault),
        other => other.into(),
    }
}

fn joined(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// The tree of a commit, or of a folder of it. A path never leads through a link: git looks it up in its trees.
async fn tree_at(local: &Local, commit: &str, folder: &str, url: &Repository) -> Result<String> {
    let missing = |why: &str| refused("git_subdir_missing", format!("{url}: {folder:?} {why} of commit {commit}"));
    let listed = match folder {
        "" => local.ask(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")]).await?,
        folder => local.ask(&["ls-tree", "-z", "--full-tree", "--end-of-options", commit, "--", folder]).await?,
    };
    let listed = listed.ok_or_else(|| refused("git_failed", format!("{url}: commit {commit} cannot be read")))?;
    if folder.is_empty() {
        return Ok(listed.trim().to_owned());
    }
    let mut fields = listed.split(['\t', '\0']).next().unwrap_or_default().split(' ');
    match (fields.next(), fields.next(), fields.next()) {
        (Some("040000"), Some("tree"), Some(hash)) => Ok(hash.to_owned()),
        (Some("120000"), ..) => Err(missing("is a symbolic link, which is not followed, and no folder")),
        (Some("160000"), ..) => Err(missing("is a submodule (name its own repository) and no folder")),
        (Some(mode), ..) if !mode.is_empty() => Err(missing("is a file and no folder")),
        _ => Err(missing("is no folder")),
    }
}
