//! The bounds that hold whatever an operator configures, each with its source.

/// Longest Dockerfile that is accepted, in bytes. It is kept in the record, so it must stay small.
pub const DOCKERFILE_BYTES: u64 = 1024 * 1024;
/// Longest value of a text part (`image`, `build_arg`, …), in bytes.
pub const TEXT_PART_BYTES: usize = 16 * 1024;
/// Most parts in one upload.
pub const PARTS: usize = 512;
/// Most destinations of one build.
pub const DESTINATIONS: usize = 16;
/// Longest line of a log that is kept as one line, in bytes; longer ones are split.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// Longest path inside a context, in bytes (Linux `PATH_MAX`).
pub const PATH_BYTES: usize = 4096;
/// Largest page of a list.
pub const PAGE: usize = 200;
/// Default page of a list.
pub const PAGE_DEFAULT: usize = 50;
/// Longest `?wait=`, in seconds.
pub const WAIT_SECONDS: u64 = 60;
