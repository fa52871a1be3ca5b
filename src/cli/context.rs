//! The caller's folder as a build context: which of its entries are sent, and as what.
//!
//! `.dockerignore` (or `NAME.dockerignore` beside the Dockerfile) is applied here, so that what it leaves out never travels; the
//! service applies it again, and therefore always gets the ignore file and the Dockerfile. Links are sent as links and never
//! followed. The order is that of the names' bytes, folder by folder: the same folder gives the same context.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};

use crate::context::archive::{Entry, EntryKind};
use crate::context::ignore::{Ignore, is_ignore_file};
use crate::domain::limits::DOCKERFILE_BYTES;

/// Longest ignore file that is read, in bytes; the service takes no longer one.
const IGNORE_BYTES: u64 = 1 << 20;
/// The Dockerfile's name when none is said.
const DOCKERFILE: &str = "Dockerfile";

/// An entry that is sent, and where it is on this machine.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub entry: Entry,
    source: PathBuf,
    /// What told of it when the folder was looked through.
    pub stamp: Stamp,
}

/// What tells that a file is as it was. The change time cannot be set back, as the time of modification can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds, and nanoseconds of the second.
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Local {
    /// The bytes of a file. Not those of a link that has taken its place meanwhile.
    pub(super) fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(&self.source, flags, Mode::empty())?))
    }
}

/// Which Dockerfile is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dockerfile {
    /// The one at this path inside the context.
    Inside(String),
    /// This text, which is sent beside the context.
    Beside(Vec<u8>),
}

/// A folder as it is sent.
#[derive(Debug)]
pub(super) struct Tree {
    /// The folder itself, by its one true name.
    pub root: PathBuf,
    /// Folders stand before what is in them.
    pub entries: Vec<Local>,
    pub dockerfile: Dockerfile,
    /// What no context can hold, in words.
    pub skipped: Vec<String>,
}

impl Tree {
    /// Bytes of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|local| if let EntryKind::File { size } = local.entry.kind { size } else { 0 }).sum()
    }
}

/// Looks through a folder. `file` names another Dockerfile than the folder's own: from where the caller is, else inside the folder;
/// `-` reads it from standard input.
///
/// # Errors
/// When there is no Dockerfile, an ignore file is malformed, something cannot be read, or a name is not UTF-8.
pub(super) fn look(folder: &Path, file: Option<&Path>) -> anyhow::Result<Tree> {
    let root = folder.canonicalize().with_context(|| format!("cannot open the folder {}", folder.display()))?;
    if !root.is_dir() {
        bail!("{} is no folder", folder.display());
    }
    let (dockerfile, own_ignore) = choose(&root, file)?;
    let inside = match &dockerfile {
        Dockerfile::Inside(path) => path.clone(),
        Dockerfile::Beside(_) => DOCKERFILE.to_owned(),
    };
    let outside = own_ignore.is_some();
    let ignore = match own_ignore {
        Some(text) => Some(text),
        None => match read_small(&root.join(format!("{inside}.dockerignore")), IGNORE_BYTES)? {
            Some(text) => Some(text),
            None => read_small(&root.join(".dockerignore"), IGNORE_BYTES)?,
        },
    };
    let ignore = Ignore::parse(&ignore.unwrap_or_default())?;
    let mut walk = Walk { ignore, inside, outside, pending: Vec::new(), entries: Vec::new(), skipped: Vec::new() };
    walk.folder(&root, "")?;
    Ok(Tree { root, entries: walk.entries, dockerfile, skipped: walk.skipped })
}

/// The Dockerfile, and the text of its own ignore file when both are outside the folder.
fn choose(root: &Path, file: Option<&Path>) -> anyhow::Result<(Dockerfile, Option<Vec<u8>>)> {
    let Some(file) = file else {
        return Ok((at(root, &root.join(DOCKERFILE))?.0, None));
    };
    if file == Path::new("-") {
        return Ok((Dockerfile::Beside(text_of_stdin()?), None));
    }
    at(root, &if file.exists() { file.to_owned() } else { root.join(file) })
}

/// A Dockerfile on standard input; of one that is too long enough for the service to say so.
pub(super) fn text_of_stdin() -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    io::stdin().lock().take(DOCKERFILE_BYTES + 1).read_to_end(&mut text).context("cannot read standard input")?;
    Ok(text)
}

