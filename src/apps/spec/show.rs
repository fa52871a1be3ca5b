//! A spec as its owner wrote it, and may write it again.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::quantity::{Bytes, Cpus, Span};
use crate::domain::{Bind, ContainerSpec, EnvValue, Healthcheck, ImageSource, NetworkChoice, Port, VolumeMount};

/// The fields of the contract, with defaults filled in; secret values as `{"secret": true}`, admins' fields only where they are
/// used. What is shown reads as the same spec ([`super::replace`]).
#[must_use]
pub fn show(spec: &ContainerSpec) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    match &spec.image {
        ImageSource::Reference(image) => put("image", image.written().into()),
        ImageSource::Build(id) => put("build", id.to_string().into()),
    };
    put("command", json!(spec.command));
    put("entrypoint", json!(spec.entrypoint));
    put("env", spec.env.iter().map(|(name, value)| (name.clone(), variable(value))).collect());
    put("ports", spec.ports.iter().map(port).collect());
    put("volumes", spec.volumes.iter().map(volume).collect());
    put("network", network(&spec.network).into());
    put("memory", Bytes(spec.memory_bytes).to_string().into());
    put("cpus", Cpus(spec.milli_cpus).to_string().into());
    put("pids", spec.pids.into());
    put("restart", spec.restart.to_string().into());
    put("user", json!(spec.user));
    put("workdir", json!(spec.workdir));
    put("read_only", spec.read_only.into());
    put("healthcheck", spec.healthcheck.as_ref().map_or(Value::Null, healthcheck));
    put("labels", json!(spec.labels));
    put("tty", spec.tty.into());
    if !spec.admin.binds.is_empty() {
        put("binds", spec.admin.binds.iter().map(bind).collect());
    }
    if let Some(address) = spec.admin.publish_on {
        put("publish_on", address.to_string().into());
    }
    shown
}

fn variable(value: &EnvValue) -> Value {
    match value {
        EnvValue::Plain(value) => value.as_str().into(),
        EnvValue::Secret => json!({"secret": true}),
    }
}

fn port(port: &Port) -> Value {
    json!({"container": port.container, "host": port.host, "protocol": port.protocol.as_str()})
}

fn volume(mount: &VolumeMount) -> Value {
    json!({"volume": mount.volume.as_str(), "path": mount.path, "read_only": mount.read_only})
}

fn bind(bind: &Bind) -> Value {
    json!({"source": bind.source, "path": bind.path, "read_only": bind.read_only})
}

fn network(choice: &NetworkChoice) -> &str {
    match choice {
        NetworkChoice::Default => "default",
        NetworkChoice::None => "none",
        NetworkChoice::Named(name) => name.as_str(),
    }
}

fn healthcheck(check: &Healthcheck) -> Value {
    if check.test.first().is_some_and(|word| word == "NONE") {
        return json!({"disable": true});
    }
    let span = |millis: Option<u64>| millis.map(|millis| Span(Duration::from_millis(millis)).to_string());
    json!({
        "test": check.test, "interval": span(check.interval_ms), "timeout": span(check.timeout_ms),
        "start_period": span(check.start_period_ms), "retries": check.retries,
    })
}
