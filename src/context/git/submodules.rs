//! Which repository belongs where, as `.gitmodules` of a commit says (gitmodules(5)).

use std::collections::BTreeMap;

use super::fault::refused;
use super::process::Local;
use super::url::Repository;
use crate::error::Result;

/// The repositories of a commit's submodules, by their paths.
pub(super) struct Submodules {
    urls: BTreeMap<String, String>,
    parent: Repository,
}

impl Submodules {
    /// # Errors
    /// When git cannot be run. A commit without the file, or with one that git cannot read, has none.
    pub(super) async fn of(local: &Local, commit: &str, parent: &Repository) -> Result<Self> {
        // From the object, not from a file: nothing that it names is included.
        let blob = format!("{commit}:.gitmodules");
        let arguments = ["config", "--blob", &blob, "-z", "--get-regexp", r"^submodule\..*\.(path|url)$"];
        let said = local.ask(&arguments).await?.unwrap_or_default();
        Ok(Self { urls: by_path(&said), parent: parent.clone() })
    }

    /// # Errors
    /// `git_submodule` when nothing is said of the path; `git_url`.
    pub(super) fn at(&self, path: &str) -> Result<Repository> {
        let url = self.urls.get(path).ok_or_else(|| {
            refused("git_submodule", format!("{}: .gitmodules names no url for the submodule at {path:?}", self.parent))
        })?;
        self.parent.submodule(url).map_err(|why| {
            refused("git_url", format!("{}: the url of the submodule at {path:?} {}", self.parent, in_a_sentence(&why)))
        })
    }
}

/// Some reasons begin with a verb and some name a protocol first.
fn in_a_sentence(why: &str) -> String {
    let verb = ["must", "has", "holds", "may", "leads"].iter().any(|verb| why.starts_with(verb));
    if verb { why.to_owned() } else { format!("cannot be used: {why}") }
}

/// Of `KEY⏎VALUE⌁` records; the last of a key counts, as for git.
fn by_path(said: &str) -> BTreeMap<String, String> {
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in said.split('\0').filter_map(|record| record.split_once('\n')) {
        let Some((name, field)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else { continue };
        let into = if field == "path" { &mut paths } else { &mut urls };
        into.insert(name.to_owned(), value.to_owned());
    }
    paths.into_iter().filter_map(|(name, path)| Some((path, urls.remove(&name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_urls() {
        let said = "submodule.a.b.path\nlib/x\0submodule.a.b.url\n../x.git\0submodule.no-url.path\ny\0submodule.no-path.url\nhttps://h/z\0";
        let found = by_path(said);
        assert_eq!(found, BTreeMap::from([("lib/x".into(), "../x.git".into())]));
    }
}
