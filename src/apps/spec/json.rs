//! A body's bytes as a JSON object. What two readers could understand differently (a key twice) is refused.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Number, Value};

use super::fields::join;
use crate::domain::limits;
use crate::error::{Error, FieldError, Result};

/// Reads one JSON object.
///
/// # Errors
/// [`Error::Invalid`] `invalid_json` when it is none, is nested deeper than [`limits::JSON_DEPTH`], or holds a key twice, at any
/// depth.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>> {
    let fault = RefCell::new(None);
    let mut reader = Deserializer::from_slice(bytes);
    let read = Place { path: String::new(), depth: 1, fault: &fault }.deserialize(&mut reader);
    match read.and_then(|value| reader.end().map(|()| value)) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::invalid("invalid_json", "body", "must be an object")),
        Err(error) => {
            let field = fault.into_inner().unwrap_or_else(|| FieldError::new("body", error.to_string()));
            Err(Error::Invalid { code: "invalid_json", fields: vec![field] })
        }
    }
}

/// One value that is to be read, and where it stands.
struct Place<'a> {
    path: String,
    depth: usize,
    /// What is wrong, when it is more than the grammar.
    fault: &'a RefCell<Option<FieldError>>,
}

impl Place<'_> {
    fn refused<E: serde::de::Error>(&self, path: &str, why: impl Into<String>) -> E {
        let field = if path.is_empty() { "body" } else { path };
        *self.fault.borrow_mut() = Some(FieldError::new(field, why));
        E::custom("refused")
    }

    fn deep_enough<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth <= limits::JSON_DEPTH {
            return Ok(());
        }
        Err(self.refused(&self.path, format!("is nested deeper than {} levels", limits::JSON_DEPTH)))
    }

    fn inner(&self, path: String) -> Self {
        Self { path, depth: self.depth + 1, fault: self.fault }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.deep_enough()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner(format!("{}[{}]", self.path, list.len())))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.deep_enough()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = join(&self.path, &key);
            if map.contains_key(&key) {
                return Err(self.refused(&path, "is given twice"));
            }
            let value = entries.next_value_seed(self.inner(path))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, String) {
        match object(text.as_bytes()) {
            Err(Error::Invalid { code: "invalid_json", fields }) => (fields[0].field.clone(), fields[0].message.clone()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn keys_stand_once_at_any_depth() {
        for (text, field) in [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"a": 1, "\u0061": 2}"#, "a"),
            (r#"{"env": {"A": "1", "A": {"secret": "x"}}}"#, "env.A"),
            (r#"{"ports": [{}, {"host": 1, "host": 2}]}"#, "ports[1].host"),
        ] {
            assert_eq!(refused(text), (field.to_owned(), "is given twice".to_owned()));
        }
    }

    #[test]
    fn only_a_shallow_object_is_read() {
        for text in
            ["", "null", "[]", "1", "\"x\"", "{", "{}x", "{} {}", "{\"a\": NaN}", "{\"a\": 1e999}", "\u{feff}{}", "{'a': 1}"]
        {
            assert_eq!(refused(text).0, "body", "{text}");
        }
        assert!(object(b"{\"a\": \"\xff\"}").is_err(), "no UTF-8");
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(object(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        assert!(refused(&nested(limits::JSON_DEPTH + 1)).1.contains("nested deeper than 16"));
        assert!(object(format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes()).is_err());
    }

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let text = r#"{"a": [1, -1, 1.5, true, null, "x\u0000y"], "b": {"c": 18446744073709551615}}"#;
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(Value::Object(object(text.as_bytes()).expect("an object")), expected);
    }
}
