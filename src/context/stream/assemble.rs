use std::collections::BTreeMap;
use std::io;

use super::super::archive::{Entry, EntryKind, Walk, clean_dockerfile_path};
use super::super::blobs;
use super::super::fault::ContextError;
use super::plan::{Plan, Verdict};
use super::write::TarWriter;
use super::{Assemble, Source};

/// Most left-out directories that are remembered for the sake of what is in them; further ones get the usual mode.
const PENDING: usize = 10_000;

/// Writes the whole context. Ends with `BrokenPipe` when nobody reads any more.
pub(super) fn run(source: &Source, plan: &Assemble, writer: &mut TarWriter) -> io::Result<()> {
    match source {
        Source::Dockerfile(text) => {
            let path = clean_dockerfile_path(&plan.dockerfile).map_err(io::Error::other)?;
            writer.entry(&dockerfile(path, text), &mut text.as_slice())?;
        }
        Source::Archive { path, replacement } => {
            entries(&|| Walk::open(path, &plan.limits).map(|(_, walk)| walk), replacement.as_deref(), plan, writer)?;
        }
        Source::Manifest { path, root, replacement } => {
            entries(&|| blobs::open(path, root, &plan.limits).map(|(_, walk)| walk), replacement.as_deref(), plan, writer)?;
        }
    }
    writer.finish()
}

fn dockerfile(path: String, text: &[u8]) -> Entry {
    Entry { path, kind: EntryKind::File { size: text.len() as u64 }, mode: 0o644, mtime: 0 }
}

/// Opens the upload, as often as it has to be read.
type Open<'a> = &'a dyn Fn() -> Result<Walk, ContextError>;

fn entries(open: Open<'_>, replacement: Option<&[u8]>, assemble: &Assemble, writer: &mut TarWriter) -> io::Result<()> {
    let plan = Plan::survey(open()?, assemble, replacement.is_some())?;
    if let Some(text) = replacement {
        writer.entry(&dockerfile(plan.dockerfile().to_owned(), text), &mut &*text)?;
    }
    let mut walk = open()?;
    let mut pending = Pending::default();
    while let Some(entry) = walk.next()? {
        if writer.is_abandoned() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Some(entry) = placed(entry, &plan, &mut pending)? else { continue };
        for dir in pending.parents_of(&entry.path) {
            writer.entry(&dir, &mut io::empty())?;
        }
        match entry.kind {
            EntryKind::File { .. } => writer.entry(&entry, walk.data())?,
            _ => writer.entry(&entry, &mut io::empty())?,
        }
    }
    Ok(())
}

/// The entry as it is sent, maybe under another name; `None` when it is left out.
fn placed(mut entry: Entry, plan: &Plan, pending: &mut Pending) -> io::Result<Option<Entry>> {
    if plan.verdict(&entry.path) == Verdict::Exclude {
        if let Some(carrier) = plan.carrier(&entry.path) {
            entry.path = carrier.to_owned();
            return Ok(Some(entry));
        }
        if entry.kind == EntryKind::Dir && plan.has_exceptions() {
            pending.add(entry);
        }
        return Ok(None);
    }
    if let EntryKind::HardLink { target } = &mut entry.kind {
        match plan.link_target(&entry.path)? {
            Some(root) => root.clone_into(target),
            None => return Ok(None),
        }
    }
    Ok(Some(entry))
}

/// Directories that were left out, of which something may be sent nevertheless: their own mode then matters.
#[derive(Default)]
struct Pending(BTreeMap<String, Entry>);

impl Pending {
    fn add(&mut self, dir: Entry) {
        if self.0.len() < PENDING {
            self.0.insert(dir.path.clone(), dir);
        }
    }

    /// The remembered parents of a path, outermost first; each is handed out once.
    fn parents_of(&mut self, path: &str) -> Vec<Entry> {
        if self.0.is_empty() {
            return Vec::new();
        }
        path.match_indices('/').filter_map(|(at, _)| self.0.remove(&path[..at])).collect()
    }
}
