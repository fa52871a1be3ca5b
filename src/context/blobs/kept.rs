//! A manifest as it comes, and as it is kept: a block that no archive begins with, a line that says whose it is, and the
//! entries in zstd.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::super::archive::{ArchiveLimits, BLOCK, ContextDigest, EntryKind, ManifestLine, Sum, Walk};
use super::super::fault::{ContextError, ContextFault};
use super::changes::{CHANGES_BYTES, Changed};
use crate::domain::{Owner, Timestamp};

/// Longest manifest, in bytes, before and after its decompression.
pub const MANIFEST_BYTES: u64 = 64 << 20;

/// What the file of a manifest begins with, filled up with dots to a block: where a tar has its checksum, it has none.
const MAGIC: &[u8] = b"dockwright manifest 1\n";
/// Longest line of a head.
const HEAD_BYTES: u64 = 4096;
/// Most memory that decoding may take, as a power of two: 8 MiB, what RFC 9659 allows for `Content-Encoding: zstd`.
pub(super) const WINDOW_LOG: u32 = 23;

/// How a body is encoded (RFC 9110, 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Whose manifest it is, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Whose blobs it is made of.
    pub owner: Owner,
    pub expires_at: Timestamp,
    pub digest: String,
    pub bytes: u64,
}

/// What a manifest says, once all of it was checked.
pub(super) struct Parsed {
    /// The entries as they are kept, from their start.
    pub lines: File,
    /// Each blob once, with its size, in the order of the entries.
    pub wants: Vec<(Sum, u64)>,
    pub digest: String,
    pub bytes: u64,
}

/// Reads a manifest as it came, or what has changed since `base`. `spill` takes the entries as they are kept: memory does not grow with their paths.
pub(super) fn parse(
    path: &Path,
    coding: Coding,
    base: Option<Lines>,
    limits: &ArchiveLimits,
    spill: File,
) -> Result<Parsed, ContextError> {
    let file = BufReader::new(File::open(path).map_err(ContextError::Io)?);
    let text: Box<dyn Read + Send> = match coding {
        Coding::Identity => Box::new(file),
        Coding::Gzip => Box::new(MultiGzDecoder::new(file)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(ContextError::reading)?;
            decoder.window_log_max(WINDOW_LOG).map_err(ContextError::reading)?;
            Box::new(decoder)
        }
    };
    let text: Box<dyn Read + Send> = match base {
        None => text,
        Some(base) => Box::new(Changed::new(base, BufReader::new(Bounded::new(text, CHANGES_BYTES)))?),
    };
    let text = BufReader::new(Bounded::new(text, MANIFEST_BYTES));
    let mut walk = Walk::manifest(Box::new(text), PathBuf::new(), limits);
    let mut lines = zstd::stream::write::Encoder::new(spill, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(ContextError::Io)?;
    let (mut wants, mut digest, mut bytes) = (Wants::default(), ContextDigest::default(), 0);
    while let Some(entry) = walk.next()? {
        let mut content = None;
        if let EntryKind::File { size } = entry.kind {
            let sum = walk.content()?;
            wants.add(sum, size)?;
            content = Some(sum);
            bytes += size;
        }
        digest.add(&entry, content);
        let line = ManifestLine::of(&entry, content.as_ref())
            .ok_or_else(|| ContextError::Io(io::Error::other("a manifest holds no hard link, because its lines know none")))?;
        serde_json::to_writer(&mut lines, &line).map_err(|e| ContextError::Io(e.into()))?;
        lines.write_all(b"\n").map_err(ContextError::Io)?;
    }
    let mut lines = lines.finish().map_err(ContextError::Io)?;
    lines.rewind().map_err(ContextError::Io)?;
    Ok(Parsed { lines, wants: wants.list, digest: digest.finish(), bytes })
}

/// The blobs that a manifest wants. Of an empty file nothing is wanted.
#[derive(Default)]
struct Wants {
    sizes: HashMap<Sum, u64>,
    list: Vec<(Sum, u64)>,
}

impl Wants {
    fn add(&mut self, sum: Sum, size: u64) -> Result<(), ContextFault> {
        let empty: Sum = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new()).into();
        if (size == 0) != (sum == empty) {
            let detail = format!("{} is the hash of a file of another size than {size} bytes", hex::encode(sum));
            return Err(ContextFault::new("blob_size", detail));
        }
        match self.sizes.insert(sum, size) {
            _ if size == 0 => Ok(()),
            None => {
                self.list.push((sum, size));
                Ok(())
            }
            Some(before) if before == size => Ok(()),
            Some(before) => Err(super::wrong_size(&hex::encode(sum), size, before)),
        }
    }
}

/// What is read of a manifest at most.
struct Bounded<R> {
    text: R,
    most: u64,
    left: u64,
}

impl<R> Bounded<R> {
    fn new(text: R, most: u64) -> Self {
        Self { text, most, left: most }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let detail = format!("the manifest is longer than the limit of {} bytes", self.most);
            io::Error::new(io::ErrorKind::InvalidData, ContextFault::too_large("manifest_too_large", detail))
        })?;
        Ok(read)
    }
}

fn first_block() -> [u8; BLOCK] {
    let mut block = [b'.'; BLOCK];
    block[..MAGIC.len()].copy_from_slice(MAGIC);
    block
}

/// Writes the file of a manifest; `lines` are its entries as they are kept.
pub(super) fn write(mut file: &File, head: &Head, lines: &mut dyn Read) -> io::Result<()> {
    file.write_all(&first_block())?;
    let mut text = serde_json::to_vec(head)?;
    text.push(b'\n');
    file.write_all(&text)?;
    io::copy(lines, &mut file).map(|_| ())
}

/// The head of a kept manifest, and the rest of its file; `None` when it is something else, as an archive.
pub(super) fn head(path: &Path) -> io::Result<Option<(Head, BufReader<File>)>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut block = [0; BLOCK];
    match file.read_exact(&mut block) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if block != first_block() {
        return Ok(None);
    }
    let mut line = Vec::new();
    (&mut file).take(HEAD_BYTES).read_until(b'\n', &mut line)?;
    Ok(Some((serde_json::from_slice(&line)?, file)))
}

/// The lines of a manifest, decompressed while they are read.
pub(super) type Lines = Box<dyn BufRead + Send>;

/// The head of a kept manifest, and its lines.
pub(super) fn open(path: &Path) -> io::Result<Option<(Head, Lines)>> {
    let Some((head, rest)) = head(path)? else { return Ok(None) };
    Ok(Some((head, Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(rest)?)))))
}

/// Each blob that a kept manifest names, once, with its size.
pub(super) fn wants(lines: Lines) -> io::Result<Vec<(Sum, u64)>> {
    // It was checked when it came: of its lines only these two matter here.
    #[derive(Deserialize)]
    struct Line {
        sha256: Option<String>,
        size: Option<u64>,
    }
    let mut wants = Wants::default();
    for line in lines.split(b'\n') {
        let line: Line = serde_json::from_slice(&line?)?;
        if let (Some(sha256), Some(size)) = (line.sha256, line.size) {
            let sum = super::super::archive::sum_of(&sha256).map_err(io::Error::other)?;
            wants.add(sum, size).map_err(io::Error::other)?;
        }
    }
    Ok(wants.list)
}
