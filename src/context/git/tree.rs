//! A tree of a repository: what is in it, and its files as entries of a tar. Blocks; every call is about objects that are here already.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::process::Local;
use super::url::is_hash;
use crate::context::archive::{ArchiveLimits, Entry, EntryKind, too_many_entries};
use crate::context::fault::{ContextError, ContextFault, quoted};
use crate::context::stream::write::TarWriter;
use crate::domain::limits::PATH_BYTES;

/// Bytes of a listed entry before its path: mode, type, hash and size.
const FIELDS: u64 = 128;

/// A tree, and where it stands in the context.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub local: Local,
    pub tree: String,
    /// Empty for the context's own root.
    pub at: String,
}

/// A place where another repository's commit belongs.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// In the part's tree.
    pub path: String,
    pub commit: String,
}

/// What was counted of all parts so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub bytes: u64,
    pub entries: u64,
}

enum Kind {
    File { executable: bool },
    Symlink,
    Dir,
    Link,
}

struct Listed {
    kind: Kind,
    hash: String,
    size: u64,
    path: String,
}

impl Part {
    fn path(&self, inside: &str) -> String {
        if self.at.is_empty() { inside.to_owned() } else { format!("{}/{inside}", self.at) }
    }
}

/// Lists a whole part and counts it, before a byte of it is read; its links to other repositories. A tree can name more than any disk
/// holds (a few small ones that name each other often enough), so it ends at the first entry that is too much.
pub(super) fn survey(part: &Part, totals: &mut Totals, limits: &ArchiveLimits) -> Result<Vec<Link>, ContextError> {
    let mut links = Vec::new();
    let mut listing = Listing::open(part)?;
    while let Some(listed) = listing.next()? {
        totals.entries += 1;
        totals.bytes = totals.bytes.saturating_add(listed.size);
        if totals.entries > limits.entries {
            return Err(too_many_entries(limits.entries).into());
        }
        if totals.bytes > limits.expanded_bytes {
            let (path, limit) = (&listed.path, limits.expanded_bytes);
            let detail = format!("with the file {path:?} the context has more than the limit of {limit} bytes");
            return Err(ContextFault::too_large("expanded_too_large", detail).into());
        }
        if matches!(listed.kind, Kind::Link) {
            links.push(Link { path: listed.path, commit: listed.hash });
        }
    }
    Ok(links)
}

/// Writes a whole part as entries with this time, in seconds since the Unix epoch.
pub(super) fn write(part: &Part, mtime: u64, writer: &mut TarWriter) -> Result<(), ContextError> {
    let mut listing = Listing::open(part)?;
    let mut objects = Objects::open(&part.local)?;
    while let Some(listed) = listing.next()? {
        if writer.is_abandoned() {
            return Err(ContextError::Io(io::ErrorKind::BrokenPipe.into()));
        }
        let path = part.path(&listed.path);
        let entry = |kind, mode| Entry { path, kind, mode, mtime };
        match listed.kind {
            Kind::Dir | Kind::Link => writer.entry(&entry(EntryKind::Dir, 0o755), &mut io::empty()),
            Kind::File { executable } => {
                let mode = if executable { 0o755 } else { 0o644 };
                let mut data = objects.data(&listed.hash, listed.size)?;
                writer.entry(&entry(EntryKind::File { size: listed.size }, mode), &mut data)
            }
            Kind::Symlink => {
                let target = objects.target(&listed)?;
                writer.entry(&entry(EntryKind::Symlink { target }, 0o777), &mut io::empty())
            }
        }
        .map_err(ContextError::reading)?;
    }
    Ok(())
}

