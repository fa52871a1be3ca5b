//! How a build ended: the exit code, the files that were asked for, and the last words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::show::to_stderr;
use crate::cli::build_commands::Build;
use crate::cli::say;
use crate::cli::show::text;
use crate::client::{Lost, Refused, Unreachable};
use crate::domain::ImageRef;

/// The caller's fault.
const CALLER: u8 = 1;
const USAGE: u8 = 2;
/// The fault of the service, an engine, a registry or the way there.
const INFRASTRUCTURE: u8 = 3;

/// What is wrong at a git repository's host or on the way there, or passes by itself, whatever its status.
const OTHERS_FAULT: [&str; 4] = ["git_unreachable", "git_timeout", "git_failed", "git_busy"];

/// What was said cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub String);

/// The exit code of an error before there was a build, or when it could not be followed.
pub(super) fn of_error(error: &anyhow::Error) -> u8 {
    let ours =
        |refused: &Refused| refused.status >= 500 || refused.status == 408 || OTHERS_FAULT.contains(&refused.code.as_str());
    if error.downcast_ref::<Usage>().is_some() {
        USAGE
    } else if error.downcast_ref::<Unreachable>().is_some() || error.downcast_ref::<Refused>().is_some_and(ours) {
        INFRASTRUCTURE
    } else if error.chain().any(|cause| cause.is::<reqwest::Error>() || cause.is::<Lost>()) {
        // A connection that broke off.
        INFRASTRUCTURE
    } else {
        CALLER
    }
}

/// Prints what came of the build, and answers its exit code. `interrupted`: the signal by which the caller ended it.
pub(super) fn tell(build: &Value, interrupted: Option<u8>, in_words: bool, quiet: bool) -> ExitCode {
    if let Some(number) = interrupted.filter(|_| build["state"] == "cancelled") {
        to_stderr("cancelled\n");
        return ExitCode::from(128 + number);
    }
    if ["published", "built"].iter().any(|state| build["state"] == *state) {
        if in_words {
            say(&result(build, quiet));
        }
        for left in destinations(build).filter(|one| one["state"] == "superseded") {
            let by = left["superseded_by"]
                .as_str()
                .map_or_else(|| "a younger build".into(), |_| format!("build {}", text(&left["superseded_by"])));
            to_stderr(&format!("{} is not published: it was superseded by {by}\n", text(&left["image"])));
        }
        return ExitCode::SUCCESS;
    }
    for (image, error) in failed_destinations(build) {
        to_stderr(&format!("error: {image}: {}\n", words(error)));
    }
    if build["state"] == "cancelled" {
        to_stderr(&format!("error: {}\n", text(&build["message"])));
    } else if build["error"]["stage"] != "push" || failed_destinations(build).next().is_none() {
        to_stderr(&format!("error: {}\n", words(&build["error"])));
    }
    ExitCode::from(of(build))
}

/// Whose fault it is that there is no image.
fn of(build: &Value) -> u8 {
    match build["error"]["kind"].as_str() {
        Some("user" | "auth" | "limit") => CALLER,
        None if build["state"] == "cancelled" => CALLER,
        _ => INFRASTRUCTURE,
    }
}

fn destinations(build: &Value) -> impl Iterator<Item = &Value> {
    build["destinations"].as_array().into_iter().flatten()
}

/// Where the image of a build that has ended is still to go; everywhere, when it is nowhere missing.
pub(super) fn missing(build: &Value) -> Vec<ImageRef> {
    let image = |one: &Value| one["image"].as_str().and_then(|image| image.parse().ok());
    let missing: Vec<ImageRef> = destinations(build).filter(|one| one["state"] != "pushed").filter_map(image).collect();
    if missing.is_empty() { destinations(build).filter_map(image).collect() } else { missing }
}

fn failed_destinations(build: &Value) -> impl Iterator<Item = (String, &Value)> {
    destinations(build).filter(|one| one["state"] == "failed").map(|one| (text(&one["image"]), &one["error"]))
}

