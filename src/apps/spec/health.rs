//! The healthcheck, in Docker's forms and in plainer ones.

use serde_json::Value;

use super::fields::{At, Faults, Fields};
use crate::domain::quantity::Span;
use crate::domain::{Healthcheck, limits};
use crate::error::FieldError;

const FIELDS: &[&str] = &["test", "interval", "timeout", "start_period", "retries", "disable"];

pub fn read(at: &At<'_>, faults: &mut Faults) -> Option<Healthcheck> {
    let fields = at.fields(FIELDS, "{\"test\": \"…\", \"interval\": \"30s\"}", faults)?;
    if fields.read("disable", faults, At::flag) == Some(true) {
        return disabled(&fields, faults);
    }
    let Some(test) = fields.get("test") else {
        faults.add(fields.path_of("test"), "is missing: a command whose exit code 0 means healthy, or `disable`");
        return None;
    };
    let test = command(&test, faults);
    let checked = Healthcheck {
        interval_ms: fields.read("interval", faults, |at| span(at, limits::CHECK_SHORTEST_MS)),
        timeout_ms: fields.read("timeout", faults, |at| span(at, limits::CHECK_SHORTEST_MS)),
        start_period_ms: fields.read("start_period", faults, |at| span(at, 0)),
        retries: fields.read("retries", faults, retries),
        test: test?,
    };
    if checked.test[0] == "NONE" { disabled(&fields, faults) } else { Some(checked) }
}

/// The image's own check is not made.
fn disabled(fields: &Fields<'_>, faults: &mut Faults) -> Option<Healthcheck> {
    for name in FIELDS.iter().filter(|name| **name != "disable") {
        let none = |at: &At<'_>| *name == "test" && at.value.as_array().is_some_and(|items| items == &[Value::from("NONE")]);
        if let Some(at) = fields.get(name).filter(|at| !none(at)) {
            faults.add(at.path, "has no meaning where the check is disabled");
        }
    }
    Some(Healthcheck { test: vec!["NONE".into()], interval_ms: None, timeout_ms: None, start_period_ms: None, retries: None })
}

/// A line for the shell, arguments, or Docker's own form, into the latter.
fn command(at: &At<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    if at.value.is_string() {
        let line = faults.take(at.word(limits::COMMAND_ITEM_BYTES))?;
        return Some(vec!["CMD-SHELL".into(), line.to_owned()]);
    }
    let told = at.arguments(faults);
    let whole = at.value.as_array().is_some_and(|items| items.len() == told.len());
    let refused = match told.first().map(String::as_str) {
        _ if !whole => return None,
        None => "is empty",
        Some("CMD") if told.len() < 2 || told[1].is_empty() => "has no command behind CMD",
        Some("CMD-SHELL") if told.len() != 2 || told[1].is_empty() => "must have one line behind CMD-SHELL",
        Some("NONE") if told.len() != 1 => "must have nothing behind NONE",
        Some("") => "has no command",
        Some("CMD" | "CMD-SHELL" | "NONE") => return Some(told),
        Some(_) if told.len() == limits::COMMAND_ITEMS => "has too many items",
        Some(_) => return Some([vec!["CMD".to_owned()], told].concat()),
    };
    faults.add(&at.path, refused);
    None
}

fn span(at: &At<'_>, least: u64) -> Result<u64, FieldError> {
    if at.value.is_number() {
        return Err(at.fault("must be a text with its unit, like \"30s\""));
    }
    let span: Span = at.word(64)?.parse().map_err(|why: String| at.fault(why))?;
    let millis = u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    if (least..=limits::CHECK_LONGEST_MS).contains(&millis) {
        return Ok(millis);
    }
    Err(at.fault(format!("must be from {}s to 24h", least / 1000)))
}

fn retries(at: &At<'_>) -> Result<u32, FieldError> {
    at.whole(1, limits::CHECK_RETRIES.into()).map(|retries| u32::try_from(retries).expect("fits, because it was bounded"))
}
