//! What engines say about containers, volumes, networks and pulls. Names in these texts are a user's (of a command, an image),
//! so no pattern is a bare number, and the longer texts come first.

use super::errors::{DENIED, NETWORK, Rule, TLS, TOO_MANY, UNKNOWN_CALLER, passing, rule};
use crate::domain::ErrorKind;

/// Read from the top: the first that fits is it.
pub(super) const CONTAINER: &[Rule] = &[
    rule("user_not_found", ErrorKind::User, &["unable to find user", "unable to find group", "no matching entries in passwd"]),
    rule(
        "memory_too_small",
        ErrorKind::Limit,
        &["minimum memory limit allowed", "container init was oom-killed", "memory limit too low"],
    ),
    rule("workdir_invalid", ErrorKind::User, &["cannot mkdir", "the working directory*is invalid", "oci runtime*chdir to cwd"]),
    rule("mount_failed", ErrorKind::User, &["oci runtime*error mounting"]),
    rule(
        "command_failed_to_start",
        ErrorKind::User,
        &[
            "oci runtime*executable file not found",
            "oci runtime*no such file or directory",
            "oci runtime*permission denied",
            "oci runtime*exec format error",
            "oci runtime*not a directory",
            "oci runtime*is a directory",
            "oci runtime*no command specified",
            "no command specified",
            "[fatal tini*exec*failed",
        ],
    ),
    rule("name_taken", ErrorKind::User, &["the container name*is already in use"]),
    rule("no_free_port", ErrorKind::Limit, &["all ports are allocated"]),
    rule("port_taken", ErrorKind::User, &["port is already allocated", "address already in use", "failed to bind host port"]),
    rule(
        "no_free_subnet",
        ErrorKind::Limit,
        &["non-overlapping ipv4 address pool", "address pools have been fully subnetted", "no available network"],
    ),
    rule("network_in_use", ErrorKind::User, &["has active endpoints"]),
    rule("volume_in_use", ErrorKind::User, &["volume is in use"]),
    rule("volume_not_found", ErrorKind::User, &["no such volume"]),
    rule("image_not_found", ErrorKind::User, &["no such image"]),
    rule("container_not_found", ErrorKind::Engine, &["no such container", "no such exec"]),
    rule("container_running", ErrorKind::User, &["cannot remove a running container", "cannot remove container*is running"]),
    rule("container_paused", ErrorKind::User, &["is paused"]),
    rule("container_not_running", ErrorKind::User, &["is not running", "is restarting, wait until"]),
    rule("container_removing", ErrorKind::Engine, &["is already in progress", "marked for removal"]),
    rule("cpus_out_of_range", ErrorKind::Limit, &["range of cpus is from"]),
    // The engine's own network stumbled; the same call may well succeed a little later.
    passing("engine_error", ErrorKind::Engine, &["failed to create endpoint*on network", "could not find bridge"]),
    // The second: two networks of one name, until their maker has removed one.
    passing("engine_busy", ErrorKind::Engine, &["disk usage operation is already running", "network*is ambiguous"]),
    rule("mount_failed", ErrorKind::User, &["invalid mount", "bind source path does not exist", "mount*duplicate"]),
    rule("network_not_found", ErrorKind::User, &["network*not found"]),
    rule("disk_full", ErrorKind::Infra, &["no space left on device", "disk quota exceeded"]),
];

pub(super) const PULL: &[Rule] = &[
    rule("image_not_found", ErrorKind::User, &["manifest unknown", "manifest for*not found", "repository does not exist"]),
    passing("rate_limited", ErrorKind::Registry, TOO_MANY),
    rule("registry_auth", ErrorKind::Auth, UNKNOWN_CALLER),
    rule("registry_auth", ErrorKind::Auth, &["pull access denied"]),
    rule("registry_auth", ErrorKind::Auth, DENIED),
    rule("image_invalid", ErrorKind::User, &["invalid reference format", "invalid tag format"]),
    rule("platform_not_supported", ErrorKind::User, &["no matching manifest for", "does not match the specified platform"]),
    rule("registry_tls", ErrorKind::Registry, TLS),
    passing("registry_unreachable", ErrorKind::Registry, NETWORK),
    passing("registry_error", ErrorKind::Registry, &["unexpected http status: 5", "http 5*response", "unexpected eof"]),
    rule("disk_full", ErrorKind::Infra, &["no space left on device", "disk quota exceeded"]),
    rule("image_not_found", ErrorKind::User, &["not found", "name unknown", "no such image"]),
];