fn words(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("the build has failed");
    let message = message.lines().map(|line| text(&line.into())).collect::<Vec<_>>().join("\n");
    let line = error["dockerfile_line"].as_u64().map_or(String::new(), |line| format!(", line {line} of the Dockerfile"));
    format!("{message} ({}{line})", text(&error["code"]))
}

/// Where the image is, a line each; of one that was not pushed, or with `--quiet`, its id.
fn result(build: &Value, quiet: bool) -> String {
    let pushed = |one: &Value| format!("{}@{}\n", text(&one["image"]), text(&one["digest"]));
    let all = build["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
    if quiet || all.is_empty() || build["state"] == "built" {
        return format!("{}\n", text(&build["image_id"]));
    }
    all.iter().filter(|one| one["state"] == "pushed").map(pushed).collect()
}

/// The files that tell other programs of the image.
pub(super) struct Results {
    iid: Option<PathBuf>,
    metadata: Option<PathBuf>,
}

impl Results {
    /// Takes away those of an earlier build, so that a failed one never looks like it, and makes sure that they can be written at its end.
    pub(super) fn prepare(wanted: &Build) -> anyhow::Result<Self> {
        let results = Self { iid: wanted.iidfile.clone(), metadata: wanted.metadata_file.clone() };
        for file in results.iid.iter().chain(&results.metadata) {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot take away the old {}", file.display()));
                }
                _ => {}
            }
            let tried = std::fs::File::create(file).and_then(|_| std::fs::remove_file(file));
            tried.map_err(|error| Usage(format!("cannot write {}: {error}", file.display())))?;
        }
        Ok(results)
    }

    /// Names as buildx has them, for the programs that read its files.
    pub(super) fn write(&self, build: &Value) -> anyhow::Result<()> {
        if !["published", "built"].iter().any(|state| build["state"] == *state) {
            return Ok(());
        }
        if let (Some(file), Some(id)) = (&self.iid, build["image_id"].as_str()) {
            write(file, id)?;
        }
        let Some(file) = &self.metadata else { return Ok(()) };
        // What was superseded is not there under its name.
        let there = |one: &&Value| build["state"] == "built" || one["digest"].is_string();
        let names: Vec<&str> = destinations(build).filter(there).filter_map(|one| one["image"].as_str()).collect();
        let digest = destinations(build).find_map(|one| one["digest"].as_str());
        let mut metadata = json!({
            "containerimage.config.digest": build["image_id"],
            "image.name": names.join(","),
            "dockwright.build.id": build["id"],
            "dockwright.build.state": build["state"],
            "dockwright.build.destinations": build["destinations"],
        });
        if let Some(digest) = digest {
            metadata["containerimage.digest"] = digest.into();
        }
        write(file, &format!("{metadata:#}\n"))
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whose_fault_it_is() {
        let failed = |kind: &str| of(&json!({"state": "failed", "error": {"kind": kind}}));
        assert_eq!(["user", "auth", "limit"].map(failed), [CALLER; 3]);
        assert_eq!(["registry", "engine", "infra", "internal", "new"].map(failed), [INFRASTRUCTURE; 5]);
        assert_eq!(of(&json!({"state": "cancelled", "error": null})), CALLER);
        let refused = |status| of_error(&Refused { status, code: "x".into(), detail: "x".into(), retry_after: None }.into());
        assert_eq!([400, 401, 404, 413, 429].map(refused), [CALLER; 5]);
        assert_eq!([408, 500, 503, 507].map(refused), [INFRASTRUCTURE; 4]);
        let of_git =
            |status, code: &str| of_error(&Refused { status, code: code.into(), detail: "x".into(), retry_after: None }.into());
        assert_eq!(
            [(400, "git_unreachable"), (504, "git_timeout"), (400, "git_failed"), (429, "git_busy")].map(|(s, c)| of_git(s, c)),
            [3; 4]
        );
        assert_eq!(of_git(400, "git_ref_unknown"), CALLER);
        let unreachable = anyhow::anyhow!("refused").context(Unreachable("http://x".into())).context("more");
        assert_eq!((of_error(&unreachable), of_error(&Usage("x".into()).into())), (INFRASTRUCTURE, USAGE));
    }
}
