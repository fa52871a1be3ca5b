//! Environment variables, open and secret, and labels.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::Value;

use super::fields::{At, Faults, Fields, shown};
use crate::domain::confines::{DOCKERS_LABELS, is_dockers_label, is_label, is_our_label};
use crate::domain::{ContainerSpec, EnvValue, RESERVED_LABELS, SecretEnv, limits};
use crate::error::FieldError;

/// `current` has the secret variables whose values may be kept.
pub fn read(
    fields: &Fields<'_>,
    current: Option<&ContainerSpec>,
    faults: &mut Faults,
) -> (BTreeMap<String, EnvValue>, SecretEnv) {
    let (mut env, mut secrets) = (BTreeMap::new(), SecretEnv::default());
    let entries = fields.read("env", faults, |at| at.entries(limits::ENV_ENTRIES)).unwrap_or_default();
    for (name, at) in entries {
        if !is_name(name) {
            faults.add(at.path, "is no name of a variable: letters, digits, _ . -, not beginning with a digit, 255 at most");
            continue;
        }
        match at.value {
            Value::Object(_) => {
                match secret(&at, current.is_some_and(|spec| spec.env.get(name) == Some(&EnvValue::Secret)), faults) {
                    Some(Secret::New(value)) => secrets.insert(name, value),
                    Some(Secret::Kept) => {}
                    None => continue,
                }
            }
            _ => {
                if let Some(value) = faults.take(at.text(limits::ENV_VALUE_BYTES)) {
                    env.insert(name.to_owned(), EnvValue::Plain(value.to_owned()));
                }
                continue;
            }
        }
        env.insert(name.to_owned(), EnvValue::Secret);
    }
    (env, secrets)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    begins && name.len() <= limits::KEY_BYTES && name.bytes().all(plain)
}

enum Secret {
    New(SecretString),
    Kept,
}

/// `{"secret": "…"}`, or `{"secret": true}` for one that there is.
fn secret(at: &At<'_>, there_is: bool, faults: &mut Faults) -> Option<Secret> {
    let inner = at.fields(&["secret"], "{\"secret\": \"…\"}", faults)?;
    inner.needed("secret", faults, |at| match at.value {
        Value::Bool(true) if there_is => Ok(Secret::Kept),
        Value::Bool(true) => Err(at.fault("there is no value to keep; give one: {\"secret\": \"…\"}")),
        _ => at.text(limits::ENV_VALUE_BYTES).map(|value| Secret::New(SecretString::from(value.to_owned()))),
    })
}

pub fn labels(fields: &Fields<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let entries = fields.read("labels", faults, |at| at.entries(limits::LABELS)).unwrap_or_default();
    let mut labels = BTreeMap::new();
    for (key, at) in entries {
        if let Some(value) = faults.take(label(key, &at)) {
            labels.insert(key.to_owned(), value);
        }
    }
    labels
}

fn label(key: &str, at: &At<'_>) -> Result<String, FieldError> {
    if !is_label(key) {
        return Err(at.fault("is no key of a label: 1 to 255 of visible ASCII without ="));
    }
    if is_our_label(key) {
        return Err(
            at.fault(format!("`{}` is reserved: labels that begin with {RESERVED_LABELS} are the service's own", shown(key)))
        );
    }
    if is_dockers_label(key) {
        return Err(at.fault(format!("`{}` is reserved: Docker keeps {} for itself", shown(key), DOCKERS_LABELS.join(", "))));
    }
    at.text(limits::LABEL_BYTES).map(str::to_owned)
}
