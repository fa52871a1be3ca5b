//! The texts are those of Engine 20.10.24, collected by making it say them; those marked 26.1 are of Engine 26.1.5.

use super::*;

const BUILD: Doing = Doing::Build { limits: false };

fn check(doing: Doing, table: &[(&str, &str, Option<u32>)]) {
    for (message, code, line) in table {
        let error = sort(doing, None, message);
        assert_eq!((error.code, error.dockerfile_line), (*code, *line), "{message}");
        assert_eq!(error.message, *message, "told verbatim");
    }
}

#[test]
fn buildkit() {
    const FRONT: &str = "failed to solve with frontend dockerfile.v0: failed to create LLB definition: ";
    let long = |rest: &str| format!("{FRONT}{rest}");
    for (rest, code, line) in [
        ("dockerfile parse error line 2: unknown instruction: FRUM", "dockerfile_invalid", Some(2)),
        ("dockerfile parse error line 1: FROM requires either one or three arguments", "dockerfile_invalid", Some(1)),
        ("no build stage in current context", "dockerfile_invalid", None),
        ("the Dockerfile cannot be empty", "dockerfile_invalid", None),
        ("file with no instructions", "dockerfile_invalid", None),
        ("Invalid containerPort: abc", "dockerfile_invalid", None),
        ("circular dependency detected on stage: a", "dockerfile_invalid", None),
        (
            "failed to parse stage name \"UPPER/x\": invalid reference format: repository name must be lowercase",
            "dockerfile_invalid",
            None,
        ),
        ("base name (${NOPE}) should not be blank", "dockerfile_invalid", None),
        ("target stage nope could not be found", "target_not_found", None),
        ("127.0.0.1:5000/no/such:image: not found", "base_image_not_found", None),
        (
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            "base_image_not_found",
            None,
        ),
        ("pulling from host 127.0.0.1:5001 failed with status code [manifests image]: 401 Unauthorized", "registry_auth", None),
        (
            "failed to do request: Head \"http://127.0.0.1:1/v2/no/such/manifests/image\": dial tcp 127.0.0.1:1: connect: connection refused",
            "base_image_unavailable",
            None,
        ),
        (
            "failed to do request: Head \"https://registry-1.docker.io/v2/library/busybox/manifests/latest\": dial tcp: lookup registry-1.docker.io on 192.0.2.53:53: no such host",
            "base_image_unavailable",
            None,
        ),
    ] {
        check(BUILD, &[(&long(rest), code, line)]);
    }
    check(
        BUILD,
        &[
            ("failed to compute cache key: \"/nothing\" not found: not found", "copy_source_missing", None),
            (
                "failed to compute cache key: failed to calculate checksum of ref x::y: \"/nothing\": not found (26.1)",
                "copy_source_missing",
                None,
            ),
            ("lstat /var/lib/docker/overlay2/28020fb5/merged/x: no such file or directory", "copy_source_missing", None),
            (
                "failed to load cache key: failed to do request: Head \"https://registry-1.docker.io/v2/library/nostage/manifests/latest\": dial tcp: lookup registry-1.docker.io on 192.0.2.53:53: no such host",
                "base_image_unavailable",
                None,
            ),
            ("executor failed running [/bin/sh -c exit 7]: exit code: 7", "step_failed", None),
            ("executor failed running [/bin/sh -c echo no space left on device; exit 1]: exit code: 1", "step_failed", None),
            ("process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7 (26.1)", "step_failed", None),
            (
                "executor failed running [/bin/sh -c true]: unable to find user nosuch: no matching entries in passwd file",
                "step_failed",
                None,
            ),
            (
                "failed to solve with frontend dockerfile.v0: failed to read dockerfile: open /var/lib/docker/tmp/buildkit-mount3652109497/Nope: no such file or directory",
                "dockerfile_invalid",
                None,
            ),
            ("\"bogus\": unknown operating system or architecture: invalid argument", "platform_not_supported", None),
            ("dockerfile parse error on line 3: unknown instruction: FRUM (26.1)", "dockerfile_invalid", Some(3)),
            ("failed to copy: write /var/lib/docker/x: no space left on device", "disk_full", None),
            ("toomanyrequests: You have reached your pull rate limit.", "rate_limited", None),
        ],
    );
}

