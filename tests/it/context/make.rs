//! Archives byte by byte: what no ordinary program writes has to be made by hand.

use std::io::Write;

/// A tar that is being written.
#[derive(Default)]
pub struct Tar(Vec<u8>);

/// A header of 512 bytes with the right checksum.
pub fn header(name: &[u8], flag: u8, size: u64, link: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0001750\0");
    block[116..124].copy_from_slice(b"0001750\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"14000000000\0");
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Computes the checksum anew.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn data(self, data: &[u8]) -> Self {
        let padding = data.len().wrapping_neg() % 512;
        self.raw(data).raw(&vec![0; padding])
    }

    pub fn entry(self, name: impl AsRef<[u8]>, flag: u8, link: &str) -> Self {
        self.raw(&header(name.as_ref(), flag, 0, link.as_bytes()))
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        self.raw(&header(name.as_ref(), b'0', data.len() as u64, b"")).data(data)
    }

    pub fn executable(self, name: &str, data: &[u8]) -> Self {
        let mut block = header(name.as_bytes(), b'0', data.len() as u64, b"");
        block[100..108].copy_from_slice(b"0000755\0");
        seal(&mut block);
        self.raw(&block).data(data)
    }

    pub fn dir(self, name: &str) -> Self {
        let mut block = header(name.as_bytes(), b'5', 0, b"");
        block[100..108].copy_from_slice(b"0000750\0");
        seal(&mut block);
        self.raw(&block)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target)
    }

    /// A PAX (`x`, `g`) header of these records.
    pub fn pax(self, flag: u8, records: &[(&str, &str)]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (rest..).find(|len| rest + len.to_string().len() == *len).expect("some length fits");
            data.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
        }
        self.raw(&header(b"PaxHeaders/x", flag, data.len() as u64, b"")).data(&data)
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub fn gnu(self, flag: u8, text: &str) -> Self {
        let data = [text.as_bytes(), b"\0"].concat();
        self.raw(&header(b"././@LongLink", flag, data.len() as u64, b"")).data(&data)
    }

    /// The tar with its end marker.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }

    /// The tar as far as it was written.
    pub fn cut(self) -> Vec<u8> {
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes it")
}

/// One entry of a zip, and what is said of it in two places.
pub struct ZipEntry {
    pub local_name: String,
    pub name: String,
    pub data: Vec<u8>,
    pub deflate: bool,
    pub mode: Option<u32>,
    pub flags: u16,
    pub crc: u32,
    /// The size that is stated; the real one if `None`.
    pub size: Option<u32>,
}

impl ZipEntry {
    pub fn new(name: &str, data: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        Self {
            local_name: name.into(),
            name: name.into(),
            data: data.into(),
            deflate: true,
            mode: None,
            flags: 0,
            crc: crc.sum(),
            size: None,
        }
    }

    /// With a Unix mode, type included.
    pub fn mode(name: &str, data: &[u8], mode: u32) -> Self {
        Self { mode: Some(mode), ..Self::new(name, data) }
    }

    fn packed(&self) -> Vec<u8> {
        if !self.deflate {
            return self.data.clone();
        }
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&self.data).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    /// The fields that both headers share: version, flags, method, time, checksum, sizes.
    fn shared(&self, packed: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let method = if self.deflate { 8_u16 } else { 0 };
        for short in [20, self.flags, method, 0, 0x58_21] {
            out.extend_from_slice(&short.to_le_bytes());
        }
        let size = self.size.unwrap_or(self.data.len() as u32);
        for long in [self.crc, packed as u32, size] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        out
    }

    fn central(&self, packed: usize, local_at: u32) -> Vec<u8> {
        let made_by: u16 = if self.mode.is_some() { 3 << 8 | 20 } else { 20 };
        let mut out =
            [&b"PK\x01\x02"[..], &made_by.to_le_bytes(), &self.shared(packed), &(self.name.len() as u16).to_le_bytes()].concat();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&(self.mode.unwrap_or(0) << 16).to_le_bytes());
        out.extend_from_slice(&local_at.to_le_bytes());
        [out.as_slice(), self.name.as_bytes()].concat()
    }
}

/// A zip of these entries.
pub fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let packed = entry.packed();
        directory.extend(entry.central(packed.len(), out.len() as u32));
        out.extend_from_slice(b"PK\x03\x04");
        out.extend(entry.shared(packed.len()));
        out.extend((entry.local_name.len() as u16).to_le_bytes());
        out.extend([0, 0]);
        out.extend_from_slice(entry.local_name.as_bytes());
        out.extend(packed);
    }
    finish(out, &directory, entries.len() as u16)
}

/// A zip whose directory names one and the same data `times` times, under different names of the same length.
pub fn zip_over_itself(times: u16) -> Vec<u8> {
    let entry = ZipEntry::new("00000", &vec![0; 100_000]);
    let whole = zip(std::slice::from_ref(&entry));
    let packed = entry.packed();
    let local_len = 30 + 5 + packed.len();
    let directory: Vec<u8> = (0..times).flat_map(|_| entry.central(packed.len(), 0)).collect();
    finish(whole[..local_len].to_vec(), &directory, times)
}

fn finish(mut out: Vec<u8>, directory: &[u8], entries: u16) -> Vec<u8> {
    let at = out.len() as u32;
    out.extend_from_slice(directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&entries.to_le_bytes());
    out.extend_from_slice(&entries.to_le_bytes());
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

/// Puts the bytes into a file of its own.
pub fn stored(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("room for it");
    file
}