/// `git ls-tree`, entry by entry. Dropping it ends it.
struct Listing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listing {
    fn open(part: &Part) -> Result<Self, ContextError> {
        let mut command = part.local.command();
        command.args(["ls-tree", "-r", "-t", "-z", "--long", "--full-tree", "--end-of-options", &part.tree]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(ContextError::Io)?;
        let lines = BufReader::new(child.stdout.take().expect("piped, because it was asked for"));
        Ok(Self { child, lines })
    }

    fn next(&mut self) -> Result<Option<Listed>, ContextError> {
        let mut record = Vec::new();
        let most = FIELDS + PATH_BYTES as u64 + 1;
        self.lines.by_ref().take(most).read_until(0, &mut record).map_err(ContextError::Io)?;
        match record.pop() {
            None => {
                let status = self.child.wait().map_err(ContextError::Io)?;
                if status.success() { Ok(None) } else { Err(broken("its tree cannot be listed")) }
            }
            Some(0) => listed(&record).map(Some),
            Some(_) => {
                let detail = format!("the repository has a path that is longer than {PATH_BYTES} bytes");
                Err(ContextFault::new("path_too_long", detail).into())
            }
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// `MODE TYPE HASH SIZE⇥PATH`
fn listed(record: &[u8]) -> Result<Listed, ContextError> {
    let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(|| broken("its tree has no paths"))?;
    let (fields, path) = (String::from_utf8_lossy(&record[..tab]), &record[tab + 1..]);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let [mode, _, hash, size] = fields[..] else { return Err(broken("its tree has other fields than it should")) };
    let Ok(path) = std::str::from_utf8(path) else {
        let detail = format!("the path {} of the repository is not UTF-8", quoted(path));
        return Err(ContextFault::new("path_not_utf8", detail).into());
    };
    let kind = match mode {
        "040000" => Kind::Dir,
        "120000" => Kind::Symlink,
        "160000" => Kind::Link,
        "100755" => Kind::File { executable: true },
        _ if mode.starts_with("100") => Kind::File { executable: false },
        other => return Err(broken(&format!("the mode of {path:?} is {other}"))),
    };
    if !is_hash(hash) {
        return Err(broken("its tree names no objects"));
    }
    Ok(Listed { kind, hash: hash.to_owned(), size: size.parse().unwrap_or(0), path: path.to_owned() })
}

/// `git cat-file --batch`: asked for one object after the other. Dropping it ends it.
struct Objects {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Whether the line's end behind an object was not read yet.
    behind: bool,
}

impl Objects {
    fn open(local: &Local) -> Result<Self, ContextError> {
        let mut command = local.command();
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(ContextError::Io)?;
        let asked = child.stdin.take().expect("piped, because it was asked for");
        let answers = BufReader::with_capacity(256 * 1024, child.stdout.take().expect("piped, because it was asked for"));
        Ok(Self { child, asked, answers, behind: false })
    }

    /// A file's bytes. They have to be read to their end before the next object is asked for.
    fn data(&mut self, hash: &str, size: u64) -> Result<impl Read, ContextError> {
        if std::mem::replace(&mut self.behind, true) {
            self.answers.read_exact(&mut [0]).map_err(ContextError::Io)?;
        }
        self.asked.write_all(format!("{hash}\n").as_bytes()).map_err(ContextError::Io)?;
        let mut line = String::new();
        self.answers.by_ref().take(FIELDS).read_line(&mut line).map_err(ContextError::Io)?;
        if line.trim_end() != format!("{hash} blob {size}") {
            return Err(broken(&format!("the object {hash} is missing")));
        }
        Ok(self.answers.by_ref().take(size))
    }

    fn target(&mut self, link: &Listed) -> Result<String, ContextError> {
        if link.size > PATH_BYTES as u64 {
            let detail = format!("the symbolic link {:?} points to more than {PATH_BYTES} bytes", link.path);
            return Err(ContextFault::new("path_too_long", detail).into());
        }
        let mut target = String::new();
        let read = self.data(&link.hash, link.size)?.read_to_string(&mut target);
        match read {
            Ok(_) if !target.is_empty() && !target.contains('\0') => Ok(target),
            Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(ContextError::Io(error)),
            _ => {
                let detail = format!("the symbolic link {:?} has no valid target", link.path);
                Err(ContextFault::new("invalid_path", detail).into())
            }
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only when it is over already.
    let _ = child.kill();
    let _ = child.wait();
}

fn broken(why: &str) -> ContextError {
    ContextFault::new("git_failed", format!("the repository cannot be read: {why}")).into()
}