#[test]
fn classic() {
    check(
        BUILD,
        &[
            ("dockerfile parse error line 2: unknown instruction: FRUM", "dockerfile_invalid", Some(2)),
            ("the Dockerfile (Dockerfile) cannot be empty", "dockerfile_invalid", None),
            ("failed to parse Dockerfile: file with no instructions", "dockerfile_invalid", None),
            ("Cannot locate specified Dockerfile: Nope", "dockerfile_invalid", None),
            ("invalid reference format: repository name must be lowercase", "dockerfile_invalid", None),
            ("No image was generated. Is your Dockerfile empty?", "dockerfile_invalid", None),
            (
                "the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled",
                "dockerfile_invalid",
                None,
            ),
            ("failed to reach build target nope in Dockerfile", "target_not_found", None),
            (
                "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist",
                "copy_source_missing",
                None,
            ),
            (
                "ADD failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist",
                "copy_source_missing",
                None,
            ),
            ("COPY failed: forbidden path outside the build context: ../x ()", "copy_source_missing", None),
            (
                "manifest for 127.0.0.1:5000/no/such:image not found: manifest unknown: manifest unknown",
                "base_image_not_found",
                None,
            ),
            (
                "pull access denied for nobody/nothing, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "base_image_not_found",
                None,
            ),
            ("Head \"http://127.0.0.1:5001/v2/no/such/manifests/image\": no basic auth credentials", "registry_auth", None),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "base_image_unavailable", None),
            (
                "Get \"https://registry-1.docker.io/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
                "base_image_unavailable",
                None,
            ),
            (
                "invalid from flag value nostage: Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io on 192.0.2.53:53: no such host",
                "base_image_unavailable",
                None,
            ),
            ("The command '/bin/sh -c exit 7' returned a non-zero code: 7", "step_failed", None),
            ("unable to find user nosuch: no matching entries in passwd file", "step_failed", None),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/nonexistent\": stat /nonexistent: no such file or directory: unknown",
                "step_failed",
                None,
            ),
            ("something never heard of", "engine_error", None),
        ],
    );
}

#[test]
fn a_killed_step_ran_out_of_memory_only_when_that_was_limited() {
    let killed = "The command '/bin/sh -c x' returned a non-zero code: 137";
    assert_eq!(sort(Doing::Build { limits: true }, None, killed).code, "out_of_memory");
    assert_eq!(sort(BUILD, None, killed).code, "step_failed");
    let other = "The command '/bin/sh -c exit 137 ' returned a non-zero code: 1";
    assert_eq!(sort(Doing::Build { limits: true }, None, other).code, "step_failed");
}

#[test]
fn a_step_without_its_network_is_the_engines_fault() {
    let network = "failed to create endpoint miy1zn0a on network bridge: adding interface veth0df2e9e to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface";
    for message in [format!("executor failed running [/bin/sh -c true]: {network}"), network.to_owned()] {
        let error = sort(BUILD, None, &message);
        assert_eq!((error.code, error.kind, error.transient), ("engine_error", ErrorKind::Engine, true), "{message}");
    }
    let own = "executor failed running [/bin/sh -c echo failed to create endpoint a on network b; exit 1]: exit code: 1";
    assert_eq!(sort(BUILD, None, own).code, "step_failed");
}

#[test]
fn an_image_that_goes_while_it_is_built_is_nobodys_fault() {
    let digest = "ff3cdf60b5bb7bf2fb2fe8b5c2ac1b9fa6a5b9c1a6b1fcd8a6f8e3a6ab0d1c3e";
    let read = format!(
        "failed to get digest sha256:{digest}: open /var/lib/docker/image/overlay2/imagedb/content/sha256/{digest}: no such file or directory"
    );
    for message in [read, format!("No such image: sha256:{digest}"), "layer does not exist".into()] {
        let error = sort(BUILD, None, &message);
        assert_eq!((error.code, error.kind, error.transient), (VANISHED, ErrorKind::Engine, true), "{message}");
        assert_eq!(sort(Doing::Image, Some(500), &message).code, "image_missing", "{message}");
    }
    assert_eq!(sort(BUILD, None, "No such image: busybox:9").code, "base_image_not_found");
}

