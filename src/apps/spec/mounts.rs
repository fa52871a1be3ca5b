//! Volumes of the owner's own and, for admins, folders of the host.

use std::path::Path;

use super::fields::{At, Faults, Fields};
use super::paths::{absolute, is_within, mounted_at};
use super::rules::SpecRules;
use crate::domain::{Bind, ObjectName, VolumeMount, limits};
use crate::error::FieldError;

/// Never mounted, nor what is below or holds it: who has one of these has the host.
const FORBIDDEN: [&str; 10] =
    ["/proc", "/sys", "/dev", "/etc", "/boot", "/root", "/run", "/var/run", "/var/lib/docker", "/var/lib/containerd"];

pub fn volumes(fields: &Fields<'_>, faults: &mut Faults) -> Vec<VolumeMount> {
    let items = fields.read("volumes", faults, |at| at.list(limits::MOUNTS)).unwrap_or_default();
    items.iter().filter_map(|item| volume(item, faults)).collect()
}

fn volume(at: &At<'_>, faults: &mut Faults) -> Option<VolumeMount> {
    let fields = at.fields(&["volume", "path", "read_only"], "{\"volume\": \"data\", \"path\": \"/data\"}", faults)?;
    let volume = fields.needed("volume", faults, volume_name);
    let path = fields.needed("path", faults, mounted_at);
    let read_only = fields.read("read_only", faults, At::flag).unwrap_or_default();
    Some(VolumeMount { volume: volume?, path: path?, read_only })
}

fn volume_name(at: &At<'_>) -> Result<ObjectName, FieldError> {
    let text = at.word(limits::PATH_BYTES)?;
    if text.contains(['/', '\\']) || text.starts_with(['.', '~']) {
        return Err(at.fault("must be the name of a volume: folders of the host are not available"));
    }
    text.parse().map_err(|why| at.fault(why))
}

pub fn binds(at: &At<'_>, rules: &SpecRules, faults: &mut Faults) -> Vec<Bind> {
    let items = faults.take(at.list(limits::MOUNTS)).unwrap_or_default();
    items.iter().filter_map(|item| bind(item, rules, faults)).collect()
}

fn bind(at: &At<'_>, rules: &SpecRules, faults: &mut Faults) -> Option<Bind> {
    let fields = at.fields(&["source", "path", "read_only"], "{\"source\": \"/srv/data\", \"path\": \"/data\"}", faults)?;
    let source = fields.needed("source", faults, |at| {
        let source = absolute(at)?;
        allowed(&source, rules).map(|()| source).map_err(|why| at.fault(why))
    });
    let path = fields.needed("path", faults, mounted_at);
    let read_only = fields.read("read_only", faults, At::flag).unwrap_or_default();
    Some(Bind { source: source?, path: path?, read_only })
}

/// Whether this folder of the host, an absolute path in its shortest form, may be mounted.
fn allowed(source: &str, rules: &SpecRules) -> Result<(), String> {
    if let Some(hidden) = forbidden(source, rules) {
        return Err(format!("{source:?} is not available to anybody, because of {hidden}"));
    }
    if rules.bind_roots.is_empty() {
        return Err("the operator has allowed no folder of the host (`--bind-root`)".into());
    }
    if rules.bind_roots.iter().any(|root| Path::new(source).starts_with(root)) {
        return Ok(());
    }
    let roots: Vec<String> = rules.bind_roots.iter().map(|root| root.display().to_string()).collect();
    Err(format!("{source:?} is outside of what the operator has allowed: {}", roots.join(", ")))
}

/// What nobody may have that this path is, is below of, or holds.
fn forbidden(source: &str, rules: &SpecRules) -> Option<String> {
    let touches = |path: &str| is_within(source, path) || is_within(path, source);
    let ours = rules.forbidden_sources.iter().map(|path| path.to_string_lossy().into_owned());
    FORBIDDEN.iter().map(|path| (*path).to_owned()).chain(ours).find(|path| touches(path))
}

/// The real paths of all folders of the host that `binds` name: every link on the way is followed, and where it leads must be allowed too,
/// for the engine follows links. To be asked on the engine's own machine just before a container is made; whoever may write into
/// an allowed folder can still change it between.
///
/// # Errors
/// With the path and what is wrong with it.
pub fn check_links(binds: &[Bind], rules: &SpecRules) -> Result<(), String> {
    let mut real = rules.clone();
    for path in real.bind_roots.iter_mut().chain(&mut real.forbidden_sources) {
        if let Ok(there) = path.canonicalize() {
            *path = there;
        }
    }
    for bind in binds {
        let there = Path::new(&bind.source).canonicalize().map_err(|why| format!("{:?}: {why}", bind.source))?;
        let there = there.to_str().ok_or_else(|| format!("{:?} leads to a path that is no UTF-8", bind.source))?;
        allowed(there, &real).map_err(|why| format!("{:?} leads elsewhere: {why}", bind.source))?;
    }
    Ok(())
}
