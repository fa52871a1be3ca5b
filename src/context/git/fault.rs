//! What went wrong with a git source, in our words and git's own.

use super::address::Remote;
use crate::context::fault::ContextFault;
use crate::domain::quantity::Bytes;
use crate::error::Error;

const UNREACHABLE: &str = "git_unreachable";
/// Longest word of git that is passed on, in characters.
const TOLD: usize = 300;

/// One fault of the part `git`.
pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Error {
    Error::invalid(code, "git", message)
}

/// The server's trouble, which may pass.
pub(super) fn unreachable(why: impl std::fmt::Display) -> Error {
    Error::BadGateway { code: UNREACHABLE, detail: format!("git: {why}") }
}

/// Whether it may go better at another try.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error, Error::BadGateway { code: UNREACHABLE, .. })
}

pub(super) fn too_large(limit: u64) -> Error {
    let detail = format!("git: the repository has more than the limit of {} at this commit", Bytes(limit));
    Error::TooLarge { code: "git_too_large", detail }
}

/// A fault of the context that was made of a commit.
pub(super) fn of_context(fault: ContextFault) -> Error {
    if fault.too_large {
        Error::TooLarge { code: fault.code, detail: format!("git: {}", fault.detail) }
    } else {
        refused(fault.code, fault.detail)
    }
}

/// Sorts what `git fetch` said before it ended. `wanted` is what was asked for, as people call it.
pub(super) fn of_fetch(remote: &Remote, wanted: &str, said: &str) -> Error {
    let url = &remote.repository;
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["fsck error", "in packed object"]) {
        return refused("git_unsafe", format!("{url}: git refuses what is in the {wanted}: {}", told(said)));
    }
    if has(&["find remote ref", "not our ref", "no such remote ref"]) {
        let hint = "an empty repository has none, and a commit is named by its whole hash of 40 digits";
        return refused("git_ref_missing", format!("{url} has no {wanted}; {hint}"));
    }
    if has(&["could not read Username", "Authentication failed", "returned error: 401", "returned error: 403"]) {
        let why =
            if remote.has_credentials() { "does not take the credentials" } else { "asks for credentials, or is not there" };
        let server = url.authority();
        let hint = format!("name a kept registry whose server is {server} in the part `registry`");
        return refused("git_authentication", format!("{url} {why}; {hint}"));
    }
    if has(&["returned error: 404", "' not found"]) {
        return refused("git_not_found", format!("{url} is no repository, or none that may be seen without (other) credentials"));
    }
    if has(&["returned error: 30"]) {
        return refused(
            "git_redirect",
            format!("{url} is elsewhere by now, and redirects are not followed; name its final address"),
        );
    }
    if has(&["certificate verification failed", "SSL certificate problem", "certificate subject name"]) {
        let hint = "the service's operator names the authorities that are trusted (--git-ca)";
        let detail = format!("git: {url} does not show a certificate that is trusted here: {}; {hint}", told(said));
        return Error::BadGateway { code: "git_certificate", detail };
    }
    let is_refusal = has(&["returned error: 4"]) && !has(&["returned error: 408", "returned error: 429"]);
    if !is_refusal && has(&["unable to access", "RPC failed", "unexpected disconnect"]) {
        return unreachable(format!("{url} cannot be reached: {}", told(said)));
    }
    refused("git_failed", format!("{url}: {}", told(said)))
}

/// Whether a server said that it gives no commits by their hash, but only what has a name.
pub(super) fn gives_names_only(said: &str) -> bool {
    said.contains("does not allow request for unadvertised object") || (said.contains("want ") && said.contains(" not valid"))
}

/// The line that tells most, cut, without control characters.
fn told(said: &str) -> String {
    let line = |mark: &str| said.lines().map(str::trim).find(|line| line.starts_with(mark));
    let line = line("fatal:").or_else(|| line("error:")).or_else(|| line("remote:")).unwrap_or("git gave no reason");
    line.chars().filter(|c| !c.is_control()).take(TOLD).collect()
}
