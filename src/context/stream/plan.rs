use std::collections::HashMap;
use std::io;

use super::super::archive::{EntryKind, Walk, clean_dockerfile_path};
use super::super::fault::{ContextError, ContextFault};
use super::super::ignore::{Ignore, is_ignore_file, is_own_ignore_file};
use super::Assemble;
use crate::domain::BuilderKind;

/// What is done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    Exclude,
}

/// What has to be known of the whole archive before its first entry can be sent.
pub(super) struct Plan {
    dockerfile: String,
    replaced: bool,
    builder: BuilderKind,
    ignore: Ignore,
    /// For each hard link the file that it ends at, by way of links to links.
    roots: HashMap<String, String>,
    /// For each file that is not sent but linked to, the link that is sent in its place.
    carriers: HashMap<String, String>,
}

impl Plan {
    /// Reads the archive once: a plain tar by its headers alone.
    pub(super) fn survey(mut walk: Walk, plan: &Assemble, replaced: bool) -> Result<Self, ContextError> {
        let dockerfile = clean_dockerfile_path(&plan.dockerfile)?;
        let (mut own, mut common) = (None, None);
        let mut links = Vec::new();
        while let Some(entry) = walk.next()? {
            match entry.kind {
                EntryKind::File { .. } if is_own_ignore_file(&entry.path, &dockerfile) => {
                    own = Some(Ignore::read(&mut walk, &entry.path)?);
                }
                EntryKind::File { .. } if is_ignore_file(&entry.path, &dockerfile) => {
                    common = Some(Ignore::read(&mut walk, &entry.path)?);
                }
                EntryKind::HardLink { target } => links.push((entry.path, target)),
                _ => {}
            }
        }
        let ignore = own.or(common).unwrap_or_default();
        let mut plan =
            Self { dockerfile, replaced, builder: plan.builder, ignore, roots: HashMap::new(), carriers: HashMap::new() };
        plan.take_links(links);
        Ok(plan)
    }

    fn take_links(&mut self, links: Vec<(String, String)>) {
        for (link, target) in links {
            let root = self.roots.get(&target).unwrap_or(&target).clone();
            if self.verdict(&root) == Verdict::Exclude
                && self.verdict(&link) == Verdict::Send
                && !self.carriers.contains_key(&root)
            {
                self.carriers.insert(root.clone(), link.clone());
            }
            self.roots.insert(link, root);
        }
    }

    pub(super) fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// Whether directories that are left out may still have to be there for what is in them.
    pub(super) fn has_exceptions(&self) -> bool {
        self.ignore.has_exceptions()
    }

    pub(super) fn verdict(&self, path: &str) -> Verdict {
        if path == self.dockerfile {
            return if self.replaced { Verdict::Exclude } else { Verdict::Send };
        }
        if path == ".dockerignore" && self.builder == BuilderKind::Classic {
            return Verdict::Send;
        }
        if self.ignore.excludes(path) { Verdict::Exclude } else { Verdict::Send }
    }

    /// The link under whose name the bytes of this left-out file are sent.
    pub(super) fn carrier(&self, path: &str) -> Option<&str> {
        self.carriers.get(path).map(String::as_str)
    }

    /// Where a hard link points in the tar that is sent; `None` when it stands there as a file already.
    pub(super) fn link_target(&self, link: &str) -> io::Result<Option<&str>> {
        let Some(root) = self.roots.get(link) else {
            let detail = format!("the hard link {link:?} was not there a moment ago: the stored upload has changed");
            return Err(ContextError::from(ContextFault::new("corrupt_archive", detail)).into());
        };
        let target = self.carrier(root).unwrap_or(root);
        Ok((target != link).then_some(target))
    }
}
