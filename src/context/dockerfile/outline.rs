use std::collections::{BTreeMap, BTreeSet};

use super::expand::expand;
use super::mounts::{self, RequiredMount, Uses};
use super::node::{Keyword, Node};
use super::words;
use crate::domain::LOCAL_HOST;

/// What a Dockerfile says of itself, as far as the service has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Every frontend (`# syntax=`) that some engine would take from the file.
    pub frontends: Vec<Frontend>,
    /// The build stages in their order.
    pub stages: Vec<Stage>,
    /// The images that are named, without stages of this file and without `scratch`; variables are not put in.
    pub images: Vec<ImageName>,
    /// Every `ARG`, in order.
    pub args: Vec<Arg>,
    /// The keys of all labels that are set, in whatever stage.
    pub labels: BTreeSet<String>,
    /// The first thing that the classic builder does not know.
    pub buildkit_only: Option<Needs>,
    /// Every instruction, in order.
    pub instructions: Vec<Instruction>,
    /// Images that only an engine without heredocs would see.
    hidden: Vec<ImageName>,
    required: Vec<RequiredMount>,
    uses: Vec<Uses>,
}

/// An image that an engine would pull to read the Dockerfile with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    pub image: String,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// In lower case.
    pub name: Option<String>,
    /// As it was written: an image, a stage, or with variables.
    pub base: String,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// In upper case.
    pub keyword: String,
    /// The whole of it, on one line; variables are not put in, and heredocs left out.
    pub text: String,
    /// The stage it belongs to, from 0; `None` before the first.
    pub stage: Option<usize>,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    pub text: String,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub default: Option<String>,
    /// Whether it stands before the first `FROM`.
    pub global: bool,
}

/// A feature, and the line that uses it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub what: &'static str,
    pub line: u32,
}

impl Outline {
    /// Of each build stage the name that BuildKit shows its steps by; none when there is but one stage.
    #[must_use]
    pub fn stage_names(&self) -> Vec<String> {
        let several = self.stages.len() > 1;
        let stages = self.stages.iter().enumerate().filter(|_| several);
        stages.map(|(number, stage)| stage.name.clone().unwrap_or_else(|| format!("stage-{number}"))).collect()
    }

    pub(super) fn of(nodes: &[Node], hidden: &[Node], frontends: Vec<Frontend>) -> Self {
        let stages = stages(nodes);
        Self {
            images: images(nodes, &stages),
            hidden: images(hidden, &[]),
            args: args(nodes),
            labels: labels(nodes),
            buildkit_only: nodes.iter().find_map(needs_buildkit),
            instructions: instructions(nodes),
            required: mounts::required(nodes),
            uses: mounts::uses(nodes),
            frontends,
            stages,
        }
    }

    /// The secrets and ssh agents without which a build of `target`, or of the last stage, surely fails.
    pub fn required_mounts(&self, target: Option<&str>) -> impl Iterator<Item = &RequiredMount> {
        let made = mounts::made(&self.stages, &self.uses, target);
        self.required.iter().filter(move |mount| made.contains(&mount.stage))
    }

    /// The stages that a build of `target`, or of the last stage, makes, in the order of the file.
    #[must_use]
    pub fn made_stages(&self, target: Option<&str>) -> Vec<usize> {
        let mut made = mounts::made(&self.stages, &self.uses, target);
        made.sort_unstable();
        made
    }

    /// The stage that is built: `target`, by its name or number, or the last one.
    #[must_use]
    pub fn target_stage(&self, target: Option<&str>) -> Option<usize> {
        mounts::target(&self.stages, target)
    }

    /// The first frontend that is not Docker's own (THREATS row 3).
    #[must_use]
    pub fn foreign_frontend(&self) -> Option<&Frontend> {
        self.frontends.iter().find(|frontend| !frontend_allowed(&frontend.image))
    }

    /// The first image under the service's own host, which nobody may build from: also when it is named by way of defaults and
    /// build arguments.
    #[must_use]
    pub fn reserved_image(&self, build_args: &BTreeMap<String, String>) -> Option<&ImageName> {
        self.image_that(build_args, is_reserved)
    }

    /// The first image whose name the classic builder would also take for the beginning of an image's id, whoever's that is.
    #[must_use]
    pub fn image_like_an_id(&self, build_args: &BTreeMap<String, String>) -> Option<&ImageName> {
        self.image_that(build_args, is_like_an_id)
    }

    /// The images that some engine would see named, with defaults and build arguments put in as far as they are known.
    #[must_use]
    pub fn image_names(&self, build_args: &BTreeMap<String, String>) -> Vec<String> {
        let values = self.values(build_args);
        self.images
            .iter()
            .chain(&self.hidden)
            .filter_map(|image| expand(&image.text, &|name: &str| values.get(name).cloned()))
            .collect()
    }

    /// The same, each once; `None` when one of them cannot be known before the build.
    #[must_use]
    pub fn all_images(&self, build_args: &BTreeMap<String, String>) -> Option<Vec<String>> {
        let mut names = self.image_names(build_args);
        let all = names.len() == self.images.len() && !names.iter().any(|name| name.contains('$'));
        names.sort();
        names.dedup();
        all.then_some(names)
    }

    /// The first of which this is true as it is written, or with the defaults and build arguments put in.
    fn image_that(&self, build_args: &BTreeMap<String, String>, is_so: fn(&str) -> bool) -> Option<&ImageName> {
        let values = self.values(build_args);
        let known = |name: &str| values.get(name).cloned();
        let found = |image: &&ImageName| is_so(&image.text) || expand(&image.text, &known).is_some_and(|text| is_so(&text));
        self.images.iter().chain(&self.hidden).find(found)
    }

