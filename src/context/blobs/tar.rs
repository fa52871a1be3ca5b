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
use super::super::storage::storing;
use super::Blobs;
use crate::domain::Owner;
use crate::error::{Error, Result};

/// Blobs are kept in batches, of at most so many, so many bytes, and so long after the first of them has come.
const BATCH: usize = 1024;
const BATCH_BYTES: u64 = 64 << 20;
const BATCH_TIME: Duration = Duration::from_secs(60);
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
    folder: PathBuf,
    /// The blobs that the manifest names, with their sizes.
    wanted: HashMap<Sum, u64>,
    at: At,
    header: Vec<u8>,
    blob: Option<Blob>,
    /// Checked, but not kept yet.
    batch: Vec<(TempPath, Sum)>,
    batch_bytes: u64,
    batch_since: Instant,
    /// Bytes that may still come.
    left: u64,
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
    pub(super) fn new(blobs: Blobs, owner: &Owner, wants: Vec<(Sum, u64)>) -> Self {
        let all: u64 = wants.iter().map(|(_, size)| size + AROUND).sum();
        Self {
            folder: blobs.folder(owner),
            blobs,
            wanted: wants.into_iter().collect(),
            at: At::Header,
            header: Vec::with_capacity(BLOCK),
            blob: None,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_since: Instant::now(),
            left: all + AT_END,
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
        self.blobs.room()?;
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
        self.batch.push((path, sum));
        self.batch_bytes += bytes;
        let full = self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES || self.batch_since.elapsed() >= BATCH_TIME;
        if full { self.commit() } else { Ok(()) }
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
            for (path, _) in &self.batch {
                File::open(path).and_then(|file| file.sync_data()).map_err(storing)?;
            }
        }
        for (path, sum) in self.batch.drain(..) {
            path.persist(self.folder.join(hex::encode(sum))).map_err(|e| storing(e.error))?;
        }
        self.batch_bytes = 0;
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
