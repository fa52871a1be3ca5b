//! The fixed part of a tar entry: one block of 512 bytes (POSIX pax interchange format, "ustar Interchange Format").

use super::super::fault::{ContextFault, quoted};

pub(in crate::context) const BLOCK: usize = 512;
pub(in crate::context) type Block = [u8; BLOCK];

pub(in crate::context) struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub size: u64,
    pub mode: u32,
    pub mtime: u64,
}

impl Header {
    pub(in crate::context) fn parse(block: &Block) -> Result<Self, ContextFault> {
        if !is_header(block) {
            let detail = "the archive is damaged: the checksum of a header is wrong";
            return Err(ContextFault::new("corrupt_archive", detail));
        }
        let name = path(block)?;
        let number = |field: &[u8], what: &str| {
            numeric(field).ok_or_else(|| {
                let detail = format!("the entry {} has no valid {what} in its header", quoted(&name));
                ContextFault::new("corrupt_archive", detail)
            })
        };
        let size = number(&block[124..136], "size")?;
        let mode = number(&block[100..108], "mode")?;
        // A time before 1970 or far beyond is no reason to refuse anything.
        let mtime = numeric(&block[136..148]).unwrap_or(0);
        let link = until_nul(&block[157..257]).to_vec();
        Ok(Self { flag: block[156], size, mode: (mode & 0o7777) as u32, mtime, link, name })
    }
}

/// Whether the block carries its own checksum, the sum of its bytes with the checksum's field read as spaces.
pub(super) fn is_header(block: &Block) -> bool {
    let Some(stated) = numeric(&block[148..156]) else { return false };
    let bytes = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    // Old programs summed signed bytes; Go's archive/tar takes both.
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    stated == unsigned || i64::try_from(stated) == Ok(signed)
}

fn path(block: &Block) -> Result<Vec<u8>, ContextFault> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    if &block[257..263] != b"ustar\0" || prefix.is_empty() {
        return Ok(name.to_vec());
    }
    // In star's variant the prefix is shorter and times follow it: programs would read different names.
    if &block[508..512] == b"tar\0" && prefix.len() >= 131 {
        let detail = format!("the entry {} has a header that programs read differently", quoted(name));
        return Err(ContextFault::new("ambiguous_header", detail));
    }
    Ok([prefix, b"/", name].concat())
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal, or in base 256 when the first bit is set (GNU); `None` when it is neither or negative.
fn numeric(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let high = u64::from(first & 0x7f);
        return rest.iter().try_fold(high, |n, byte| n.checked_mul(256).map(|n| n | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches([' ', '\0']);
    let text = text.split('\0').next().unwrap_or_default();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
