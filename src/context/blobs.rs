//! Contexts in pieces: a manifest names the entries of a context, and the bytes of each distinct file are a blob, known by its
//! SHA-256 and kept once for an owner. Every path is made here:
//!
//! ```text
//! ROOT/manifests/OWNER/ID     a manifest that builds may be made of until it expires
//! ROOT/contexts/BUILD         the same, kept by a build (see super::storage)
//! ROOT/blobs/OWNER/SHA256     bytes that were checked when they came
//! ROOT/incoming/RANDOM        blobs that are being written
//! ROOT/locks/OWNER            held by whoever changes what is referenced, or looks for what is not
//! ```
//!
//! - **A blob is there whole or not at all**: it is checked and synced, then renamed. So it is not checked again when it is read.
//! - **References** are the manifests that have not expired and those that builds keep; there is no count that could go wrong.
//!   The collector reads them under the owner's lock, and under the same lock a manifest is written *before* it is told which blobs are
//!   missing: what a client was told to be there stays for the manifest's life.
//! - **Nobody shares**: a blob of another owner neither helps nor shows, so a hash alone gives access to nothing.
//!
//! What is known of a blob is its name, its length and its time: an object store has the same three.

mod changes;
mod collect;
mod coming;
mod intake;
mod kept;
mod tar;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::archive::{ArchiveLimits, CONTENT_BUFFER, Sum, Walk};
use super::fault::{ContextError, ContextFault};
use super::storage::{Received, blocking, free_bytes, persist, remove_if_there, storing};
use crate::domain::{BuildId, ManifestId, Owner, Timestamp};
use crate::error::{Error, Result};

use collect::Heads;
use coming::Coming;
pub use coming::Reserved;
pub use intake::BlobIntake;
use kept::Head;
pub use kept::{Coding, MANIFEST_BYTES};

const BLOBS: &str = "blobs";
const MANIFESTS: &str = "manifests";
const LOCKS: &str = "locks";

/// Each blob that a manifest names, once, with its size.
type Wants = Vec<(Sum, u64)>;

/// How long a manifest waits for its blobs and its builds.
pub const MANIFEST_LIFE: Duration = Duration::from_secs(6 * 3600);
/// A blob that is named again is as good as new; its time need not be exact for that.
const TOUCH_AFTER: Duration = Duration::from_secs(3600);

/// The blobs and manifests of all owners. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: Arc<Path>,
    floor: u64,
    coming: Arc<Coming>,
    /// Held while room is made.
    tidying: Arc<Mutex<()>>,
    heads: Arc<Mutex<Heads>>,
    complete: Arc<Complete>,
}

/// Manifests of which nothing is missing: for as long as they live, nothing will be.
#[derive(Debug, Default)]
struct Complete(Mutex<HashSet<ManifestId>>);

impl Complete {
    /// Most that are remembered; of others all blobs are looked for again.
    const MOST: usize = 1024;

    fn has(&self, id: ManifestId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn add(&self, id: ManifestId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= Self::MOST {
            ids.clear();
        }
        ids.insert(id);
    }
}

/// A manifest as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub id: ManifestId,
    /// See [`crate::domain::ContextInfo::digest`].
    pub digest: String,
    /// Hashes of the blobs that are not here yet, in hexadecimal.
    pub missing: Vec<String>,
    /// Bytes of these together.
    pub missing_bytes: u64,
    pub expires_at: Timestamp,
    /// Bytes of all its files together.
    pub bytes: u64,
    /// Bytes that the manifest itself takes on disk.
    pub kept_bytes: u64,
}

/// Digest and entries of a manifest that is kept at `path`; `root` is the folder of all storage.
///
/// # Errors
/// When it cannot be read.
pub(super) fn open(path: &Path, root: &Path, limits: &ArchiveLimits) -> Result<(String, Walk), ContextError> {
    let (head, lines) = kept::open(path).map_err(ContextError::Io)?.ok_or_else(|| {
        let detail = format!("{} is no manifest", path.display());
        ContextError::Io(io::Error::other(detail))
    })?;
    Ok((head.digest, Walk::manifest(lines, root.join(BLOBS).join(head.owner.as_str()), limits)))
}

impl Blobs {
    pub(super) fn new(root: Arc<Path>, floor: u64) -> Result<Self> {
        for folder in [BLOBS, MANIFESTS, LOCKS] {
            fs::create_dir_all(root.join(folder)).map_err(storing)?;
        }
        Ok(Self { root, floor, coming: Arc::default(), tidying: Arc::default(), heads: Arc::default(), complete: Arc::default() })
    }

