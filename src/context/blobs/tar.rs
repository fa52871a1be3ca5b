//! Blobs out of a tar whose entries are named by their hashes, while it comes: each is checked, and kept when it is right.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::super::archive::{BLOCK, Header, Sum, padding, sum_of};
use super::super::fault::{ContextError, ContextFault, quoted};
use super::super::storage::{no_room, storing};
use super::Blobs;
use crate::domain::{ManifestId, Owner};
use crate::error::{Error, Result};

/// Blobs are kept in batches, of at most so many, so many bytes, and so long after the first of them has come. Each batch waits for
/// the disk once.
const BATCH: usize = 8192;
const BATCH_BYTES: u64 = 64 << 20;
const BATCH_TIME: Duration = Duration::from_secs(60);
/// The disk's room is looked at anew at least before each so many bytes.
const LOOK_EVERY: u64 = 1 << 20;
/// A file takes more of the disk than its bytes in a tar, but less than so many times as much.
const LARGER_ON_DISK: u64 = 8;
/// A batch of so few is synced file by file, a larger one with all that the file system has.
const FEW: usize = 16;
/// Longest PAX or GNU header, which is passed over.
const META_BYTES: u64 = 64 * 1024;
/// What a tar may have around each blob, and at its end.
const AROUND: u64 = 4 * BLOCK as u64;
const AT_END: u64 = 1 << 20;

/// Takes the bytes of a tar in pieces of any length.
pub(super) struct Unpacker {
    blobs: Blobs,
    owner: Owner,
    manifest: ManifestId,
    folder: PathBuf,
    /// The blobs that the manifest names, with their sizes.
    wanted: HashMap<Sum, u64>,
    at: At,
    header: Vec<u8>,
    blob: Option<Blob>,
    /// Checked, but not kept yet.
    batch: Vec<(TempPath, Sum, u64)>,
    batch_bytes: u64,
    batch_since: Instant,
    /// Bytes that may still come.
    left: u64,
    /// Bytes for which the disk has room, as it was when last looked at.
    room: u64,
    /// Why it takes no more.
    failed: Option<Error>,
}

#[derive(Clone, Copy)]
enum At {
    Header,
    Body { left: u64, padding: u64 },
    Padding { left: u64 },
    End,
}

/// A blob that is being written.
struct Blob {
    file: File,
    path: TempPath,
    hash: Sha256,
    sum: Sum,
    bytes: u64,
}

impl Unpacker {
    pub(super) fn new(blobs: Blobs, owner: Owner, manifest: ManifestId, wants: Vec<(Sum, u64)>) -> Self {
        let all: u64 = wants.iter().map(|(_, size)| size + AROUND).sum();
        Self {
            folder: blobs.folder(&owner),
            blobs,
            owner,
            manifest,
            wanted: wants.into_iter().collect(),
            at: At::Header,
            header: Vec::with_capacity(BLOCK),
            blob: None,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_since: Instant::now(),
            left: all + AT_END,
            room: 0,
            failed: None,
        }
    }

