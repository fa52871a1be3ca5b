//! The input as places with a path, each read into a checked value or told as a fault.

use serde_json::{Map, Value};

use super::names;
use crate::domain::limits;
use crate::error::{Error, FieldError, Result};

/// Most faults that one answer tells.
const FAULTS: usize = 50;

/// Collects faults, so that all are told together.
#[derive(Default)]
pub struct Faults {
    told: Vec<FieldError>,
    untold: usize,
}

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.told.len() < FAULTS {
            self.told.push(FieldError::new(field, message));
        } else {
            self.untold += 1;
        }
    }

    /// The value, or nothing when it was a fault.
    pub fn take<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|fault| self.add(fault.field, fault.message)).ok()
    }

    /// # Errors
    /// `invalid_spec`, when there was any fault.
    pub fn done(mut self) -> Result<()> {
        if self.told.is_empty() {
            return Ok(());
        }
        if self.untold > 0 {
            self.told.push(FieldError::new("body", format!("and {} faults more", self.untold)));
        }
        Err(Error::Invalid { code: "invalid_spec", fields: self.told })
    }
}

/// A key as it is shown: short, and without anything that a terminal obeys.
pub fn shown(key: &str) -> String {
    key.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The path of a key inside `path`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) }
}

/// One value of the input and where it stands.
pub struct At<'a> {
    pub path: String,
    pub value: &'a Value,
}

impl<'a> At<'a> {
    pub fn fault(&self, message: impl Into<String>) -> FieldError {
        FieldError::new(&self.path, message)
    }

    /// A text without NUL, which no path, argument or variable can hold, of at most so many bytes.
    pub fn text(&self, most: usize) -> Result<&'a str, FieldError> {
        let text = match self.value {
            Value::String(text) => text,
            // Never quoted: it may be a secret.
            Value::Number(_) | Value::Bool(_) => return Err(self.fault("must be a text: put it in quotation marks")),
            _ => return Err(self.fault("must be a text")),
        };
        if text.len() > most {
            return Err(self.fault(format!("has {} bytes; the most is {most}", text.len())));
        }
        if text.contains('\0') { Err(self.fault("has a NUL byte in it")) } else { Ok(text) }
    }

    /// As [`At::text`], and not empty.
    pub fn word(&self, most: usize) -> Result<&'a str, FieldError> {
        match self.text(most)? {
            "" => Err(self.fault("is empty")),
            text => Ok(text),
        }
    }

    pub fn flag(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.fault("must be true or false"))
    }

    /// A whole number of these bounds.
    pub fn whole(&self, least: u64, most: u64) -> Result<u64, FieldError> {
        let number = self.value.as_u64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.fault(format!("must be a whole number from {least} to {most}")))
    }

    /// The items of a list of at most so many.
    pub fn list(&self, most: usize) -> Result<Vec<At<'a>>, FieldError> {
        let Value::Array(items) = self.value else { return Err(self.fault("must be a list")) };
        if items.len() > most {
            return Err(self.fault(format!("has {} items; the most is {most}", items.len())));
        }
        Ok(items.iter().enumerate().map(|(i, value)| At { path: format!("{}[{i}]", self.path), value }).collect())
    }

    /// The entries of an object with free keys, at most so many.
    pub fn entries(&self, most: usize) -> Result<Vec<(&'a str, At<'a>)>, FieldError> {
        let Value::Object(map) = self.value else {
            return Err(self.fault("must be an object: {\"NAME\": \"value\"}"));
        };
        if map.len() > most {
            return Err(self.fault(format!("has {} entries; the most is {most}", map.len())));
        }
        Ok(map.iter().map(|(key, value)| (key.as_str(), At { path: join(&self.path, key), value })).collect())
    }

    /// An object with these fields and no others; `form` shows one.
    pub fn fields(&self, known: &'static [&'static str], form: &str, faults: &mut Faults) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(map) => Some(Fields::open(&self.path, map, known, faults)),
            _ => {
                faults.add(&self.path, format!("must be an object: {form}"));
                None
            }
        }
    }

    /// The texts of a list: the arguments of a command.
    pub fn arguments(&self, faults: &mut Faults) -> Vec<String> {
        if self.value.is_string() {
            faults.add(&self.path, "must be a list of texts: [\"sh\", \"-c\", \"…\"]");
            return Vec::new();
        }
        let items = faults.take(self.list(limits::COMMAND_ITEMS)).unwrap_or_default();
        items.iter().filter_map(|item| faults.take(item.text(limits::COMMAND_ITEM_BYTES)).map(str::to_owned)).collect()
    }
}

/// An object whose fields are known.
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Tells every field that is not known.
    pub fn open(path: &str, map: &'a Map<String, Value>, known: &'static [&'static str], faults: &mut Faults) -> Self {
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            faults.add(join(path, key), names::refusal(key, known));
        }
        Self { path: path.to_owned(), map }
    }

    /// A field that was given; `null` is as absent.
    pub fn get(&self, name: &str) -> Option<At<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(At { path: self.path_of(name), value })
    }

    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// What `read` makes of a field that was given; nothing when it is absent or a fault.
    pub fn read<T>(&self, name: &str, faults: &mut Faults, read: impl FnOnce(&At<'a>) -> Result<T, FieldError>) -> Option<T> {
        faults.take(read(&self.get(name)?))
    }

    /// As [`Fields::read`]; that it is absent is a fault too.
    pub fn needed<T>(&self, name: &str, faults: &mut Faults, read: impl FnOnce(&At<'a>) -> Result<T, FieldError>) -> Option<T> {
        let Some(at) = self.get(name) else {
            faults.add(self.path_of(name), "is missing");
            return None;
        };
        faults.take(read(&at))
    }
}
