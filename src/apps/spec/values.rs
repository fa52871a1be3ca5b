//! Single values: the image, the network, amounts, who runs.

use std::net::IpAddr;

use serde_json::Value;

use super::fields::{At, Faults, Fields};
use super::rules::SpecRules;
use crate::domain::quantity::{Bytes, Cpus};
use crate::domain::{BuildId, ImageSource, NetworkChoice, RestartPolicy, RunImage, limits};
use crate::error::FieldError;

/// Longest name of a user or a group (Linux `LOGIN_NAME_MAX` is 256).
const USER_BYTES: usize = 256;

/// What the container is made from: `image` or `build`, exactly one.
pub fn image(fields: &Fields<'_>, faults: &mut Faults) -> ImageSource {
    let read = match (fields.get("image"), fields.get("build")) {
        (Some(image), None) => faults.take(reference(&image).map(ImageSource::Reference)),
        (None, Some(build)) => faults.take(build_id(&build).map(ImageSource::Build)),
        (None, None) => {
            faults.add("image", "is missing: name an image, or a build in `build`");
            None
        }
        (Some(_), Some(build)) => {
            faults.add(build.path, "is given beside `image`; a container is made from one of them");
            None
        }
    };
    // An id of no build; nobody sees it, because the fault was told.
    read.unwrap_or_else(|| ImageSource::Build(BuildId::new()))
}

fn reference(at: &At<'_>) -> Result<RunImage, FieldError> {
    let text = at.word(512)?;
    text.parse().map_err(|why| at.fault(format!("{text:?} {why}")))
}

fn build_id(at: &At<'_>) -> Result<BuildId, FieldError> {
    at.word(limits::KEY_BYTES)?.parse().map_err(|why: crate::domain::InvalidId| at.fault(why.to_string()))
}

/// `default`, `none`, or a network of the owner's.
pub fn network(at: &At<'_>) -> Result<NetworkChoice, FieldError> {
    match at.word(limits::KEY_BYTES)? {
        "default" => Ok(NetworkChoice::Default),
        "none" => Ok(NetworkChoice::None),
        // Names of the engine's own: whoever writes them means those, and must not get another silently.
        other if ["host", "bridge", "ingress"].contains(&other) || other.contains(':') => {
            let other: String = other.chars().take(80).collect();
            Err(at.fault(format!("{other:?} is not available: name a network of your own, \"default\" or \"none\"")))
        }
        name => name.parse().map(NetworkChoice::Named).map_err(|why| at.fault(why)),
    }
}

/// `512m`, or a number of bytes.
pub fn memory(at: &At<'_>, rules: &SpecRules) -> Result<u64, FieldError> {
    let bytes = match at.value {
        Value::Number(number) => {
            number.as_u64().map(Bytes).ok_or_else(|| at.fault("must be a whole number of bytes, or a text like \"512m\""))?
        }
        _ => at.word(32)?.parse::<Bytes>().map_err(|why| at.fault(why))?,
    };
    if bytes > rules.max_memory {
        return Err(at.fault(format!("`{}` is {bytes}; the most is {}", at.path, rules.max_memory)));
    }
    if bytes.0 < limits::LEAST_MEMORY_BYTES {
        return Err(at.fault(format!("`{}` is {bytes}; the least is {}", at.path, Bytes(limits::LEAST_MEMORY_BYTES))));
    }
    Ok(bytes.0)
}

/// `1.5`, as a text or a number.
pub fn cpus(at: &At<'_>, rules: &SpecRules) -> Result<u64, FieldError> {
    let cpus: Cpus = match at.value {
        Value::Number(number) => number.to_string().parse(),
        _ => at.word(32)?.parse(),
    }
    .map_err(|why: String| at.fault(why))?;
    if cpus > rules.max_cpus {
        return Err(at.fault(format!("`{}` is {cpus}; the most is {}", at.path, rules.max_cpus)));
    }
    if cpus.0 < limits::LEAST_MILLI_CPUS {
        return Err(at.fault(format!("`{}` is {cpus}; the least is {}", at.path, Cpus(limits::LEAST_MILLI_CPUS))));
    }
    Ok(cpus.0)
}

pub fn pids(at: &At<'_>, rules: &SpecRules) -> Result<u64, FieldError> {
    at.whole(1, rules.max_pids)
}

pub fn restart(at: &At<'_>) -> Result<RestartPolicy, FieldError> {
    at.word(64)?.parse().map_err(|why| at.fault(why))
}

/// `user[:group]`, each by name or number.
pub fn user(at: &At<'_>) -> Result<String, FieldError> {
    let text = at.word(2 * USER_BYTES)?;
    if is_user(text) { Ok(text.to_owned()) } else { Err(at.fault(USER_FORM)) }
}

/// What [`is_user`] wants.
pub const USER_FORM: &str = "must be a user or user:group, each a name of letters, digits, _ . - or a number";

/// Whether it is `user[:group]`.
pub fn is_user(text: &str) -> bool {
    let plain = |part: &str| {
        let inside = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        (1..=USER_BYTES).contains(&part.len()) && !part.starts_with('-') && inside
    };
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    plain(name) && group.is_none_or(plain)
}

/// An address of the host.
pub fn address(at: &At<'_>) -> Result<IpAddr, FieldError> {
    at.word(64)?.parse().map_err(|_| at.fault("must be an address, like \"127.0.0.1\" or \"::1\""))
}
