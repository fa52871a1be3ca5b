//! Lists of paths that are remembered in the caller's cache folder, in a form that is read in no time: a line that says what it is, a
//! head, then path and value by turns, each after its length. It is only a help: a list that cannot be read is none.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// `$XDG_CACHE_HOME/dockwright/KIND/NAME`, or below `~/.cache`; `of` tells lists of one kind from each other.
pub(super) fn place(kind: &str, of: &[&[u8]]) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let root = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let name = of.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part.len().to_le_bytes()).chain_update(part));
    Some(root.join("dockwright").join(kind).join(hex::encode(name.finalize())))
}

/// The head of a list, and its values by path.
pub(super) fn read<T>(file: &Path, form: &str, value: impl Fn(&[u8]) -> Option<T>) -> Option<(String, HashMap<String, T>)> {
    let text = fs::read(file).ok()?;
    let mut rest = text.strip_prefix(form.as_bytes())?;
    let head = String::from_utf8(part(&mut rest)?.to_vec()).ok()?;
    let mut list = HashMap::new();
    while !rest.is_empty() {
        let path = std::str::from_utf8(part(&mut rest)?).ok()?;
        list.insert(path.to_owned(), value(part(&mut rest)?)?);
    }
    Some((head, list))
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

/// Another command may write at the same time: the later one wins, whole.
pub(super) fn write<'a, V: AsRef<[u8]>>(
    file: &Path,
    form: &str,
    head: &str,
    list: impl Iterator<Item = (&'a str, V)>,
) -> io::Result<()> {
    let mut text = form.as_bytes().to_vec();
    let mut put = |bytes: &[u8]| {
        text.extend(u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes());
        text.extend(bytes);
        io::Result::Ok(())
    };
    put(head.as_bytes())?;
    for (path, value) in list {
        put(path.as_bytes())?;
        put(value.as_ref())?;
    }
    let folder = file.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&text)?;
    new.persist(file).map(|_| ()).map_err(|error| error.error)
}
