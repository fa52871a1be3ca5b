//! The engine's texts, sorted by whose fault they tell of. Texts differ between engine versions, so they are matched
//! loosely, and always shown as they came.

use super::container_errors::{CONTAINER, PULL};
use crate::domain::ErrorKind;
use crate::engine::{EngineError, VANISHED};

/// What the engine was asked to do when it said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// `limits`: whether memory was limited, so that a killed step is one that ran out of it.
    Build {
        limits: bool,
    },
    Push,
    /// Anything with images on this engine.
    Image,
    /// Anything with containers, processes in them, volumes and networks.
    Container,
    Pull,
}

/// What the engine refused, and the status of its answer; none when it did not answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub status: Option<u16>,
    pub error: EngineError,
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        Self { status: None, error }
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

pub(super) struct Rule {
    code: &'static str,
    kind: ErrorKind,
    transient: bool,
    /// The rule holds when the text (in lower case) has any of these; `a*b` asks for `a`, then `b` behind it.
    any: &'static [&'static str],
}

pub(super) const fn rule(code: &'static str, kind: ErrorKind, any: &'static [&'static str]) -> Rule {
    Rule { code, kind, transient: false, any }
}

pub(super) const fn passing(code: &'static str, kind: ErrorKind, any: &'static [&'static str]) -> Rule {
    Rule { code, kind, transient: true, any }
}

pub(super) const NETWORK: &[&str] = &[
    "dial tcp",
    "no such host",
    "i/o timeout",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "tls handshake timeout",
    "client.timeout exceeded",
    "request canceled while waiting for connection",
    "context deadline exceeded",
    "server misbehaving",
    ": eof",
];

/// How registries' refusals come back through the engine. Names of images stand in the same texts, and may be any of these words or numbers,
/// but hold no blanks: a bare word is matched with the blank before it and the colon and blank behind it.
pub(super) const TOO_MANY: &[&str] =
    &[" toomanyrequests: ", "too many requests", "http status: 429", "http 429 response", "status code 429"];
pub(super) const UNKNOWN_CALLER: &[&str] = &[
    "no basic auth credentials",
    " unauthorized: ",
    // A status without a body.
    " unauthorized\n",
    "401 unauthorized",
    "authentication required",
    "authorization failed",
    "incorrect username or password",
    "http status: 401",
    "http 401 response",
    "status code 401",
];
pub(super) const DENIED: &[&str] = &[
    " denied: ",
    " forbidden: ",
    " insufficient_scope: ",
    "access to the resource is denied",
    "403 forbidden",
    "http status: 403",
    "http 403 response",
    "status code 403",
];
pub(super) const TLS: &[&str] = &[" x509: ", " tls: ", "server gave http response to https client"];

/// How the engine (20.10) stumbles over an image that is being removed at the same moment.
const VANISHING: &[&str] = &[
    "failed to get digest sha256:*no such file or directory",
    "unrecognized image id sha256:",
    "no such image: sha256:",
    "unable to find image \"sha256:",
    " layer does not exist\n",
];

/// Read from the top: the first that fits is it. What a step of the build wrote can stand in a step's error,
/// so steps come first.
const BUILD: &[Rule] = &[
    // The engine could not give the step its network; the step's own command stands in brackets before it.
    passing("engine_error", ErrorKind::Engine, &["]: failed to create endpoint"]),
    rule(
        "step_failed",
        ErrorKind::User,
        &[
            "executor failed running",
            "did not complete successfully: exit code",
            "returned a non-zero code",
            "process \"*exit code",
            "unable to find user",
            "unable to start container process",
            "oci runtime create failed",
        ],
    ),
    rule("secret_missing", ErrorKind::User, &["secret *: not found", "no ssh key*forwarded from the client"]),
    passing(
        "engine_error",
        ErrorKind::Engine,
        &[
            "failed to create endpoint*on network",
            "could not find bridge",
            "failed to update store for object type",
            "error creating overlay mount to*invalid argument",
        ],
    ),
    // Seen when the last tag of the same image was removed while this build was being exported.
    passing(VANISHED, ErrorKind::Engine, VANISHING),
    rule("disk_full", ErrorKind::Infra, &["no space left on device", "disk quota exceeded"]),
    rule("target_not_found", ErrorKind::User, &["target stage*could not be found", "failed to reach build target"]),
    rule(
        "platform_not_supported",
        ErrorKind::User,
        &["no match for platform", "does not match the specified platform", "unknown operating system or architecture"],
    ),
    passing("rate_limited", ErrorKind::Registry, TOO_MANY),
    // Our own words, which come back through the engine (`registry/refusal.rs`).
    rule("foreign_realm", ErrorKind::Auth, &["wants its credentials sent to"]),
    rule("base_image_not_found", ErrorKind::User, &["pull access denied", "manifest unknown", "manifest for*not found"]),
    rule("registry_auth", ErrorKind::Auth, UNKNOWN_CALLER),
    rule(
        "copy_source_missing",
        ErrorKind::User,
        &[
            "failed to compute cache key*not found",
            "failed to calculate checksum*not found",
            "copy failed*",
            "add failed*",
            "failed to walk*no such file or directory",
            "failed to compute cache key*no such file or directory",
            "/merged/*no such file or directory",
        ],
    ),
    rule(
        "dockerfile_invalid",
        ErrorKind::User,
        &[
            "dockerfile parse error",
            "failed to parse dockerfile",
            "error parsing dockerfile",
            "unknown instruction",
            "cannot be empty",
            "no build stage in current context",
            "file with no instructions",
            "cannot locate specified dockerfile",
            "failed to read dockerfile",
            "invalid reference format",
            "base name*should not be blank",
            "circular dependency",
            "unknown flag",
            "requires at least",
            "requires exactly",
            "the --mount option requires buildkit",
            "the --chmod option requires buildkit",
            "invalid containerport",
            "no image was generated",
        ],
    ),
    passing("base_image_unavailable", ErrorKind::Registry, NETWORK),
    passing(
        "base_image_unavailable",
        ErrorKind::Registry,
        &["500 internal server error", "502 bad gateway", "503 service unavailable"],
    ),
    rule(
        "base_image_not_found",
        ErrorKind::User,
        &[
            "failed to resolve source metadata",
            "failed to load metadata",
            ": not found",
            "no such image",
            "repository does not exist",
        ],
    ),
    rule("dockerfile_invalid", ErrorKind::User, &["failed to create llb definition"]),
];

const PUSH: &[Rule] = &[
    passing("rate_limited", ErrorKind::Registry, TOO_MANY),
    rule("registry_auth", ErrorKind::Auth, UNKNOWN_CALLER),
    rule("push_denied", ErrorKind::Auth, DENIED),
    rule("image_missing", ErrorKind::Engine, &["an image does not exist locally", "no such image"]),
    rule("registry_tls", ErrorKind::Registry, TLS),
    passing("registry_unreachable", ErrorKind::Registry, NETWORK),
    passing("registry_unreachable", ErrorKind::Registry, &["broken pipe", "unexpected eof", "http: server closed"]),
    passing("registry_error", ErrorKind::Registry, &["unexpected http status: 5", "blob upload", " unknown: "]),
    rule("disk_full", ErrorKind::Infra, &["no space left on device"]),
];

const IMAGE: &[Rule] = &[
    rule("image_missing", ErrorKind::Engine, &["no such image", "not found"]),
    rule("image_missing", ErrorKind::Engine, VANISHING),
    rule("disk_full", ErrorKind::Infra, &["no space left on device"]),
];

fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    pattern.split('*').all(|part| {
        let at = rest.find(part);
        rest = at.map_or("", |at| &rest[at + part.len()..]);
        at.is_some()
    })
}

/// Makes an error of what the engine said; `status` is that of its answer, if it was one.
pub(super) fn sort(doing: Doing, status: Option<u16>, message: &str) -> EngineError {
    // A blank at the beginning and for each line's end, for the rules ask for it before a word; the only end of a line is the last.
    let text = format!(" {}\n", message.trim_end().to_lowercase().replace(['\n', '\t'], " "));
    let rules = match doing {
        Doing::Build { .. } => BUILD,
        Doing::Push => PUSH,
        Doing::Image => IMAGE,
        Doing::Container => CONTAINER,
        Doing::Pull => PULL,
    };
    let mut error = EngineError {
        kind: ErrorKind::Engine,
        code: "engine_error",
        message: message.to_owned(),
        dockerfile_line: None,
        transient: matches!(status, Some(502..=504)),
    };
    if message.is_empty() {
        error.message = format!("the engine answered with status {}", status.unwrap_or_default());
    }
    if let Some(rule) = rules.iter().find(|rule| rule.any.iter().any(|pattern| fits(&text, pattern))) {
        (error.code, error.kind, error.transient) = (rule.code, rule.kind, rule.transient);
    }
    // What no rule knows is by its status still known to be no fault of the engine's.
    if doing == Doing::Container && status == Some(400) && error.code == "engine_error" && !error.transient {
        (error.code, error.kind) = ("container_invalid", ErrorKind::User);
    }
    if let Doing::Build { limits } = doing {
        error.dockerfile_line = dockerfile_line(message);
        // 137 = 128 + SIGKILL, which is what the kernel does to a step that needs more than it may have.
        if limits && error.code == "step_failed" && text.trim_end().ends_with("137") {
            (error.code, error.kind) = ("out_of_memory", ErrorKind::Limit);
        }
    }
    error
}

/// The line that an error names: `dockerfile parse error line 3:`, `… on line 3:`, `Dockerfile:3`.
fn dockerfile_line(message: &str) -> Option<u32> {
    let number = |rest: &str| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|line| *line > 0)
    };
    ["parse error line ", "parse error on line ", "ockerfile:"].iter().find_map(|mark| {
        let at = message.find(mark)?;
        number(&message[at + mark.len()..])
    })
}

