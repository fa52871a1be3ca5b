//! Paths inside of a container, and of the host.

use super::fields::At;
use crate::domain::confines::kernels_folder;
use crate::domain::limits;
use crate::error::FieldError;

/// An absolute path in its shortest form, without `.` and `..`; a `/` at its end is left out.
pub fn absolute(at: &At<'_>) -> Result<String, FieldError> {
    let text = at.word(limits::PATH_BYTES)?;
    let Some(inside) = text.strip_prefix('/') else {
        return Err(at.fault("must be absolute: begin it with /"));
    };
    if text.chars().any(char::is_control) {
        return Err(at.fault("has a control character in it"));
    }
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if !inside.is_empty() && inside.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(at.fault("must be in its shortest form, without //, /./ and /../"));
    }
    Ok(format!("/{inside}"))
}

fn not_the_kernels(at: &At<'_>, path: String) -> Result<String, FieldError> {
    match kernels_folder(&path) {
        Some(folder) => Err(at.fault(format!("{path:?} is not available: {folder} is the kernel's"))),
        None => Ok(path),
    }
}

/// Where processes of the container start.
pub fn workdir(at: &At<'_>) -> Result<String, FieldError> {
    not_the_kernels(at, absolute(at)?)
}

/// Where in the container something is mounted.
pub fn mounted_at(at: &At<'_>) -> Result<String, FieldError> {
    let path = absolute(at)?;
    // The engine's own short form puts options behind it.
    if path.contains(':') {
        return Err(at.fault("must not have a : in it; options are fields of their own"));
    }
    if path == "/" {
        return Err(at.fault("\"/\" is not available: it is the image's own"));
    }
    not_the_kernels(at, path)
}
