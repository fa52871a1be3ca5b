//! The one validator: whatever makes a container (an app, a run, a request of its own) has its fields read here, into a
//! [`ContainerSpec`], which can hold only what is allowed. `docs/apps.md` says what that is.
//!
//! ```text
//! bytes ──object──▶ JSON, no key twice ──read | replace | patch──▶ ContainerSpec + SecretEnv
//!                                             show ◀──────────────────────┤
//!                                             engine::request ◀───────────┘
//! ```
//!
//! It is an allow-list: an unknown field is refused by its name, at every depth, and so is what the engine could take to mean
//! something else. All faults of a request are told together. Values of variables and arguments are never quoted: they may be secret.

mod env;
mod fields;
mod form;
mod health;
mod json;
mod mounts;
mod names;
mod paths;
mod ports;
mod rules;
mod show;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use fields::{At, Faults, Fields};
pub use form::Form;
pub use json::object;
pub use names::FIELDS;
pub use rules::{Rights, SpecRules};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
pub use show::show;
pub use values::{USER_FORM, is_user};

use crate::domain::quantity::Bytes;
use crate::domain::{AdminOnly, ContainerSpec, EnvValue, NetworkChoice, SecretEnv, limits};
use crate::error::Result;

/// Reads a container that is new. The caller takes out first what is not of the container: an app's `name`, a run's `registry`.
///
/// # Errors
/// [`crate::error::Error::Invalid`] `invalid_spec` with all that is wrong, each by the path of its field.
pub fn read(input: &Map<String, Value>, rules: &SpecRules, rights: Rights) -> Result<(ContainerSpec, SecretEnv)> {
    checked(input, None, rules, rights)
}

/// Reads a container that takes the place of `current`: `{"secret": true}` keeps the value of a secret variable that `current`
/// has. The answer holds the new values alone; [`SecretEnv::completed`] adds the kept ones.
///
/// # Errors
/// As [`read`].
pub fn replace(
    current: &ContainerSpec,
    input: &Map<String, Value>,
    rules: &SpecRules,
    rights: Rights,
) -> Result<(ContainerSpec, SecretEnv)> {
    checked(input, Some(current), rules, rights)
}

/// Changes some fields of `current` (RFC 7396): absent ones stay, `null` ones go back to their default, objects are merged, lists
/// are replaced. What comes out is checked as a whole, with the rules and rights of now.
///
/// # Errors
/// As [`read`].
pub fn patch(
    current: &ContainerSpec,
    input: &Map<String, Value>,
    rules: &SpecRules,
    rights: Rights,
) -> Result<(ContainerSpec, SecretEnv)> {
    let mut merged = show(current);
    // A container is made from one thing: naming the other takes its place.
    for (one, other) in [("image", "build"), ("build", "image")] {
        if input.get(one).is_some_and(|value| !value.is_null()) && !input.contains_key(other) {
            merged.remove(other);
        }
    }
    // Nor are a disabled check and a test together.
    if let (Some(Value::Object(now)), Some(Value::Object(change))) = (merged.get_mut("healthcheck"), input.get("healthcheck")) {
        if change.contains_key("test") {
            now.remove("disable");
        } else if change.get("disable") == Some(&Value::Bool(true)) {
            now.clear();
        }
    }
    merge(&mut merged, input);
    for name in ["env", "labels"] {
        if let Some(Value::Object(entries)) = merged.get_mut(name) {
            entries.retain(|_, value| !value.is_null());
        }
    }
    checked(&merged, Some(current), rules, rights)
}

/// Whether a spec that was accepted before is still allowed.
///
/// # Errors
/// As [`read`].
pub fn recheck(stored: &ContainerSpec, rules: &SpecRules, rights: Rights) -> Result<()> {
    checked(&show(stored), Some(stored), rules, rights).map(drop)
}

