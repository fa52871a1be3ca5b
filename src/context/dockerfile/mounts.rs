//! Secrets and ssh agents without which a step fails (`RUN --mount=type=secret,id=…,required=true`), and the stages that a build surely makes.

use super::node::{Keyword, Node};
use super::outline::Stage;
use super::words;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    Secret,
    Ssh,
}

/// A mount that a step cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredMount {
    pub kind: MountKind,
    pub id: String,
    pub line: u32,
    /// Index of its stage.
    pub(super) stage: usize,
}

/// That one stage takes something from another, by its name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uses {
    stage: usize,
    of: String,
}

/// All mounts of the file that are required, as far as no variables stand in them.
pub(super) fn required(nodes: &[Node]) -> Vec<RequiredMount> {
    let mut found = Vec::new();
    for (stage, node) in in_stages(nodes).filter(|(_, node)| node.keyword == Some(Keyword::Run)) {
        let mounts = node.flags.iter().filter_map(|flag| flag.strip_prefix("--mount="));
        found.extend(mounts.filter_map(required_id).map(|(kind, id)| RequiredMount { kind, id, line: node.line, stage }));
    }
    found
}

/// What the stages take from each other, besides what they begin with.
pub(super) fn uses(nodes: &[Node]) -> Vec<Uses> {
    let mut found = Vec::new();
    for (stage, node) in in_stages(nodes) {
        let flag =
            |name: &str| node.flags.iter().filter_map(|flag| flag.strip_prefix(name).map(str::to_owned)).collect::<Vec<_>>();
        let sources = match node.keyword {
            Some(Keyword::Copy | Keyword::Add) => flag("--from="),
            Some(Keyword::Run) => flag("--mount=").iter().filter_map(|mount| field(&words::csv(mount), &["from"])).collect(),
            _ => Vec::new(),
        };
        found.extend(sources.into_iter().map(|of| Uses { stage, of }));
    }
    found
}

/// The stages that a build of `target` makes: the last one if no target is named, and whatever these are made of.
pub(super) fn made(stages: &[Stage], uses: &[Uses], target: Option<&str>) -> Vec<usize> {
    let mut open: Vec<usize> = self::target(stages, target).into_iter().collect();
    let mut made = Vec::new();
    while let Some(stage) = open.pop() {
        if made.contains(&stage) {
            continue;
        }
        made.push(stage);
        let base = named(stages, stage, &stages[stage].base);
        let taken = uses.iter().filter(|one| one.stage == stage).filter_map(|one| earlier(stages, stage, &one.of));
        open.extend(base.into_iter().chain(taken));
    }
    made
}

/// The stage that is asked for; the last one if none is named, or one that there is not.
pub(super) fn target(stages: &[Stage], target: Option<&str>) -> Option<usize> {
    let last = stages.len().checked_sub(1)?;
    Some(target.and_then(|target| earlier(stages, stages.len(), target)).unwrap_or(last))
}

/// The last stage of this name before `before`.
fn named(stages: &[Stage], before: usize, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    stages[..before].iter().rposition(|stage| stage.name.as_ref() == Some(&name))
}

/// The same, which may also be a number.
fn earlier(stages: &[Stage], before: usize, name: &str) -> Option<usize> {
    named(stages, before, name).or_else(|| name.parse().ok().filter(|index| *index < before))
}

/// The instructions of stages, each with its stage's index.
fn in_stages(nodes: &[Node]) -> impl Iterator<Item = (usize, &Node)> {
    let mut begun: usize = 0;
    nodes.iter().filter_map(move |node| {
        begun += usize::from(node.keyword == Some(Keyword::From));
        begun.checked_sub(1).map(|stage| (stage, node))
    })
}

/// What a mount must have, by the rules of BuildKit (`instructions/commands_runmount.go`, `dockerfile2llb/convert_secrets.go`).
fn required_id(mount: &str) -> Option<(MountKind, String)> {
    let fields = words::csv(mount);
    let kind = match field(&fields, &["type"])?.to_ascii_lowercase().as_str() {
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        _ => return None,
    };
    let bare = fields.iter().any(|field| field.eq_ignore_ascii_case("required"));
    let said =
        field(&fields, &["required"]).is_some_and(|value| ["1", "t", "true"].contains(&value.to_ascii_lowercase().as_str()));
    let id = field(&fields, &["id"]).or_else(|| field(&fields, &["source", "src"]));
    let id = match kind {
        MountKind::Ssh => id.unwrap_or_else(|| "default".into()),
        MountKind::Secret => id.or_else(|| {
            let target = field(&fields, &["target", "dst", "destination"])?;
            target.trim_end_matches('/').rsplit('/').next().map(str::to_owned)
        })?,
    };
    ((bare || said) && !id.contains('$')).then_some((kind, id))
}

/// The value of the last field with one of these names.
fn field(fields: &[String], names: &[&str]) -> Option<String> {
    fields.iter().rev().find_map(|field| {
        let (key, value) = field.split_once('=')?;
        names.iter().any(|name| key.eq_ignore_ascii_case(name)).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use crate::context::dockerfile::{MountKind, check};

    fn needed(dockerfile: &str, target: Option<&str>) -> Vec<(MountKind, String, u32)> {
        let outline = check(dockerfile.as_bytes()).expect("a Dockerfile");
        outline.required_mounts(target).map(|mount| (mount.kind, mount.id.clone(), mount.line)).collect()
    }

    #[test]
    fn mounts_are_required_when_they_say_so() {
        for (mount, id) in [
            ("type=secret,id=npm,required=true", Some("npm")),
            ("type=secret,id=npm,required", Some("npm")),
            ("TYPE=Secret,ID=npm,Required=1", Some("npm")),
            ("type=secret,target=/root/.npmrc,required=true", Some(".npmrc")),
            ("type=secret,src=npm,required=true", Some("npm")),
            ("type=secret,id=npm", None),
            ("type=secret,id=npm,required=false", None),
            ("type=secret,id=$X,required=true", None),
            ("type=cache,id=npm,target=/x", None),
        ] {
            let found = needed(&format!("FROM a\nRUN --mount={mount} true\n"), None);
            let expected: Vec<_> = id.map(|id| (MountKind::Secret, id.to_owned(), 2)).into_iter().collect();
            assert_eq!(found, expected, "{mount}");
        }
        let ssh = needed("FROM a\nRUN --mount=type=ssh,required=true true\n", None);
        assert_eq!(ssh, [(MountKind::Ssh, "default".to_owned(), 2)]);
    }

    #[test]
    fn only_of_stages_that_are_made() {
        let run = |id: &str| format!("RUN --mount=type=secret,id={id},required=true true\n");
        let text = [
            "FROM a AS base\n".to_owned(),
            run("base"),
            "FROM a AS unused\n".into(),
            run("unused"),
            "FROM a AS tool\n".into(),
            run("tool"),
            "FROM base AS dev\n".into(),
            run("dev"),
            "FROM base\nCOPY --from=TOOL /x /x\n".into(),
            run("last"),
        ]
        .concat();
        let ids = |target: Option<&str>| needed(&text, target).into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(None), ["base", "tool", "last"]);
        assert_eq!(ids(Some("Dev")), ["base", "dev"]);
        assert_eq!(ids(Some("1")), ["unused"]);
    }
}