/// The engine is away, or went away in the middle.
pub(super) fn unavailable(message: impl Into<String>) -> EngineError {
    EngineError {
        kind: ErrorKind::Engine,
        code: "engine_unavailable",
        message: message.into(),
        dockerfile_line: None,
        transient: true,
    }
}

/// The engine answered something that it should not.
pub(super) fn fault(message: impl Into<String>) -> EngineError {
    EngineError {
        kind: ErrorKind::Engine,
        code: "engine_error",
        message: message.into(),
        dockerfile_line: None,
        transient: false,
    }
}

/// The image that the build made is not there any more: see [`VANISHED`].
pub(super) fn vanished(message: impl Into<String>) -> EngineError {
    EngineError { kind: ErrorKind::Engine, code: VANISHED, message: message.into(), dockerfile_line: None, transient: true }
}

/// The context's stream broke off: our side, not the engine's.
pub(super) fn context_failed(message: impl Into<String>) -> EngineError {
    EngineError {
        kind: ErrorKind::Infra,
        code: "context_unreadable",
        message: message.into(),
        dockerfile_line: None,
        transient: true,
    }
}

/// The one for a builder that cannot build for this platform.
pub(super) fn platform_not_supported(asked: &str, own: &str) -> EngineError {
    EngineError {
        kind: ErrorKind::User,
        code: "platform_not_supported",
        message: format!("this build is for {asked}, but the builder that honours limits builds only for {own}"),
        dockerfile_line: None,
        transient: false,
    }
}

pub(super) fn from_bollard(error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error as E;
    match error {
        E::DockerResponseServerError { status_code, message } => sort(Doing::Image, Some(status_code), &message),
        E::IOError { err } => match err.downcast::<EngineError>() {
            Ok(ours) => ours,
            Err(other) => unavailable(other.to_string()),
        },
        E::HyperResponseError { err } => super::transport::broken(err),
        E::RequestTimeoutError => unavailable("the engine did not answer in time"),
        other => fault(other.to_string()),
    }
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