    /// The folder that [`super::stream::Source::Manifest`] asks for.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, owner: &Owner) -> PathBuf {
        self.root.join(BLOBS).join(owner.as_str())
    }

    fn manifests(&self, owner: &Owner) -> PathBuf {
        self.root.join(MANIFESTS).join(owner.as_str())
    }

    /// Where a manifest is, or would be.
    #[must_use]
    pub fn path(&self, owner: &Owner, id: ManifestId) -> PathBuf {
        self.manifests(owner).join(id.to_string())
    }

    /// Given back when it is dropped. Its file is never removed: whoever waits for it must wait for the same.
    fn lock(&self, owner: &Owner) -> io::Result<File> {
        let file = File::create(self.root.join(LOCKS).join(owner.as_str()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Takes a manifest, checks all of it, and tells what is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::TooLarge`] as of an archive (see [`super::archive`]), `blob_size` when a size cannot be; the disk's.
    pub async fn declare(&self, owner: &Owner, received: Received, coding: Coding, limits: ArchiveLimits) -> Result<Manifest> {
        self.declare_since(None, owner, received, coding, limits).await
    }

    /// The same of a manifest that is told as what has changed since another one of this owner.
    ///
    /// # Errors
    /// As [`Blobs::declare`]; [`Error::BaseUnknown`].
    pub async fn declare_since(
        &self,
        base: Option<ManifestId>,
        owner: &Owner,
        received: Received,
        coding: Coding,
        limits: ArchiveLimits,
    ) -> Result<Manifest> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || {
            // Once it is open, it may expire.
            let base = base.map(|id| Self::living(&blobs.path(&owner, id))?.ok_or(Error::BaseUnknown)).transpose()?;
            let (spill, _gone) = blobs.temporary()?;
            let base = base.map(|(_, lines)| lines);
            let mut parsed = kept::parse(received.path(), coding, base, &limits, spill).map_err(told)?;
            let (id, expires_at) = (ManifestId::new(), Timestamp::now().plus(MANIFEST_LIFE));
            let head = Head { owner: owner.clone(), expires_at, digest: parsed.digest, bytes: parsed.bytes };
            let _lock = blobs.lock(&owner).map_err(storing)?;
            for folder in [blobs.folder(&owner), blobs.manifests(&owner)] {
                fs::create_dir_all(folder).map_err(storing)?;
            }
            let (file, from) = blobs.temporary()?;
            kept::write(&file, &head, &mut parsed.lines).map_err(storing)?;
            let to = blobs.path(&owner, id);
            persist(&file, from, &to).map_err(storing)?;
            let manifest = blobs.with_missing(id, head, &to, &parsed.wants);
            if manifest.is_err() {
                fs::remove_file(to).map_err(storing)?;
            }
            manifest
        })
        .await
    }

    /// A manifest as it is now; `None` when the owner has no such one, or it has expired.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn manifest(&self, owner: &Owner, id: ManifestId) -> Result<Option<Manifest>> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || {
            let _lock = blobs.lock(&owner).map_err(storing)?;
            if blobs.complete.has(id) {
                let path = blobs.path(&owner, id);
                return Self::living(&path)?.map(|(head, _)| blobs.with_missing(id, head, &path, &[])).transpose();
            }
            Ok(blobs.look(&owner, id)?.map(|(manifest, _)| manifest))
        })
        .await
    }

    /// To be called under the owner's lock. The manifest, and all blobs that it names with their sizes.
    fn look(&self, owner: &Owner, id: ManifestId) -> Result<Option<(Manifest, Wants)>> {
        let path = self.path(owner, id);
        let Some((head, lines)) = Self::living(&path)? else { return Ok(None) };
        let wants = kept::wants(lines).map_err(storing)?;
        let manifest = self.with_missing(id, head, &path, &wants)?;
        Ok(Some((manifest, wants)))
    }

    /// A manifest that has not expired.
    fn living(path: &Path) -> Result<Option<(Head, kept::Lines)>> {
        let opened = match kept::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(storing)?,
        };
        Ok(opened.filter(|(head, _)| head.expires_at > Timestamp::now()))
    }

    /// Looks for each blob, and makes those that are there as good as new.
    fn with_missing(&self, id: ManifestId, head: Head, path: &Path, wants: &[(Sum, u64)]) -> Result<Manifest> {
        let folder = self.folder(&head.owner);
        let (mut missing, mut missing_bytes) = (Vec::new(), 0);
        for (sum, size) in wants {
            let name = hex::encode(sum);
            let blob = folder.join(&name);
            match fs::symlink_metadata(&blob) {
                Ok(found) if found.len() == *size => touch(&blob, &found).map_err(storing)?,
                Ok(found) if is_named_rightly(&blob, sum).map_err(storing)? => {
                    return Err(wrong_size(&name, *size, found.len()).into());
                }
                Ok(found) => {
                    tracing::warn!(blob = %blob.display(), bytes = found.len(), "a blob was damaged on the disk, and has to come again");
                    remove_if_there(&blob).map_err(storing)?;
                    missing_bytes += size;
                    missing.push(name);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    missing_bytes += size;
                    missing.push(name);
                }
                Err(e) => return Err(storing(e)),
            }
        }
        let kept_bytes = fs::metadata(path).map_err(storing)?.len();
        let Head { expires_at, digest, bytes, .. } = head;
        if missing.is_empty() {
            self.complete.add(id);
        }
        Ok(Manifest { id, digest, missing, missing_bytes, expires_at, bytes, kept_bytes })
    }

    /// Takes a manifest back that cannot be used.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn forget(&self, owner: &Owner, id: ManifestId) -> Result<()> {
        let path = self.path(owner, id);
        blocking(move || remove_if_there(&path).map(drop).map_err(storing)).await
    }

    /// Keeps a manifest, of which nothing was missing, as a build's context. From then on its blobs stay for the build's sake; until then
    /// they did for the manifest's.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has expired meanwhile.
    pub async fn keep(&self, owner: &Owner, id: ManifestId, build: BuildId) -> Result<()> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || {
            let _lock = blobs.lock(&owner).map_err(storing)?;
            let from = blobs.path(&owner, id);
            Self::living(&from)?.ok_or(Error::NotFound("manifest"))?;
            let to = super::storage::context_path(&blobs.root, build);
            // A request that is repeated with the same id.
            remove_if_there(&to).map_err(storing)?;
            fs::hard_link(from, &to).map_err(storing)?;
            super::storage::sync_folder_of(&to).map_err(storing)
        })
        .await
    }

    /// Bytes that the blobs and manifests of an owner take.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn used(&self, owner: &Owner) -> Result<u64> {
        let (blobs, owner) = (self.clone(), owner.clone());
        blocking(move || blobs.stored(&owner)).await
    }

    fn stored(&self, owner: &Owner) -> Result<u64> {
        [self.folder(owner), self.manifests(owner)]
            .iter()
            .try_fold(0, |sum, folder| Ok(sum + collect::files(folder)?.iter().map(|(_, meta)| meta.len()).sum::<u64>()))
    }

    fn temporary(&self) -> Result<(File, tempfile::TempPath)> {
        super::storage::temporary(&self.root).map_err(storing)
    }

    /// Bytes that are free above the floor; an error when there are none.
    fn room(&self) -> Result<u64> {
        let free = free_bytes(&self.root)?;
        free.checked_sub(self.floor).ok_or_else(|| super::storage::no_room(free, self.floor))
    }
}

fn touch(blob: &Path, found: &fs::Metadata) -> io::Result<()> {
    let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
    if age < TOUCH_AFTER { Ok(()) } else { File::open(blob)?.set_modified(SystemTime::now()) }
}

/// Whether a blob's bytes are those that it is named by.
fn is_named_rightly(blob: &Path, sum: &Sum) -> io::Result<bool> {
    let (mut hash, mut file) = (Sha256::new(), BufReader::with_capacity(CONTENT_BUFFER, File::open(blob)?));
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(Sum::from(hash.finalize()) == *sum);
        }
        hash.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
}

fn wrong_size(name: &str, said: u64, is: u64) -> ContextFault {
    ContextFault::new("blob_size", format!("the blob {name} has {is} bytes, and {said} were said"))
}

/// A fault of a manifest, told of the body that it is.
fn told(error: ContextError) -> Error {
    match error {
        ContextError::Refused(fault) if !fault.too_large => Error::invalid(fault.code, "manifest", fault.detail),
        error => error.into(),
    }
}