#[test]
fn pushes() {
    check(
        Doing::Push,
        &[
            ("no basic auth credentials", "registry_auth", None),
            ("unauthorized", "registry_auth", None),
            ("unauthorized: authentication required", "registry_auth", None),
            ("unauthorized: incorrect username or password", "registry_auth", None),
            ("denied: requested access to the resource is denied", "push_denied", None),
            ("error parsing HTTP 403 response body: no error details found in HTTP response body", "push_denied", None),
            ("toomanyrequests: too many requests", "rate_limited", None),
            ("error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value", "rate_limited", None),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "registry_unreachable", None),
            ("received unexpected HTTP status: 503 Service Unavailable", "registry_error", None),
            ("Get \"https://r.example/v2/\": http: server gave HTTP response to HTTPS client", "registry_tls", None),
            ("Get \"https://r.example/v2/\": x509: certificate signed by unknown authority", "registry_tls", None),
            ("An image does not exist locally with the tag: 127.0.0.1:5000/x", "image_missing", None),
        ],
    );
    for (message, transient) in [
        ("dial tcp: connection refused", true),
        ("unauthorized: authentication required", false),
        ("received unexpected HTTP status: 502 Bad Gateway", true),
    ] {
        assert_eq!(sort(Doing::Push, None, message).transient, transient, "{message}");
    }
}

#[test]
fn an_empty_answer_is_told_by_its_status() {
    let error = sort(Doing::Image, Some(503), "");
    assert_eq!((error.message.as_str(), error.transient), ("the engine answered with status 503", true));
}

#[test]
fn containers() {
    const OCI: &str =
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: ";
    let oci = |rest: &str| format!("{OCI}{rest}: unknown");
    for (rest, code) in [
        ("exec: \"nosuch\": executable file not found in $PATH", "command_failed_to_start"),
        ("exec: \"/nosuch\": stat /nosuch: no such file or directory", "command_failed_to_start"),
        ("exec: \"/etc/passwd\": permission denied", "command_failed_to_start"),
        ("exec: \"port is already allocated\": executable file not found in $PATH", "command_failed_to_start"),
        ("chdir to cwd (\"/root/x\") set in config.json failed: permission denied", "workdir_invalid"),
        ("error during container init: error mounting \"/a\" to rootfs at \"/b\": not a directory", "mount_failed"),
        ("container init was OOM-killed (memory limit too low?)", "memory_too_small"),
    ] {
        check(Doing::Container, &[(&oci(rest), code, None)]);
    }
    check(
        Doing::Container,
        &[
            ("[FATAL tini (8)] exec nosuch failed: No such file or directory", "command_failed_to_start", None),
            ("unable to find user nosuch: no matching entries in passwd file", "user_not_found", None),
            (
                "Conflict. The container name \"/a\" is already in use by container \"b\". You have to remove it.",
                "name_taken",
                None,
            ),
            ("driver failed programming external connectivity on endpoint a (b): all ports are allocated", "no_free_port", None),
            (
                "driver failed programming external connectivity on endpoint a (b): Bind for 127.0.0.1:80 failed: port is already allocated",
                "port_taken",
                None,
            ),
            (
                "driver failed programming external connectivity on endpoint a (b): Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use",
                "port_taken",
                None,
            ),
            (
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                "no_free_subnet",
                None,
            ),
            ("all predefined address pools have been fully subnetted (later engines)", "no_free_subnet", None),
            ("error while removing network: network a id b has active endpoints", "network_in_use", None),
            ("remove a: volume is in use - [b]", "volume_in_use", None),
            ("network a not found", "network_not_found", None),
            (
                "You cannot remove a running container a. Stop the container before attempting removal or force remove",
                "container_running",
                None,
            ),
            (
                "cannot remove container \"/a\": container is running: stop the container before removing or force remove (26.1)",
                "container_running",
                None,
            ),
            ("removal of container a is already in progress", "container_removing", None),
            ("Cannot kill container: a: Container b is not running", "container_not_running", None),
            ("Container a is restarting, wait until the container is running", "container_not_running", None),
            ("Container a is paused, unpause the container before exec", "container_paused", None),
            ("a disk usage operation is already running", "engine_busy", None),
            ("4 matches found based on name: network a is ambiguous", "engine_busy", None),
        ],
    );
    assert_eq!(sort(Doing::Container, Some(400), "something never heard of").code, "container_invalid");
    assert_eq!(sort(Doing::Container, Some(500), "something never heard of").code, "engine_error");
    let network = "failed to create endpoint a on network bridge: adding interface veth0 to bridge docker0 failed: could not find bridge docker0";
    assert!(sort(Doing::Container, Some(500), network).transient);
}

