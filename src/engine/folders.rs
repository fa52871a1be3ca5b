//! Folders of the host, and which of them may be mounted into a container.

use std::path::{Path, PathBuf};

use crate::domain::Bind;

/// Never mounted, nor what is below or holds it: who has one of these has the host.
const FORBIDDEN: [&str; 10] =
    ["/proc", "/sys", "/dev", "/etc", "/boot", "/root", "/run", "/var/run", "/var/lib/docker", "/var/lib/containerd"];

/// What an operator allows.
#[derive(Debug, Clone, Copy)]
pub struct HostFolders<'a> {
    /// Only what is one of them or below.
    pub roots: &'a [PathBuf],
    /// Also never: our own data, the engine's socket.
    pub forbidden: &'a [PathBuf],
}

impl HostFolders<'_> {
    /// Whether a folder, an absolute path in its shortest form, may be mounted. Judges the path as it is written.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, source: &str) -> Result<(), String> {
        let path = Path::new(source);
        let touches = |other: &Path| path.starts_with(other) || other.starts_with(path);
        let never =
            FORBIDDEN.iter().map(Path::new).chain(self.forbidden.iter().map(PathBuf::as_path)).find(|other| touches(other));
        if let Some(never) = never {
            return Err(format!("{source:?} is not available to anybody, because of {}", never.display()));
        }
        if self.roots.is_empty() {
            return Err("the operator has allowed no folder of the host (`--bind-root`)".into());
        }
        if self.roots.iter().any(|root| path.starts_with(root)) {
            return Ok(());
        }
        let roots: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
        Err(format!("{source:?} is outside of what the operator has allowed: {}", roots.join(", ")))
    }

    /// Whether they may still be mounted when every link on the way is followed, as the engine does. To be asked on the engine's own
    /// machine just before a container is made; whoever may write into an allowed folder can still change a link after the look.
    ///
    /// # Errors
    /// With the path and what is wrong with it.
    pub fn allow_links(&self, binds: &[Bind]) -> Result<(), String> {
        let real =
            |paths: &[PathBuf]| paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect::<Vec<_>>();
        let (roots, forbidden) = (real(self.roots), real(self.forbidden));
        let real = HostFolders { roots: &roots, forbidden: &forbidden };
        for bind in binds {
            let there = Path::new(&bind.source).canonicalize().map_err(|why| format!("{:?}: {why}", bind.source))?;
            let there = there.to_str().ok_or_else(|| format!("{:?} leads to a path that is no UTF-8", bind.source))?;
            real.allows(there).map_err(|why| format!("{:?} leads elsewhere: {why}", bind.source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out_of_what_is_allowed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for made in ["root/inside", "root/private", "elsewhere"] {
            std::fs::create_dir_all(at(made)).expect("made");
        }
        let links = [("out", at("elsewhere")), ("etc", "/etc".into()), ("in", at("root/inside")), ("hidden", at("root/private"))];
        for (link, target) in links {
            symlink(target, at("root").join(link)).expect("made");
        }
        symlink(at("root"), at("alias")).expect("made");
        let (roots, forbidden) = ([at("root"), at("alias")], [at("alias/private")]);
        let folders = HostFolders { roots: &roots, forbidden: &forbidden };
        let checked = |path: &str| {
            let source = at(path).to_str().expect("UTF-8").to_owned();
            folders.allow_links(&[Bind { source, path: "/x".into(), read_only: true }])
        };
        for well in ["root/inside", "root/in", "alias/inside"] {
            assert_eq!(checked(well), Ok(()), "{well}");
        }
        for bad in ["root/out", "root/etc", "root/hidden", "root/private", "root/etc/ssl", "root/missing"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
