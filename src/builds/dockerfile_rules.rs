//! What a Dockerfile may not say, or not together with the options of its build.

use super::entrusted;
use super::options::Faults;
use crate::context::dockerfile::{self, Outline};
use crate::domain::{BuildSpec, limits};

pub(super) fn check_dockerfile(text: &[u8], field: &str, spec: &BuildSpec, faults: &mut Faults) {
    if text.len() as u64 > limits::DOCKERFILE_BYTES {
        return faults.add(
            "dockerfile_too_large",
            field,
            format!("the Dockerfile may have at most {} bytes", limits::DOCKERFILE_BYTES),
        );
    }
    let outline = match dockerfile::check(text) {
        Ok(outline) => outline,
        Err(fault) => return faults.add(fault.code, field, fault.message),
    };
    if let Some(frontend) = outline.foreign_frontend() {
        let why = format!(
            "line {}: the frontend {:?} is not allowed; leave the # syntax= line out, or name docker/dockerfile",
            frontend.line, frontend.image
        );
        faults.add("frontend_not_allowed", field, why);
    }
    if let Some(image) = outline.reserved_image(&spec.build_args) {
        faults.add(
            "reserved_image",
            field,
            format!("line {}: {} names the service's own host, whose images cannot be used", image.line, image.text),
        );
    }
    if let Some(image) = outline.image_like_an_id(&spec.build_args).filter(|_| spec.has_limits()) {
        let why = format!(
            "line {}: with limits, {:?} could also be the id of anybody's image; write its tag, too: {}:latest",
            image.line, image.text, image.text
        );
        faults.add("image_by_id", field, why);
    }
    entrusted::check_mounts(&outline, spec, faults);
    if let Some(target) = spec.target.as_deref().filter(|target| !has_stage(&outline, target)) {
        faults.add("target_not_found", "target", format!("the Dockerfile has no build stage {target:?}"));
    }
    if let Some(needs) = outline.buildkit_only.as_ref().filter(|_| spec.has_limits()) {
        let why = format!(
            "line {} of the Dockerfile uses {}, which only BuildKit knows, and BuildKit ignores limits of memory and CPU",
            needs.line, needs.what
        );
        faults.add("limits_need_classic", if spec.memory_bytes.is_some() { "memory" } else { "cpus" }, why);
    }
}

/// A stage is named, in any case of its letters, or counted from 0.
fn has_stage(outline: &Outline, target: &str) -> bool {
    let named = outline.stages.iter().any(|stage| stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(target)));
    named || target.parse::<usize>().is_ok_and(|index| index < outline.stages.len())
}
