use std::io::{self, Read};

use super::super::fault::{ContextError, ContextFault, quoted};
use super::entry::{RawEntries, RawEntry, RawKind};
use super::input::Input;
use super::meter::Meter;
use super::pax::{Overrides, check_global};
use super::tar_header::{BLOCK, Block, Header};

/// Longest PAX or GNU header that is read (Go's archive/tar has the same bound).
const META_BYTES: u64 = 1 << 20;

/// The entries of a tar, which may come out of a decoder.
pub(super) struct TarEntries<I> {
    input: I,
    meter: Meter,
    /// Bytes of the current file that were not read yet.
    left: u64,
    /// Bytes between the current file and the next header.
    padding: u64,
    ended: bool,
    xattrs: u64,
}

impl<I: Input> TarEntries<I> {
    pub(super) fn new(input: I, meter: Meter) -> Self {
        Self { input, meter, left: 0, padding: 0, ended: false, xattrs: 0 }
    }

    fn block(&mut self) -> Result<Option<Block>, ContextError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ContextError::reading(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ContextError::reading(e)),
            }
        }
        Ok(Some(block))
    }

    /// The bytes of a PAX or GNU header.
    fn meta(&mut self, header: &Header) -> Result<Vec<u8>, ContextError> {
        if header.size > META_BYTES {
            let detail = format!("a PAX or GNU header is longer than {META_BYTES} bytes");
            return Err(ContextFault::new("ambiguous_header", detail).into());
        }
        // Its own block counts too: an archive of nothing but such headers has no entry that would be counted.
        self.meter.count(header.size + BLOCK as u64, &header.name)?;
        let mut data = Vec::new();
        let read = self.input.by_ref().take(header.size).read_to_end(&mut data).map_err(ContextError::reading)?;
        if (read as u64) < header.size {
            return Err(ContextError::reading(io::ErrorKind::UnexpectedEof.into()));
        }
        self.input.skip(padding(header.size)).map_err(ContextError::reading)?;
        Ok(data)
    }

    fn entry(&mut self, mut header: Header, overrides: Overrides) -> Result<RawEntry, ContextError> {
        self.xattrs += u64::from(overrides.apply(&mut header)?);
        let kind = kind(&header);
        if header.size > 0 && matches!(kind, RawKind::Dir | RawKind::Symlink | RawKind::HardLink) {
            let detail = format!("the entry {} is no file but has a size", quoted(&header.name));
            return Err(ContextFault::new("ambiguous_header", detail).into());
        }
        if kind == RawKind::File {
            self.meter.count(header.size, &header.name)?;
            self.left = header.size;
            self.padding = padding(header.size);
        }
        let Header { name, link, size, mode, mtime, .. } = header;
        Ok(RawEntry { name, link, kind, size, mode, mtime })
    }

    /// After the first block of zeros: only zeros may follow, of which the tape's blocking wants some.
    fn end(&mut self) -> Result<(), ContextError> {
        self.ended = true;
        while let Some(block) = self.block()? {
            self.meter.count(BLOCK as u64, b"(the end of the archive)")?;
            if block != [0; BLOCK] {
                let detail = "the archive goes on after its end; programs would disagree on what is in it";
                return Err(ContextFault::new("trailing_data", detail).into());
            }
        }
        Ok(())
    }
}

impl<I: Input> RawEntries for TarEntries<I> {
    fn next_raw(&mut self) -> Result<Option<RawEntry>, ContextError> {
        if self.ended {
            return Ok(None);
        }
        self.input.skip(self.left + self.padding).map_err(ContextError::reading)?;
        (self.left, self.padding) = (0, 0);
        let mut overrides = Overrides::default();
        loop {
            let Some(block) = self.block()? else {
                let detail = "the archive has no end-of-archive marker: the upload is incomplete";
                return Err(ContextFault::new("truncated_archive", detail).into());
            };
            if block == [0; BLOCK] {
                if !overrides.is_empty() {
                    return Err(ContextFault::new("ambiguous_header", "a PAX or GNU header stands before no entry").into());
                }
                self.end()?;
                return Ok(None);
            }
            let header = Header::parse(&block)?;
            match header.flag {
                b'x' => overrides.local(&self.meta(&header)?)?,
                b'g' => check_global(&self.meta(&header)?)?,
                b'L' | b'K' => overrides.gnu(header.flag, self.meta(&header)?)?,
                _ => return self.entry(header, overrides).map(Some),
            }
        }
    }

    fn data(&mut self) -> &mut dyn Read {
        self
    }

    fn warnings(&self) -> Vec<String> {
        match self.xattrs {
            0 => Vec::new(),
            n => vec![format!("extended attributes of {n} entries are left out")],
        }
    }
}

impl<I: Input> Read for TarEntries<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buf[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn kind(header: &Header) -> RawKind {
    match header.flag {
        // Before POSIX a directory was a file whose name ends in a slash; Go's archive/tar still takes it so.
        0 if header.name.ends_with(b"/") && header.size == 0 => RawKind::Dir,
        0 | b'0' | b'7' => RawKind::File,
        b'1' => RawKind::HardLink,
        b'2' => RawKind::Symlink,
        b'3' | b'4' => RawKind::Device,
        b'5' => RawKind::Dir,
        b'6' => RawKind::Fifo,
        other => RawKind::Other(other),
    }
}

/// Zeros that fill up the last block of `size` bytes.
pub(in crate::context) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
