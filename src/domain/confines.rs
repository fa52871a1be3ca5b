//! What a container may not be told, whether its owner says it or its image.

use super::{RESERVED_LABELS, limits};

/// Labels that Docker keeps for itself ("Object labels" of its manual). Other programs on the host act on them.
pub const DOCKERS_LABELS: [&str; 4] = ["com.docker.", "io.docker.", "org.dockerproject.", "desktop.docker.io/"];
/// What the kernel shows there is not to be covered, and through `/proc/…/fd` a way leads out of a container (CVE-2024-21626).
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Whether it can be the key of a label: look-alikes of other alphabets, blanks and `=` are none, so that no reader takes one
/// key for another.
#[must_use]
pub fn is_label(key: &str) -> bool {
    (1..=limits::KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

/// Whether a label is the service's own: in any case, and with whatever stands for the dot.
#[must_use]
pub fn is_our_label(key: &str) -> bool {
    let ours = RESERVED_LABELS.trim_end_matches('.');
    let head = key.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    head.strip_prefix(ours).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Whether a label is one of [`DOCKERS_LABELS`], in any case.
#[must_use]
pub fn is_dockers_label(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    DOCKERS_LABELS.iter().any(|prefix| lower.starts_with(prefix))
}

/// The folder of the kernel that an absolute path is in, or is; `..` is followed as it is written.
#[must_use]
pub fn kernels_folder(path: &str) -> Option<&'static str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let first = parts.first()?;
    KERNELS.into_iter().find(|folder| folder.trim_start_matches('/') == *first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_folders_are_known_however_they_are_written() {
        for path in ["/proc", "/proc/self/fd/7", "//proc/x", "/a/../proc", "/./sys/", "/../dev/shm"] {
            assert!(kernels_folder(path).is_some(), "{path}");
        }
        for path in ["", "/", "/app", "/process", "/srv/proc", "/proc/../app"] {
            assert_eq!(kernels_folder(path), None, "{path}");
        }
    }
}
