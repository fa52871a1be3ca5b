//! A small body that describes no container: some texts, each by its field.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::fields::{At, Faults, Fields};
use super::json::object;
use crate::error::Result;

/// Longest text, in bytes: room for an image's name.
const LONGEST: usize = 512;

/// The fields of a body, and all that is wrong with them.
pub struct Form {
    map: Map<String, Value>,
    faults: Faults,
}

impl Form {
    /// Reads a JSON object with these fields and no others; no body at all is one without fields.
    ///
    /// # Errors
    /// `invalid_json` when it is none.
    pub fn of(bytes: &[u8], known: &'static [&'static str]) -> Result<Self> {
        let map = if bytes.is_empty() { Map::new() } else { object(bytes)? };
        let mut faults = Faults::default();
        Fields::open("", &map, known, &mut faults);
        Ok(Self { map, faults })
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field that may be absent.
    pub fn text<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let at = At { path: name.to_owned(), value: self.map.get(name).filter(|value| !value.is_null())? };
        let read = at.word(LONGEST).and_then(|text| text.parse().map_err(|why: T::Err| at.fault(why.to_string())));
        self.faults.take(read)
    }

    /// A field that must be there.
    pub fn needed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.faults.add(name, "is missing");
        }
        self.text(name)
    }

    /// What is wrong with several fields together.
    pub fn fault(&mut self, name: &str, why: &str) {
        self.faults.add(name, why);
    }

    /// What was read of it, when nothing is wrong.
    ///
    /// # Errors
    /// `invalid_spec` with every fault by its field.
    pub fn end<T>(self, read: Option<T>) -> Result<T> {
        self.faults.done()?;
        Ok(read.expect("read, because what is missing or wrong is a fault"))
    }
}
