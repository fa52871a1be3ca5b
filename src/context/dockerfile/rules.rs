//! What an instruction must have (BuildKit's `frontend/dockerfile/instructions`). Only what every engine refuses is refused: flags, which
//! grow from version to version, are left to the engine.

use super::node::{Keyword, Node};
use super::{DockerfileFault, fault};

pub(super) fn check(node: &Node) -> Result<(), DockerfileFault> {
    let Some(keyword) = node.keyword else {
        return Err(fault(node.line, "dockerfile_unknown_instruction", format!("unknown instruction: {}", node.word)));
    };
    let name = keyword.name();
    let refuse = |message: String| Err(fault(node.line, "dockerfile_syntax", message));
    use Keyword as K;
    match (keyword, node.args.len()) {
        (K::From, _) => from(node),
        (K::Add | K::Copy, 0 | 1) => {
            let message =
                format!("{name} requires at least two arguments, but only one was provided. Destination could not be determined");
            refuse(message)
        }
        (K::Maintainer | K::User | K::Workdir | K::Stopsignal, 0) => refuse(format!("{name} requires exactly one argument")),
        (K::Arg | K::Env | K::Label | K::Expose | K::Volume | K::Onbuild | K::Shell | K::Healthcheck, 0) => {
            refuse(format!("{name} requires at least one argument"))
        }
        (K::Env | K::Label, _) if node.args.iter().any(String::is_empty) => refuse(format!("{name} names can not be blank")),
        (K::Arg, _) if node.args.iter().any(|arg| arg.starts_with('=')) => refuse("ARG names can not be blank".into()),
        (K::Volume, _) if node.args.iter().any(|volume| volume.trim().is_empty()) => {
            refuse("VOLUME specified can not be an empty string".into())
        }
        (K::Shell, _) if !node.json => refuse("SHELL requires the arguments to be in JSON form".into()),
        (K::Healthcheck, _) => healthcheck(node),
        (K::Onbuild, _) => onbuild(node),
        _ => Ok(()),
    }
}

fn from(node: &Node) -> Result<(), DockerfileFault> {
    let refuse = |message: String| Err(fault(node.line, "dockerfile_syntax", message));
    match node.args.as_slice() {
        [_] => Ok(()),
        [_, r#as, name] if r#as.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            if lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(inner) {
                return Ok(());
            }
            refuse(format!("invalid name for build stage: {name:?}, name can't start with a number or contain symbols"))
        }
        _ => refuse("FROM requires either one or three arguments".into()),
    }
}

fn healthcheck(node: &Node) -> Result<(), DockerfileFault> {
    let refuse = |message: String| Err(fault(node.line, "dockerfile_syntax", message));
    let (kind, command) = node.args.split_first().map_or(("", &[][..]), |(kind, command)| (kind.as_str(), command));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => Ok(()),
        "NONE" => refuse("HEALTHCHECK NONE takes no arguments".into()),
        "CMD" if command.is_empty() => refuse("Missing command after HEALTHCHECK CMD".into()),
        "CMD" => Ok(()),
        other => refuse(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    }
}

fn onbuild(node: &Node) -> Result<(), DockerfileFault> {
    let refuse = |message: String| Err(fault(node.line, "dockerfile_syntax", message));
    match node.trigger.as_deref().and_then(|trigger| trigger.keyword) {
        Some(Keyword::Onbuild) => refuse("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        Some(keyword @ (Keyword::From | Keyword::Maintainer)) => {
            refuse(format!("{} isn't allowed as an ONBUILD trigger", keyword.name()))
        }
        _ => Ok(()),
    }
}
