//! The directory at the end of a zip, and one entry of it (PKWARE APPNOTE 6.3, sections 4.3 and 4.5).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::fault::{ContextError, ContextFault, quoted};

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const END64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
/// Seconds of the extended timestamp that Info-ZIP writes.
const EXTRA_TIME: u16 = 0x5455;
const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_UNICODE_PATH: u16 = 0x7075;

/// A piece of a file, read by position: several can be read at the same time.
pub(super) struct Section {
    file: Arc<File>,
    pub at: u64,
    end: u64,
}

impl Section {
    pub(super) fn new(file: &Arc<File>, at: u64, len: u64) -> Self {
        Self { file: Arc::clone(file), at, end: at.saturating_add(len) }
    }
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buf.len());
        let read = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(super) fn damaged(what: &str) -> ContextError {
    ContextFault::new("corrupt_archive", format!("the zip is damaged: {what}")).into()
}

/// Where the directory is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    pub entries: u64,
    pub offset: u64,
    pub bytes: u64,
}

impl Directory {
    /// Finds the directory of a zip that is `len` bytes long. Exactly one end record must reach to the end of the file, and the directory
    /// must lie right before it: programs that search in other ways would find other entries.
    pub(super) fn find(file: &File, len: u64) -> Result<Self, ContextError> {
        let tail_bytes = len.min((END_BYTES + usize::from(u16::MAX)) as u64);
        let tail_at = len - tail_bytes;
        let mut tail = vec![0; usize::try_from(tail_bytes).map_err(io::Error::other).map_err(ContextError::Io)?];
        file.read_exact_at(&mut tail, tail_at).map_err(ContextError::reading)?;
        let at = end_record(&tail)?;
        let record = &tail[at..];
        let here = tail_at + at as u64;
        let mut found = Self {
            entries: u64::from(u16_at(record, 10)),
            bytes: u64::from(u32_at(record, 12)),
            offset: u64::from(u32_at(record, 16)),
        };
        let several_disks = u16_at(record, 4) != u16_at(record, 6) || !matches!(u16_at(record, 4), 0 | u16::MAX);
        if several_disks || u16_at(record, 8) != u16_at(record, 10) {
            return Err(damaged("it is one part of several"));
        }
        let mut end = here;
        if let Some((zip64, at)) = Self::zip64(file, here)? {
            (found, end) = (zip64, at);
        }
        if found.offset.checked_add(found.bytes) != Some(end) {
            return Err(damaged("its directory is not where it says"));
        }
        Ok(found)
    }

    /// The 64-bit end record, if one is announced right before the old one at `before`, and where it begins.
    fn zip64(file: &File, before: u64) -> Result<Option<(Self, u64)>, ContextError> {
        let Some(locator_at) = before.checked_sub(20) else { return Ok(None) };
        let mut locator = [0; 20];
        file.read_exact_at(&mut locator, locator_at).map_err(ContextError::reading)?;
        if &locator[..4] != LOCATOR64 {
            return Ok(None);
        }
        let at = u64_at(&locator, 8);
        let mut record = [0; 56];
        file.read_exact_at(&mut record, at).map_err(ContextError::reading)?;
        if &record[..4] != END64 || at.checked_add(12).and_then(|n| n.checked_add(u64_at(&record, 4))) != Some(locator_at) {
            return Err(damaged("its 64-bit end record is not where it says"));
        }
        let found = Self { entries: u64_at(&record, 32), bytes: u64_at(&record, 40), offset: u64_at(&record, 48) };
        Ok(Some((found, at)))
    }
}

fn end_record(tail: &[u8]) -> Result<usize, ContextError> {
    let signatures = tail.windows(4).enumerate().filter(|(_, window)| window == END).map(|(at, _)| at);
    let (mut whole, mut any) = (Vec::new(), false);
    for at in signatures {
        any = true;
        if tail.len() - at >= END_BYTES && at + END_BYTES + usize::from(u16_at(tail, at + 20)) == tail.len() {
            whole.push(at);
        }
    }
    match (whole.as_slice(), any) {
        ([at], _) => Ok(*at),
        ([], false) => Err(ContextFault::new("truncated_archive", "the zip has no end record: the upload is incomplete").into()),
        ([], true) => {
            let detail = "the zip goes on after its end record; programs would disagree on what is in it";
            Err(ContextFault::new("trailing_data", detail).into())
        }
        _ => Err(ContextFault::new("ambiguous_header", "the zip has two end records").into()),
    }
}