    /// Why the last write failed, when that was not the decoder's fault.
    pub(super) fn fault(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// The tar has ended.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.commit()?;
        match self.at {
            At::End => Ok(()),
            At::Header if self.header.is_empty() => Ok(()),
            _ => Err(ContextError::reading(io::ErrorKind::UnexpectedEof.into()).into()),
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            let detail = "more came than all blobs of the manifest together";
            Error::TooLarge { code: "upload_too_large", detail: detail.into() }
        })?;
        self.look_for_room(bytes.len() as u64)?;
        self.commit_if_due()?;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(self.take(bytes.len()));
            bytes = rest;
            match &mut self.at {
                At::Header => {
                    self.header.extend_from_slice(now);
                    if self.header.len() == BLOCK {
                        self.begin()?;
                    }
                }
                At::Body { left, padding } => {
                    *left -= now.len() as u64;
                    let (ended, padding) = (*left == 0, *padding);
                    if let Some(blob) = &mut self.blob {
                        blob.file.write_all(now).map_err(storing)?;
                        blob.hash.update(now);
                    }
                    if ended {
                        self.end(padding)?;
                    }
                }
                At::Padding { left } => {
                    *left -= now.len() as u64;
                    if *left == 0 {
                        self.at = At::Header;
                    }
                }
                At::End if now.iter().all(|byte| *byte == 0) => {}
                At::End => return Err(ContextFault::new("trailing_data", "the tar goes on after its end").into()),
            }
        }
        Ok(())
    }

    /// The nearer the floor, the more often the disk is asked: others write to it as well.
    fn look_for_room(&mut self, bytes: u64) -> Result<()> {
        if self.room < bytes {
            let above = self.blobs.room()?;
            if above < bytes {
                return Err(no_room(self.blobs.floor.saturating_add(above), self.blobs.floor));
            }
            self.room = bytes.max(LOOK_EVERY.min(above / LARGER_ON_DISK));
        }
        self.room -= bytes;
        Ok(())
    }

    /// How many of the next bytes belong to what it stands at.
    fn take(&self, there: usize) -> usize {
        match self.at {
            At::Header => there.min(BLOCK - self.header.len()),
            At::Body { left, .. } | At::Padding { left } => there.min(usize::try_from(left).unwrap_or(usize::MAX)),
            At::End => there,
        }
    }

    /// A header is complete.
    fn begin(&mut self) -> Result<()> {
        let block: [u8; BLOCK] = self.header.as_slice().try_into().expect("a block, because it was filled up to one");
        self.header.clear();
        if block == [0; BLOCK] {
            self.at = At::End;
            return Ok(());
        }
        let header = Header::parse(&block)?;
        let refuse = |code, why: &str| Err(ContextFault::new(code, format!("the entry {} {why}", quoted(&header.name))).into());
        match header.flag {
            0 | b'0' | b'7' if !header.name.ends_with(b"/") => self.begin_blob(&header)?,
            0 | b'5' if header.size == 0 => {}
            b'x' | b'g' if header.size <= META_BYTES => {}
            _ => return refuse("unsupported_entry", "is no file"),
        }
        self.at = At::Body { left: header.size, padding: padding(header.size) };
        if header.size == 0 { self.end(0) } else { Ok(()) }
    }

    fn begin_blob(&mut self, header: &Header) -> Result<()> {
        let name = String::from_utf8_lossy(&header.name);
        let refuse = |code, why: &str| Error::from(ContextFault::new(code, format!("the entry {} {why}", quoted(&header.name))));
        let sum = sum_of(name.strip_prefix("./").unwrap_or(&name));
        let sum =
            sum.map_err(|_| refuse("invalid_path", "is not named by the SHA-256 of its bytes, in lower-case hexadecimal"))?;
        let wanted = self.wanted.get(&sum).ok_or_else(|| refuse("blob_not_asked", "is no blob of this manifest"))?;
        if *wanted != header.size {
            let why = format!("has {} bytes, and the manifest says {wanted}", header.size);
            return Err(refuse("blob_size", &why));
        }
        // Another client may have been faster: the manifest keeps it from going away.
        if fs::exists(self.folder.join(hex::encode(sum))).map_err(storing)? {
            return Ok(());
        }
        let (file, path) = self.blobs.temporary()?;
        self.blob = Some(Blob { file, path, hash: Sha256::new(), sum, bytes: header.size });
        Ok(())
    }

    /// The bytes of an entry are complete.
    fn end(&mut self, padding: u64) -> Result<()> {
        self.at = if padding == 0 { At::Header } else { At::Padding { left: padding } };
        let Some(Blob { path, hash, sum, bytes, .. }) = self.blob.take() else { return Ok(()) };
        let is: Sum = hash.finalize().into();
        if is != sum {
            let detail = format!("the bytes of the blob {} have the hash {}", hex::encode(sum), hex::encode(is));
            return Err(ContextFault::new("blob_hash", detail).into());
        }
        if self.batch.is_empty() {
            self.batch_since = Instant::now();
        }
        self.batch.push((path, sum, bytes));
        self.batch_bytes += bytes;
        self.commit_if_due()
    }

    /// What waits must not wait for a large blob that comes slowly.
    fn commit_if_due(&mut self) -> Result<()> {
        let full = self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES;
        if full || self.batch_since.elapsed() >= BATCH_TIME { self.commit() } else { Ok(()) }
    }

    /// Makes what was checked durable, then visible.
    pub(super) fn commit(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let folder = File::open(&self.folder).map_err(storing)?;
        if self.batch.len() > FEW {
            rustix::fs::syncfs(&folder).map_err(|e| storing(e.into()))?;
        } else {
            for (path, ..) in &self.batch {
                File::open(path).and_then(|file| file.sync_data()).map_err(storing)?;
            }
        }
        self.batch_bytes = 0;
        let _lock = self.blobs.lock(&self.owner).map_err(storing)?;
        for (path, sum, bytes) in self.batch.drain(..) {
            match path.persist_noclobber(self.folder.join(hex::encode(sum))) {
                Ok(()) => self.blobs.coming.arrived(&self.owner, self.manifest, bytes),
                // Another request was faster.
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(storing(e.error)),
            }
        }
        folder.sync_all().map_err(storing)
    }
}

impl Write for Unpacker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.feed(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the blobs were refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::storage::ContextStorage;

    fn entry(bytes: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, hex::encode(Sha256::digest(bytes)), bytes).expect("memory takes it");
        let mut tar = tar.into_inner().expect("memory takes it");
        // Without the tar's end.
        tar.truncate(tar.len() - 2 * BLOCK);
        tar
    }

    #[test]
    fn what_is_whole_does_not_wait_for_a_slow_blob_behind_it() {
        let root = tempfile::tempdir().expect("a folder");
        let blobs = ContextStorage::open(root.path(), 0).expect("opens").blobs().clone();
        let owner: Owner = "ada".parse().expect("a name");
        fs::create_dir_all(blobs.folder(&owner)).expect("a folder");
        let (small, large): (&[u8], &[u8]) = (b"small", &[7; 100_000]);
        let wants = [small, large].map(|bytes| (Sum::from(Sha256::digest(bytes)), bytes.len() as u64)).to_vec();
        let mut unpacker = Unpacker::new(blobs.clone(), owner.clone(), ManifestId::new(), wants);
        let kept = blobs.folder(&owner).join(hex::encode(Sha256::digest(small)));
        unpacker.feed(&entry(small)).expect("taken");
        let slow = entry(large);
        unpacker.feed(&slow[..50_000]).expect("taken");
        assert!(!kept.exists(), "blobs are kept in batches");
        unpacker.batch_since = Instant::now().checked_sub(BATCH_TIME).expect("the machine is up for longer");
        unpacker.feed(&slow[50_000..50_001]).expect("taken");
        assert!(kept.exists(), "its time is over, whatever is coming");
    }
}
