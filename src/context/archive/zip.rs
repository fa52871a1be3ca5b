use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::super::fault::{ContextError, ContextFault, quoted};
use super::entry::{RawEntries, RawEntry, RawKind};
use super::meter::Meter;
use super::zip_directory::{Central, Directory, Section, damaged, names_differ, u16_at, u32_at};
use crate::domain::limits::PATH_BYTES;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
/// Flag bits: encrypted, sizes follow the data, strong encryption, encrypted directory.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const SIZES_FOLLOW: u16 = 1 << 3;
const BUFFER: usize = 64 * 1024;

/// The entries of a zip in the order of its directory.
pub(super) struct ZipEntries {
    file: Arc<File>,
    directory: BufReader<Section>,
    left: u64,
    meter: Meter,
    /// Where the entries before lie, start to end: none may lie on another (as in a zip bomb without nesting).
    ranges: BTreeMap<u64, u64>,
    directory_at: u64,
    current: Checked,
}

impl ZipEntries {
    pub(super) fn open(file: File, len: u64, meter: Meter) -> Result<Self, ContextError> {
        let directory = Directory::find(&file, len)?;
        meter.announce_entries(directory.entries)?;
        let file = Arc::new(file);
        let section = Section::new(&file, directory.offset, directory.bytes);
        Ok(Self {
            directory: BufReader::with_capacity(BUFFER, section),
            left: directory.entries,
            meter,
            ranges: BTreeMap::new(),
            directory_at: directory.offset,
            current: Checked::empty(),
            file,
        })
    }

    /// Compares the local header with the directory; answers where the data begins.
    fn local(&self, central: &Central) -> Result<u64, ContextError> {
        let mut header = [0; 30];
        let mut section = Section::new(&self.file, central.local_at, u64::MAX - central.local_at);
        section.read_exact(&mut header).map_err(ContextError::reading)?;
        if &header[..4] != LOCAL {
            return Err(damaged("an entry is not where its directory says"));
        }
        let mut name = vec![0; usize::from(u16_at(&header, 26))];
        section.read_exact(&mut name).map_err(ContextError::reading)?;
        if name != central.name {
            return Err(names_differ(&central.name));
        }
        let same_method = u16_at(&header, 8) == central.method && u16_at(&header, 6) & ENCRYPTED == central.flags & ENCRYPTED;
        let sizes_here = u16_at(&header, 6) & SIZES_FOLLOW == 0;
        let (compressed, size) = (u32_at(&header, 18), u32_at(&header, 22));
        let same = |local: u32, central: u64| local == u32::MAX || u64::from(local) == central;
        let same_sizes = same(compressed, central.compressed) && same(size, central.size) && u32_at(&header, 14) == central.crc;
        if !same_method || (sizes_here && !same_sizes) {
            let detail = format!("the zip describes the entry {} in two different ways", quoted(&name));
            return Err(ContextFault::new("ambiguous_header", detail).into());
        }
        Ok(section.at + u64::from(u16_at(&header, 28)))
    }

    /// Takes the bytes from `start` to `end` for one entry alone.
    fn claim(&mut self, start: u64, end: u64, name: &[u8]) -> Result<(), ContextError> {
        let before = self.ranges.range(..end).next_back();
        if before.is_some_and(|(_, end)| *end > start) || end > self.directory_at {
            let detail = format!("the entry {} lies on another entry of the zip", quoted(name));
            return Err(ContextFault::new("zip_overlap", detail).into());
        }
        self.ranges.insert(start, end);
        Ok(())
    }

