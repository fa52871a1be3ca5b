use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::super::archive::{BLOCK, Entry, EntryKind, padding};
use super::super::fault::ContextError;

/// Size of a chunk on its way to the engine.
const CHUNK: usize = 256 * 1024;
/// What a header's field of 11 octal digits can hold.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// Writes tar entries (POSIX ustar, with PAX records where ustar is too narrow) into a channel of chunks.
pub(in crate::context) struct TarWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
}

impl TarWriter {
    pub(in crate::context) fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { sender, chunk: BytesMut::with_capacity(CHUNK) }
    }

    /// Whether nobody reads any more.
    pub(in crate::context) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Writes one entry; a file's bytes are taken from `data`, which must have exactly as many as the entry says.
    pub(in crate::context) fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let (flag, size, link) = match &entry.kind {
            EntryKind::File { size } => (b'0', *size, ""),
            EntryKind::Dir => (b'5', 0, ""),
            EntryKind::Symlink { target } => (b'2', 0, target.as_str()),
            EntryKind::HardLink { target } => (b'1', 0, target.as_str()),
        };
        let mut path = entry.path.clone();
        if flag == b'5' {
            path.push('/');
        }
        let pax = pax_records(&path, link, size);
        if !pax.is_empty() {
            self.header(&Fields { path: "PaxHeaders", flag: b'x', size: pax.len() as u64, mode: 0o644, mtime: 0, link: "" })?;
            self.bytes(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        self.header(&Fields { path: &path, flag, size, mode: entry.mode, mtime: entry.mtime, link })?;
        self.copy(size, data)?;
        self.pad(size)
    }

    /// Writes the end marker and sends what is left.
    pub(in crate::context) fn finish(&mut self) -> io::Result<()> {
        self.bytes(&[0; 2 * BLOCK])?;
        self.send()
    }

    /// Ends the stream with an error; whoever reads it learns that the tar is not whole.
    pub(in crate::context) fn fail(&mut self, error: io::Error) {
        // Nobody is left to be told when the channel is closed.
        let _ = self.sender.blocking_send(Err(error));
    }

    fn header(&mut self, fields: &Fields<'_>) -> io::Result<()> {
        self.bytes(&fields.block())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let zeros = [0; BLOCK];
        let missing = usize::try_from(padding(size)).expect("fits, because it is less than a block");
        self.bytes(&zeros[..missing])
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = (CHUNK - self.chunk.len()).min(bytes.len());
            self.chunk.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            self.send_full()?;
        }
        Ok(())
    }

    /// Reads straight into the chunk: bytes are copied once between the disk and the engine's socket.
    fn copy(&mut self, mut left: u64, data: &mut dyn Read) -> io::Result<()> {
        while left > 0 {
            let filled = self.chunk.len();
            let room = (CHUNK - filled).min(usize::try_from(left).unwrap_or(usize::MAX));
            self.chunk.resize(filled + room, 0);
            let read = data.read(&mut self.chunk[filled..]);
            self.chunk.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ContextError::reading(io::ErrorKind::UnexpectedEof.into()).into()),
                Ok(read) => left -= read as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ContextError::reading(e).into()),
            }
            self.send_full()?;
        }
        // A decoder tells only at the end whether the checksum was right.
        let more = data.read(&mut [0]).map_err(ContextError::reading)?;
        if more == 0 { Ok(()) } else { Err(io::Error::other("a file has more bytes than its header says")) }
    }

    fn send_full(&mut self) -> io::Result<()> {
        if self.chunk.len() == CHUNK { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(CHUNK)).freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Fields<'a> {
    path: &'a str,
    flag: u8,
    size: u64,
    mode: u32,
    mtime: u64,
    link: &'a str,
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        text(&mut block[..100], self.path);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        // Beyond the field the PAX record counts.
        octal(&mut block[124..136], if self.size > OCTAL_MAX { 0 } else { self.size });
        octal(&mut block[136..148], self.mtime.min(OCTAL_MAX));
        block[156] = self.flag;
        text(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().copied().map(u64::from).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// As much of the text as fits; where that is not all, a PAX record has it whole.
fn text(field: &mut [u8], text: &str) {
    let fits = text.len().min(field.len());
    field[..fits].copy_from_slice(&text.as_bytes()[..fits]);
}

/// Octal digits that leave the field's last byte as it is.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

fn pax_records(path: &str, link: &str, size: u64) -> Vec<u8> {
    let narrow = |text: &str| text.len() <= 100 && text.is_ascii();
    let mut records = Vec::new();
    if !narrow(path) {
        pax_record(&mut records, "path", path);
    }
    if !narrow(link) {
        pax_record(&mut records, "linkpath", link);
    }
    if size > OCTAL_MAX {
        pax_record(&mut records, "size", &size.to_string());
    }
    records
}

/// `"%d %s=%s\n"`, where the number counts the whole record, itself included.
fn pax_record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::pax_record;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for value in [1, 88, 89, 90, 91, 92, 988, 989, 990, 991, 992] {
            let mut records = Vec::new();
            pax_record(&mut records, "path", &"x".repeat(value));
            let text = String::from_utf8(records).expect("ASCII");
            let stated: usize = text.split(' ').next().expect("a number").parse().expect("a number");
            assert_eq!(stated, text.len(), "value of {value} bytes");
        }
    }
}