    /// What the build arguments and the defaults before the first `FROM` say.
    fn values(&self, build_args: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut values = build_args.clone();
        for arg in self.args.iter().filter(|arg| arg.global && !build_args.contains_key(&arg.name)) {
            let value = arg.default.as_ref().and_then(|default| expand(default, &|name: &str| values.get(name).cloned()));
            values.extend(value.map(|value| (arg.name.clone(), value)));
        }
        values
    }
}

fn is_reserved(image: &str) -> bool {
    let host = image.trim().split_once('/').map_or("", |(host, _)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    host.eq_ignore_ascii_case(LOCAL_HOST)
}

/// Of hexadecimal digits alone, as in `docker run 568104583eb7`.
fn is_like_an_id(image: &str) -> bool {
    let image = image.trim();
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a `# syntax=` value, or a `BUILDKIT_SYNTAX` argument, names Docker's own frontend, in any version.
#[must_use]
pub fn frontend_allowed(image: &str) -> bool {
    let name = ["docker.io/", "index.docker.io/", ""].iter().find_map(|host| image.strip_prefix(host)).unwrap_or(image);
    let Some(rest) = name.strip_prefix("docker/dockerfile") else { return false };
    let (tag, digest) = rest.split_once('@').map_or((rest, None), |(tag, digest)| (tag, Some(digest)));
    let tag_ok = tag.is_empty() || tag.strip_prefix(':').is_some_and(is_tag);
    tag_ok && digest.is_none_or(|digest| digest.parse::<crate::domain::Digest>().is_ok())
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn stages(nodes: &[Node]) -> Vec<Stage> {
    let from = nodes.iter().filter(|node| node.keyword == Some(Keyword::From));
    from.filter_map(|node| {
        let base = node.args.first()?.clone();
        Some(Stage { name: node.args.get(2).map(|name| name.to_lowercase()), base, line: node.line })
    })
    .collect()
}

fn instructions(nodes: &[Node]) -> Vec<Instruction> {
    let mut stage: Option<usize> = None;
    let read = |node: &Node| {
        let keyword = node.keyword?;
        if keyword == Keyword::From {
            stage = Some(stage.map_or(0, |stage| stage + 1));
        }
        Some(Instruction { keyword: keyword.name(), text: node.text.clone(), stage, line: node.line })
    };
    nodes.iter().filter_map(read).collect()
}

fn args(nodes: &[Node]) -> Vec<Arg> {
    let mut global = true;
    let mut args = Vec::new();
    for node in nodes {
        global &= node.keyword != Some(Keyword::From);
        if node.keyword == Some(Keyword::Arg) {
            args.extend(node.args.iter().map(|arg| match arg.split_once('=') {
                Some((name, default)) => Arg { name: name.into(), default: Some(default.into()), global },
                None => Arg { name: arg.clone(), default: None, global },
            }));
        }
    }
    args
}

fn labels(nodes: &[Node]) -> BTreeSet<String> {
    let set = nodes.iter().filter(|node| node.keyword == Some(Keyword::Label));
    set.flat_map(|node| &node.args).map(|key| key.trim_matches(['"', '\'']).to_owned()).collect()
}

fn images(nodes: &[Node], stages: &[Stage]) -> Vec<ImageName> {
    let mut images = Vec::new();
    for node in nodes {
        let inner = node.trigger.as_deref().unwrap_or(node);
        let named: Vec<String> = match inner.keyword {
            Some(Keyword::From) => inner.args.first().cloned().into_iter().collect(),
            Some(Keyword::Copy | Keyword::Add) => flag_values(inner, "--from=").map(str::to_owned).collect(),
            Some(Keyword::Run) => flag_values(inner, "--mount=").flat_map(mount_sources).collect(),
            _ => Vec::new(),
        };
        let is_from = inner.keyword == Some(Keyword::From);
        let is_image = |text: &String| {
            let is_index = !is_from && text.parse::<u32>().is_ok();
            let earlier = stages.iter().filter(|stage| stage.line < node.line);
            !is_index && text != "scratch" && !earlier.into_iter().any(|stage| stage.name.as_ref() == Some(&text.to_lowercase()))
        };
        images.extend(named.into_iter().filter(is_image).map(|text| ImageName { text, line: node.line }));
    }
    images
}

fn flag_values<'a>(node: &'a Node, flag: &'a str) -> impl Iterator<Item = &'a str> {
    node.flags.iter().filter_map(move |given| given.strip_prefix(flag))
}

fn mount_sources(mount: &str) -> Vec<String> {
    let from = |field: &String| {
        let (key, value) = field.split_once('=')?;
        key.eq_ignore_ascii_case("from").then(|| value.to_owned())
    };
    words::csv(mount).iter().filter_map(from).collect()
}

/// What only BuildKit does with the instruction.
fn needs_buildkit(node: &Node) -> Option<Needs> {
    const RUN: [&str; 4] = ["--mount", "--network", "--security", "--device"];
    const COPY: [&str; 7] = ["--chmod", "--link", "--parents", "--exclude", "--checksum", "--keep-git-dir", "--unpack"];
    if node.heredocs > 0 {
        return Some(Needs { what: "heredocs", line: node.line });
    }
    let flags: &[&'static str] = match node.keyword? {
        Keyword::Run => &RUN,
        Keyword::Copy | Keyword::Add => &COPY,
        _ => return None,
    };
    let used = |flag: &&&'static str| node.flags.iter().any(|given| given.split('=').next() == Some(flag));
    flags.iter().find(used).map(|what| Needs { what, line: node.line })
}