/// RFC 7396, section 2; but a `null` for what is not there stays, so that an unknown field is told also then.
fn merge(target: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (key, value) in change {
        match value {
            Value::Null => {
                if target.remove(key).is_none() {
                    target.insert(key.clone(), Value::Null);
                }
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| Map::new().into());
                if !slot.is_object() {
                    *slot = Map::new().into();
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// The fields in which a container of `after` differs from one of `before`: a running one follows none of these changes before it is
/// made anew. `new_secrets` are the values that came with the change, which no spec shows.
#[must_use]
pub fn needs_restart(before: &ContainerSpec, after: &ContainerSpec, new_secrets: &SecretEnv) -> Vec<&'static str> {
    let (before, after) = (show(before), show(after));
    let differs = |name: &str| before.get(name) != after.get(name) || (name == "env" && !new_secrets.is_empty());
    FIELDS.iter().copied().filter(|name| differs(name)).collect()
}

fn checked(
    input: &Map<String, Value>,
    current: Option<&ContainerSpec>,
    rules: &SpecRules,
    rights: Rights,
) -> Result<(ContainerSpec, SecretEnv)> {
    let mut faults = Faults::default();
    let fields = Fields::open("", input, FIELDS, &mut faults);
    let (env, secrets) = env::read(&fields, current, &mut faults);
    let spec = container(&fields, env, rules, rights, &mut faults);
    fitting(&spec, &secrets, &mut faults);
    faults.done()?;
    Ok((spec, secrets))
}

/// Every field in its turn; what is a fault is told to `faults` and stands at a default that nobody sees.
fn container(
    fields: &Fields<'_>,
    env: BTreeMap<String, EnvValue>,
    rules: &SpecRules,
    rights: Rights,
    faults: &mut Faults,
) -> ContainerSpec {
    ContainerSpec {
        image: values::image(fields, faults),
        command: fields.get("command").map(|at| at.arguments(faults)).unwrap_or_default(),
        entrypoint: fields.get("entrypoint").map(|at| at.arguments(faults)).unwrap_or_default(),
        env,
        ports: ports::read(fields, rules, faults),
        volumes: mounts::volumes(fields, faults),
        network: fields.read("network", faults, values::network).unwrap_or(NetworkChoice::Default),
        memory_bytes: fields.read("memory", faults, |at| values::memory(at, rules)).unwrap_or(rules.default_memory.0),
        milli_cpus: fields.read("cpus", faults, |at| values::cpus(at, rules)).unwrap_or(rules.default_cpus.0),
        pids: fields.read("pids", faults, |at| values::pids(at, rules)).unwrap_or(rules.default_pids),
        restart: fields.read("restart", faults, values::restart).unwrap_or_default(),
        user: fields.read("user", faults, values::user),
        workdir: fields.read("workdir", faults, paths::workdir),
        read_only: fields.read("read_only", faults, At::flag).unwrap_or_default(),
        tty: fields.read("tty", faults, At::flag).unwrap_or_default(),
        healthcheck: fields.get("healthcheck").and_then(|at| health::read(&at, faults)),
        labels: env::labels(fields, faults),
        admin: AdminOnly {
            binds: for_admins(fields, "binds", rights, faults).map(|at| mounts::binds(&at, rules, faults)).unwrap_or_default(),
            publish_on: for_admins(fields, "publish_on", rights, faults).and_then(|at| faults.take(values::address(&at))),
        },
    }
}

/// A field that users may not use.
fn for_admins<'a>(fields: &Fields<'a>, name: &str, rights: Rights, faults: &mut Faults) -> Option<At<'a>> {
    let at = fields.get(name)?;
    if rights == Rights::User {
        faults.add(name, format!("only an admin may use `{name}`"));
        return None;
    }
    Some(at)
}

/// What only the fields together can be wrong in.
fn fitting(spec: &ContainerSpec, secrets: &SecretEnv, faults: &mut Faults) {
    if spec.network == NetworkChoice::None && !spec.ports.is_empty() {
        faults.add("ports", "nothing can be published without a network, and `network` is \"none\"");
    }
    let mut paths = BTreeSet::new();
    let volumes = spec.volumes.iter().map(|mount| ("volumes", &mount.path));
    for (field, path) in volumes.chain(spec.admin.binds.iter().map(|bind| ("binds", &bind.path))) {
        if !paths.insert(path) {
            faults.add(field, format!("{path:?} is mounted twice"));
        }
    }
    let arguments = spec.command.iter().chain(&spec.entrypoint).map(String::len);
    let variables = spec.env.iter().map(|(name, value)| match value {
        EnvValue::Plain(value) => name.len() + value.len(),
        EnvValue::Secret => name.len() + secrets.get(name).map_or(0, |value| value.expose_secret().len()),
    });
    if arguments.chain(variables).sum::<usize>() > limits::START_BYTES {
        let most = Bytes(limits::START_BYTES as u64);
        faults.add("env", format!("has, together with command and entrypoint, more than {most}"));
    }
}