/// A link to a Dockerfile is sent as the text that it leads to: the engine would not follow it out of the context.
fn at(root: &Path, file: &Path) -> anyhow::Result<(Dockerfile, Option<Vec<u8>>)> {
    let missing = || format!("there is no Dockerfile at {}; name another one with --file", file.display());
    let name = file.file_name().with_context(missing)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = folder.canonicalize().with_context(missing)?.join(name);
    let found = place.symlink_metadata().with_context(missing)?;
    let inside = place.strip_prefix(root).ok().and_then(Path::to_str);
    if let Some(path) = inside.filter(|_| found.is_file()) {
        return Ok((Dockerfile::Inside(path.to_owned()), None));
    }
    let text = read_small(&place, DOCKERFILE_BYTES)?.with_context(missing)?;
    let mut own = place.into_os_string();
    own.push(".dockerignore");
    Ok((Dockerfile::Beside(text), read_small(Path::new(&own), IGNORE_BYTES)?))
}

/// The text of a file; `None` when there is none.
fn read_small(file: &Path, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    match File::open(file).and_then(|open| open.take(most + 1).read_to_end(&mut text)) {
        Ok(_) if text.len() as u64 > most => bail!("{} is larger than {most} bytes", file.display()),
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

struct Walk {
    ignore: Ignore,
    /// The Dockerfile's path inside the context.
    inside: String,
    /// The ignore file came from outside: the folder's own one does not count, and the service must not apply it.
    outside: bool,
    /// Folders around the present one that are left out, but may hold something that is sent.
    pending: Vec<Local>,
    entries: Vec<Local>,
    skipped: Vec<String>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, prefix: &str) -> anyhow::Result<()> {
        let unreadable = || format!("cannot read the folder {}", folder.display());
        let found = fs::read_dir(folder).with_context(unreadable)?;
        let mut names = found.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().with_context(unreadable)?;
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        for name in names {
            self.one(&folder.join(&name), prefix, &name)?;
        }
        Ok(())
    }

    fn one(&mut self, source: &Path, prefix: &str, name: &OsStr) -> anyhow::Result<()> {
        let path = format!("{prefix}{}", name.to_string_lossy());
        let sent = self.is_sent(&path);
        // What is left out is not looked at: it may not even be readable.
        if !sent && !self.may_hold_more(&path) {
            return Ok(());
        }
        let found = source.symlink_metadata().with_context(|| format!("cannot look at {}", source.display()))?;
        if !sent && !found.is_dir() {
            return Ok(());
        }
        let Some(kind) = kind(source, &found)? else {
            self.skipped.push(format!("{path:?} is {}, which no context can hold", special(&found)));
            return Ok(());
        };
        if name.to_str().is_none() {
            bail!("{} has a name that is not UTF-8", source.display());
        }
        let entry = Entry { path, kind, mode: found.mode() & 0o7777, mtime: u64::try_from(found.mtime()).unwrap_or(0) };
        self.take(Local { entry, source: source.to_owned(), stamp: Stamp::of(&found) }, sent)
    }

    fn take(&mut self, local: Local, sent: bool) -> anyhow::Result<()> {
        let is_folder = local.entry.kind == EntryKind::Dir;
        let (source, inner) = (local.source.clone(), format!("{}/", local.entry.path));
        let around = self.pending.len();
        if sent {
            self.entries.append(&mut self.pending);
            self.entries.push(local);
        } else {
            self.pending.push(local);
        }
        if is_folder {
            self.folder(&source, &inner)?;
        }
        self.pending.truncate(around);
        Ok(())
    }

    /// The service reads the Dockerfile and the ignore file also where they leave out themselves.
    fn is_sent(&self, path: &str) -> bool {
        if is_ignore_file(path, &self.inside) {
            return !self.outside;
        }
        path == self.inside || !self.ignore.excludes(path)
    }

    /// Whether something below this left-out path may be sent.
    fn may_hold_more(&self, path: &str) -> bool {
        self.ignore.has_exceptions() || self.inside.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// `None` for what no context can hold.
fn kind(source: &Path, found: &Metadata) -> anyhow::Result<Option<EntryKind>> {
    let of = found.file_type();
    if of.is_symlink() {
        let target = fs::read_link(source).with_context(|| format!("cannot read the link {}", source.display()))?;
        let target = target.to_str().with_context(|| format!("{} leads to a name that is not UTF-8", source.display()))?;
        return Ok(Some(EntryKind::Symlink { target: target.to_owned() }));
    }
    Ok(if of.is_dir() { Some(EntryKind::Dir) } else { of.is_file().then_some(EntryKind::File { size: found.len() }) })
}

fn special(found: &Metadata) -> &'static str {
    let of = found.file_type();
    if of.is_socket() {
        "a socket"
    } else if of.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
