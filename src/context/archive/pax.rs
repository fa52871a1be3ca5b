//! What may stand before a tar entry and change it: PAX records (POSIX `x`, `g`) and GNU long names (`L`, `K`).
//!
//! Two programs that read such a header differently see two different archives, so whatever is not plain is refused.

use super::super::fault::{ContextFault, quoted};
use super::tar_header::Header;

/// A header's value is larger than 8 GiB − 1 when its field of 11 octal digits cannot hold it.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// The overrides that wait for their entry.
#[derive(Default)]
pub(super) struct Overrides {
    pax: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    linkpath: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<u64>,
    xattrs: bool,
}

impl Overrides {
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }

    /// Takes the records of an `x` header.
    pub(super) fn local(&mut self, data: &[u8]) -> Result<(), ContextFault> {
        if self.pax.is_some() {
            return Err(ambiguous("two PAX headers stand before one entry"));
        }
        let mut records = Records::default();
        for (key, value) in parse(data)? {
            records.take(key, value)?;
        }
        self.pax = Some(records);
        Ok(())
    }

    /// Takes a GNU long name (`L`) or long link (`K`).
    pub(super) fn gnu(&mut self, flag: u8, data: Vec<u8>) -> Result<(), ContextFault> {
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        if data[end..].iter().any(|byte| *byte != 0) {
            return Err(ambiguous("a GNU long name goes on after its NUL"));
        }
        let slot = if flag == b'L' { &mut self.long_name } else { &mut self.long_link };
        if slot.replace(data[..end].to_vec()).is_some() {
            return Err(ambiguous("two GNU long names stand before one entry"));
        }
        Ok(())
    }

    /// Puts the overrides in; answers whether extended attributes were left out.
    pub(super) fn apply(self, header: &mut Header) -> Result<bool, ContextFault> {
        let pax = self.pax.unwrap_or_default();
        let both = (pax.path.is_some() && self.long_name.is_some()) || (pax.linkpath.is_some() && self.long_link.is_some());
        if both {
            return Err(ambiguous("an entry has both a GNU long name and a PAX path"));
        }
        if let Some(size) = pax.size {
            let too_large_for_the_header = size > OCTAL_MAX && header.size == 0;
            if size != header.size && !too_large_for_the_header {
                let detail = format!("the entry {} has one size in its header and another in PAX", quoted(&header.name));
                return Err(ContextFault::new("ambiguous_header", detail));
            }
            header.size = size;
        }
        if let Some(name) = pax.path.or(self.long_name) {
            header.name = name;
        }
        if let Some(link) = pax.linkpath.or(self.long_link) {
            header.link = link;
        }
        header.mtime = pax.mtime.unwrap_or(header.mtime);
        Ok(pax.xattrs)
    }
}

impl Records {
    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), ContextFault> {
        let twice = match key {
            "path" => self.path.replace(text(value)?).is_some(),
            "linkpath" => self.linkpath.replace(text(value)?).is_some(),
            "size" => self.size.replace(size(value)?).is_some(),
            "mtime" => {
                self.mtime = seconds(value);
                false
            }
            "hdrcharset" if value != b"ISO-IR 10646 2000 UTF-8" => return Err(ambiguous("a PAX header is not in UTF-8")),
            _ if key.starts_with("GNU.sparse.") || key == "SCHILY.realsize" => {
                return Err(ContextFault::new("sparse_file", "the archive has a sparse file in PAX form"));
            }
            _ => {
                self.xattrs |= key.starts_with("SCHILY.xattr.") || key.starts_with("LIBARCHIVE.xattr.");
                false
            }
        };
        if twice { Err(ambiguous(&format!("a PAX header names {key:?} twice"))) } else { Ok(()) }
    }
}

/// Checks the records of a `g` header: they may say anything but what an entry is called, is, or is large.
pub(super) fn check_global(data: &[u8]) -> Result<(), ContextFault> {
    for (key, _) in parse(data)? {
        if matches!(key, "path" | "linkpath" | "size" | "hdrcharset") || key.starts_with("GNU.sparse.") {
            return Err(ambiguous(&format!("a global PAX header sets {key:?} for all entries")));
        }
    }
    Ok(())
}

/// `"%d %s=%s\n"`, again and again, where the number counts the whole record.
fn parse(mut data: &[u8]) -> Result<Vec<(&str, &[u8])>, ContextFault> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or_else(|| ambiguous("a PAX header is malformed"))?;
        records.push((key, value));
        data = rest;
    }
    Ok(records)
}

fn record(data: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(&data[..space]).ok()?;
    // `parse` would take a sign, which POSIX does not know.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let len: usize = digits.parse().ok()?;
    let body = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let key = std::str::from_utf8(&body[..equals]).ok().filter(|key| !key.is_empty())?;
    Some((key, &body[equals + 1..], &data[len..]))
}

fn text(value: &[u8]) -> Result<Vec<u8>, ContextFault> {
    if value.is_empty() || value.contains(&0) {
        return Err(ContextFault::new("invalid_path", "a PAX path is empty or has a NUL in it"));
    }
    Ok(value.to_vec())
}

fn size(value: &[u8]) -> Result<u64, ContextFault> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| ambiguous("a PAX size is not a number"))
}

/// Whole seconds of a decimal time; `None` before 1970.
fn seconds(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split('.').next()?.parse().ok()
}

fn ambiguous(detail: &str) -> ContextFault {
    ContextFault::new("ambiguous_header", detail)
}
