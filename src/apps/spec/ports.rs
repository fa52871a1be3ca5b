//! Ports of the container that are published on the host.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{At, Faults, Fields};
use super::rules::SpecRules;
use crate::domain::{Port, Protocol, limits};
use crate::error::FieldError;

const FORM: &str = "{\"container\": 80, \"host\": 20080}, or the container's port alone: 80";

pub fn read(fields: &Fields<'_>, rules: &SpecRules, faults: &mut Faults) -> Vec<Port> {
    let items = fields.read("ports", faults, |at| at.list(limits::PORTS_PUBLISHED)).unwrap_or_default();
    let (mut ports, mut inside, mut outside) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for item in items {
        let Some(port) = one(&item, rules, faults) else { continue };
        if !inside.insert((port.container, port.protocol)) {
            faults.add(format!("{}.container", item.path), format!("port {} is published twice", port.container));
        }
        if let Some(host) = port.host.filter(|host| !outside.insert((*host, port.protocol))) {
            faults.add(format!("{}.host", item.path), format!("host port {host} is given twice"));
        }
        ports.push(port);
    }
    ports
}

fn one(at: &At<'_>, rules: &SpecRules, faults: &mut Faults) -> Option<Port> {
    if at.value.is_number() {
        let container = faults.take(number(at))?;
        return Some(Port { container, protocol: Protocol::Tcp, host: None });
    }
    let fields = at.fields(&["container", "host", "protocol"], FORM, faults)?;
    let container = fields.needed("container", faults, number);
    let host = match fields.get("host") {
        Some(at) => Some(faults.take(host(&at, rules))?),
        None => None,
    };
    let protocol = match fields.get("protocol") {
        Some(at) => faults.take(protocol(&at))?,
        None => Protocol::Tcp,
    };
    Some(Port { container: container?, protocol, host })
}

fn number(at: &At<'_>) -> Result<u16, FieldError> {
    if at.value.is_string() {
        return Err(at.fault("must be a number, without quotation marks"));
    }
    at.whole(1, u16::MAX.into()).map(|port| u16::try_from(port).expect("fits, because it was bounded"))
}

fn host(at: &At<'_>, rules: &SpecRules) -> Result<u16, FieldError> {
    let (first, last) = (rules.host_ports.start(), rules.host_ports.end());
    let Value::Number(given) = at.value else { return number(at) };
    let port = given.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| rules.host_ports.contains(port));
    port.ok_or_else(|| at.fault(format!("host port {given} is outside {first}–{last}")))
}

fn protocol(at: &At<'_>) -> Result<Protocol, FieldError> {
    match at.value.as_str() {
        Some("tcp") => Ok(Protocol::Tcp),
        Some("udp") => Ok(Protocol::Udp),
        _ => Err(at.fault("must be \"tcp\" or \"udp\"")),
    }
}