    fn entry(&mut self, central: Central) -> Result<RawEntry, ContextError> {
        let name = quoted(&central.name);
        if central.flags & ENCRYPTED != 0 {
            return Err(ContextFault::new("zip_encrypted", format!("the entry {name} is encrypted")).into());
        }
        if central.name.contains(&b'\\') {
            let detail = format!("the entry {name} has a backslash in its name; paths in a zip are separated by `/`");
            return Err(ContextFault::new("invalid_path", detail).into());
        }
        let data_at = self.local(&central)?;
        self.claim(central.local_at, data_at.saturating_add(central.compressed), &central.name)?;
        self.meter.count(central.size, &central.name)?;
        let kind = kind(&central)?;
        let data = Section::new(&self.file, data_at, central.compressed);
        self.current = Checked::new(data, &central)?;
        let (mut link, mut size) = (Vec::new(), 0);
        match kind {
            RawKind::Symlink if central.size <= PATH_BYTES as u64 => {
                self.current.read_to_end(&mut link).map_err(ContextError::reading)?;
            }
            RawKind::Symlink => {
                return Err(ContextFault::new("path_too_long", format!("the symbolic link {name} has too long a target")).into());
            }
            RawKind::File => size = central.size,
            _ => {}
        }
        let usual = if kind == RawKind::Dir { 0o755 } else { 0o644 };
        let mode = central.unix_mode.map_or(usual, |mode| mode & 0o7777);
        Ok(RawEntry { name: central.name, link, kind, size, mode, mtime: central.mtime })
    }
}

impl RawEntries for ZipEntries {
    fn next_raw(&mut self) -> Result<Option<RawEntry>, ContextError> {
        self.current = Checked::empty();
        if self.left == 0 {
            let mut more = [0];
            let read = self.directory.read(&mut more).map_err(ContextError::reading)?;
            return if read == 0 { Ok(None) } else { Err(damaged("its directory has more entries than it says")) };
        }
        self.left -= 1;
        let central = Central::read(&mut self.directory)?;
        self.entry(central).map(Some)
    }

    fn data(&mut self) -> &mut dyn Read {
        &mut self.current
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn verify(&mut self) -> Result<(), ContextError> {
        io::copy(&mut self.current, &mut io::sink()).map_err(ContextError::reading).map(|_| ())
    }
}

/// The type by the Unix mode where there is one, which must agree with the name.
fn kind(central: &Central) -> Result<RawKind, ContextError> {
    let named_dir = central.name.ends_with(b"/");
    let kind = match central.unix_mode.unwrap_or(0) >> 12 {
        0o12 => RawKind::Symlink,
        0o04 => RawKind::Dir,
        0o02 | 0o06 => RawKind::Device,
        0o01 | 0o14 => RawKind::Fifo,
        0 if named_dir => RawKind::Dir,
        _ => RawKind::File,
    };
    if (kind == RawKind::Dir) != named_dir || (kind == RawKind::Dir && central.size > 0) {
        let detail = format!("the entry {} is a directory by its name or by its mode, but not by both", quoted(&central.name));
        return Err(ContextFault::new("ambiguous_header", detail).into());
    }
    Ok(kind)
}

/// An entry's data, which must be as long, and have the checksum, that the directory says.
struct Checked {
    data: Box<dyn Read + Send>,
    left: u64,
    crc: Crc,
    stated: u32,
    ended: bool,
}

impl Checked {
    fn empty() -> Self {
        Self { data: Box::new(io::empty()), left: 0, crc: Crc::new(), stated: 0, ended: true }
    }

    fn new(data: Section, central: &Central) -> Result<Self, ContextError> {
        let data = BufReader::with_capacity(BUFFER, data);
        let data: Box<dyn Read + Send> = match central.method {
            0 => Box::new(data),
            8 => Box::new(DeflateDecoder::new(data)),
            other => {
                let name = quoted(&central.name);
                let detail = format!("the entry {name} is compressed by method {other}; only stored and deflate can be read");
                return Err(ContextFault::new("zip_method", detail).into());
            }
        };
        Ok(Self { data, left: central.size, crc: Crc::new(), stated: central.crc, ended: false })
    }

    fn end(&mut self) -> io::Result<usize> {
        self.ended = true;
        // Asked for one byte more than there may be, a decoder tells whether it would go on.
        let more = self.data.read(&mut [0])?;
        if more > 0 || self.crc.sum() != self.stated {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry has another length or checksum than the zip says"));
        }
        Ok(0)
    }
}

impl Read for Checked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return self.end();
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let read = self.data.read(&mut buf[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry is shorter than the zip says"));
        }
        self.crc.update(&buf[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
