//! The bounds that hold whatever an operator configures, each with its source.

/// Longest Dockerfile that is accepted, in bytes. It is kept in the record, so it must stay small.
pub const DOCKERFILE_BYTES: u64 = 1024 * 1024;
/// Longest value of a text part (`image`, `build_arg`, …), in bytes.
pub const TEXT_PART_BYTES: usize = 16 * 1024;
/// Most parts in one upload.
pub const PARTS: usize = 512;
/// Most destinations of one build.
pub const DESTINATIONS: usize = 16;
/// Most images whose layers one build may use as a cache.
pub const CACHE_SOURCES: usize = 16;
/// Most build secrets of one build, and most ssh keys.
pub const SECRETS: usize = 32;
/// Largest build secret, in bytes (BuildKit's own limit, `secrets.MaxSecretSize`).
pub const SECRET_BYTES: usize = 500 * 1024;
/// Largest private key for ssh, in bytes.
pub const SSH_KEY_BYTES: usize = 16 * 1024;
/// Most bytes of secrets and keys of one build together: they lie in the store while it waits.
pub const ENTRUSTED_BYTES: usize = 4 * 1024 * 1024;
/// Longest id of a secret or of an ssh key, in bytes.
pub const SECRET_ID_BYTES: usize = 64;
/// Longest name of a project, in bytes.
pub const PROJECT_BYTES: usize = 200;
/// Longest URL of a git repository, in bytes.
pub const GIT_URL_BYTES: usize = 2048;
/// Longest name of a git reference, in bytes.
pub const GIT_REF_BYTES: usize = 255;
/// Most submodules of one git source, those of submodules included.
pub const GIT_SUBMODULES: usize = 64;
/// Most steps of a build, and layers of its image, that are listed.
pub const STEPS: usize = 500;
/// Longest line of a log that is kept as one line, in bytes; longer ones are split.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// Longest path inside a context, in bytes (Linux `PATH_MAX`).
pub const PATH_BYTES: usize = 4096;
/// Most webhooks of one owner.
pub const WEBHOOKS: usize = 20;
/// Longest address of a webhook, in bytes.
pub const WEBHOOK_URL_BYTES: usize = 2048;
/// Newest deliveries that are kept of a webhook.
pub const DELIVERIES: u64 = 50;
/// Deliveries of a webhook that may wait to be tried again; with more, the oldest are given up.
pub const DELIVERIES_WAITING: u64 = 1000;
/// How often a delivery is tried.
pub const DELIVERY_TRIES: usize = 12;
/// What is kept of a receiver's answer, in bytes.
pub const DELIVERY_ANSWER_BYTES: usize = 1024;
/// Most rules of retention of one owner.
pub const RETENTION_RULES: usize = 100;
/// Largest page of a list.
pub const PAGE: usize = 200;
/// Default page of a list.
pub const PAGE_DEFAULT: usize = 50;
/// Longest `?wait=`, in seconds.
pub const WAIT_SECONDS: u64 = 60;
/// Most items of a container's command or entrypoint.
pub const COMMAND_ITEMS: usize = 256;
/// Longest item of them, in bytes.
pub const COMMAND_ITEM_BYTES: usize = 16 * 1024;
/// Most environment variables of a container.
pub const ENV_ENTRIES: usize = 200;
/// Longest value of one, in bytes.
pub const ENV_VALUE_BYTES: usize = 32 * 1024;
/// Longest name of a variable, or key of a label, in bytes.
pub const KEY_BYTES: usize = 255;
/// Most bytes of command, entrypoint and environment together: with more, Linux starts no process (`ARG_MAX`, half of it).
pub const START_BYTES: usize = 1024 * 1024;
/// Most labels of a container.
pub const LABELS: usize = 100;
/// Longest value of a label, in bytes.
pub const LABEL_BYTES: usize = 4096;
/// Most published ports of a container.
pub const PORTS_PUBLISHED: usize = 64;
/// Most volumes, and most folders of the host, of a container.
pub const MOUNTS: usize = 64;
/// Most differences between a container's files and its image that one answer tells.
pub const CHANGES: usize = 10_000;
/// Networks of one owner, beside its default one, where no quota says otherwise: an engine's own pools make 31 of all owners together.
pub const NETWORKS: u64 = 4;
/// Least memory of a container, in bytes (Docker's own).
pub const LEAST_MEMORY_BYTES: u64 = 6 << 20;
/// Least share of a CPU, in thousandths (Docker's own).
pub const LEAST_MILLI_CPUS: u64 = 10;
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH: usize = 16;
/// Shortest time between two checks of a container's health, and for one, in milliseconds: each is a process of its own.
pub const CHECK_SHORTEST_MS: u64 = 1000;
/// Longest of any of the times of a check, in milliseconds.
pub const CHECK_LONGEST_MS: u64 = 24 * 3600 * 1000;
/// Most failed checks in a row before a container is unhealthy.
pub const CHECK_RETRIES: u32 = 100;
/// Joins of one build that its record tells.
pub const JOINS: usize = 100;