#[test]
fn pulls() {
    check(
        Doing::Pull,
        &[
            (
                "manifest for 127.0.0.1:5000/toomanyrequests:429 not found: manifest unknown: manifest unknown",
                "image_not_found",
                None,
            ),
            (
                "pull access denied for a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "image_not_found",
                None,
            ),
            ("Head \"http://127.0.0.1:5001/v2/a/manifests/1\": no basic auth credentials", "registry_auth", None),
            ("unauthorized: authentication required", "registry_auth", None),
            ("denied: requested access to the resource is denied", "registry_auth", None),
            ("toomanyrequests: You have reached your pull rate limit.", "rate_limited", None),
            ("error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value", "rate_limited", None),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "registry_unreachable", None),
            ("received unexpected HTTP status: 503 Service Unavailable", "registry_error", None),
            ("Get \"https://r/v2/\": x509: certificate signed by unknown authority", "registry_tls", None),
            ("no matching manifest for linux/amd64 in the manifest list entries", "platform_not_supported", None),
            ("failed to register layer: write /x: no space left on device", "disk_full", None),
        ],
    );
}

/// Names of images stand in the engine's texts; what they are called decides nothing.
#[test]
fn names_of_images_decide_nothing() {
    for name in
        ["403", "401", "429", "denied", "unauthorized", "forbidden", "toomanyrequests", "insufficient_scope", "x509", "tls"]
    {
        for image in [format!("127.0.0.1:1/{name}/{name}:{name}"), format!("127.0.0.1:1/app-{name}:1")] {
            let path = image.split_once('/').expect("a path").1.rsplit_once(':').expect("a tag").0;
            let refused = format!(
                "Get \"http://127.0.0.1:1/v2/{path}/manifests/{name}\": dial tcp 127.0.0.1:1: connect: connection refused"
            );
            for (doing, code) in
                [(Doing::Push, "registry_unreachable"), (Doing::Pull, "registry_unreachable"), (BUILD, "base_image_unavailable")]
            {
                assert_eq!(sort(doing, None, &refused).code, code, "{refused}");
            }
            let missing = format!("An image does not exist locally with the tag: {image}");
            assert_eq!(sort(Doing::Push, None, &missing).code, "image_missing", "{missing}");
            let none =
                format!("failed to solve with frontend dockerfile.v0: failed to create LLB definition: {image}: not found");
            assert_eq!(sort(BUILD, None, &none).code, "base_image_not_found", "{none}");
            let down = format!("error pulling {image}: received unexpected HTTP status: 503 Service Unavailable");
            assert_eq!(sort(Doing::Pull, None, &down).code, "registry_error", "{down}");
        }
    }
}

/// What registries say through the engine, wherever in the text it stands.
#[test]
fn refusals_are_known_by_their_shape() {
    for (message, push, pull) in [
        (
            "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n",
            "registry_auth",
            "registry_auth",
        ),
        ("received unexpected HTTP status: 403 Forbidden", "push_denied", "registry_auth"),
        ("received unexpected HTTP status: 429 Too Many Requests", "rate_limited", "rate_limited"),
        ("error parsing HTTP 401 response body: unexpected end of JSON input: \"\"", "registry_auth", "registry_auth"),
        ("denied: permission_denied: write_package", "push_denied", "registry_auth"),
        (
            "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
            "rate_limited",
            "rate_limited",
        ),
        ("Get \"https://r.example/v2/\": remote error: tls: bad certificate", "registry_tls", "registry_tls"),
    ] {
        assert_eq!(sort(Doing::Push, None, message).code, push, "{message}");
        assert_eq!(sort(Doing::Pull, None, message).code, pull, "{message}");
    }
}