/// What the directory says of one entry.
pub(super) struct Central {
    pub name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub compressed: u64,
    pub size: u64,
    pub local_at: u64,
    /// Type and permissions, when a Unix program made the entry.
    pub unix_mode: Option<u32>,
    pub mtime: u64,
}

impl Central {
    pub(super) fn read(directory: &mut impl Read) -> Result<Self, ContextError> {
        let mut fixed = [0; 46];
        directory.read_exact(&mut fixed).map_err(ContextError::reading)?;
        if &fixed[..4] != CENTRAL {
            return Err(damaged("its directory has something else than entries"));
        }
        let mut piece = |at: usize| {
            let mut piece = vec![0; usize::from(u16_at(&fixed, at))];
            directory.read_exact(&mut piece).map_err(ContextError::reading).map(|()| piece)
        };
        let (name, extra, _comment) = (piece(28)?, piece(30)?, piece(32)?);
        let made_on_unix = matches!(fixed[5], 3 | 19);
        let mode = u32_at(&fixed, 38) >> 16;
        let mut central = Self {
            name,
            flags: u16_at(&fixed, 8),
            method: u16_at(&fixed, 10),
            crc: u32_at(&fixed, 16),
            compressed: u64::from(u32_at(&fixed, 20)),
            size: u64::from(u32_at(&fixed, 24)),
            local_at: u64::from(u32_at(&fixed, 42)),
            unix_mode: (made_on_unix && mode != 0).then_some(mode),
            mtime: dos_time(u16_at(&fixed, 14), u16_at(&fixed, 12)),
        };
        central.take_extra(&extra)?;
        Ok(central)
    }

    fn take_extra(&mut self, mut extra: &[u8]) -> Result<(), ContextError> {
        // Some programs leave fewer than four bytes of padding at the end.
        while extra.len() >= 4 {
            let (id, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
            let Some(value) = extra.get(4..4 + len) else { return Ok(()) };
            match id {
                EXTRA_ZIP64 => self.take_zip64(value)?,
                EXTRA_TIME if len >= 5 && value[0] & 1 == 1 => self.mtime = u64::from(u32_at(value, 1)),
                EXTRA_UNICODE_PATH if value.get(5..) != Some(&self.name[..]) => return Err(names_differ(&self.name)),
                _ => {}
            }
            extra = &extra[4 + len..];
        }
        Ok(())
    }

    /// 64-bit values, in this order, of those fields that are all ones.
    fn take_zip64(&mut self, mut value: &[u8]) -> Result<(), ContextError> {
        for field in [&mut self.size, &mut self.compressed, &mut self.local_at] {
            if *field == u64::from(u32::MAX) {
                let (first, rest) = value.split_at_checked(8).ok_or_else(|| damaged("a 64-bit size is missing"))?;
                *field = u64_at(first, 0);
                value = rest;
            }
        }
        Ok(())
    }
}

pub(super) fn names_differ(name: &[u8]) -> ContextError {
    let detail = format!("the zip has two different names for the entry {}", quoted(name));
    ContextFault::new("zip_names_differ", detail).into()
}

/// Seconds since the Unix epoch of an MS-DOS date and time, read as UTC (it has no zone).
fn dos_time(date: u16, time: u16) -> u64 {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15).clamp(1, 12), i64::from(date & 31).max(1));
    // Days from the civil date, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = i64::from(time >> 11) * 3600 + i64::from(time >> 5 & 63) * 60 + i64::from(time & 31) * 2;
    u64::try_from(days * 86_400 + seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::dos_time;

    #[test]
    fn reads_dos_times() {
        assert_eq!(dos_time(0b0000_0000_0010_0001, 0), 315_532_800, "1980-01-01");
        assert_eq!(dos_time((44 << 9) | (2 << 5) | 29, (23 << 11) | (59 << 5) | 29), 1_709_251_198, "2024-02-29 23:59:58");
    }
}
