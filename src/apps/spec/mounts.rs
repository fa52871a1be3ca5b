//! Volumes of the owner's own and, for admins, folders of the host.

use super::fields::{At, Faults, Fields};
use super::paths::{absolute, mounted_at};
use super::rules::SpecRules;
use crate::domain::{Bind, ObjectName, VolumeMount, limits};
use crate::engine::folders::HostFolders;
use crate::error::FieldError;

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
    let folders = HostFolders { roots: &rules.bind_roots, forbidden: &rules.forbidden_sources };
    let source = fields.needed("source", faults, |at| {
        let source = absolute(at)?;
        folders.allows(&source).map(|()| source).map_err(|why| at.fault(why))
    });
    let path = fields.needed("path", faults, mounted_at);
    let read_only = fields.read("read_only", faults, At::flag).unwrap_or_default();
    Some(Bind { source: source?, path: path?, read_only })
}
