//! Query parameters, read by hand so that every fault is told in our own form and an unknown one is not passed over.

use std::str::FromStr;

use axum::http::Uri;

use crate::domain::{BuildId, Owner, limits};
use crate::error::{Error, FieldError, Result};

/// The parameters of one request.
pub struct Query {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldError>,
}

impl Query {
    /// Takes the parameters apart; those that are not in `known` are refused at [`Query::end`].
    #[must_use]
    pub fn of(uri: &Uri, known: &[&str]) -> Self {
        Self::with_many(uri, known, &[])
    }

    /// The same; of these `known` ones each may be given often.
    #[must_use]
    pub fn with_many(uri: &Uri, known: &[&str], many: &[&str]) -> Self {
        let pairs: Vec<(String, String)> = form(uri.query().unwrap_or_default());
        let mut faults: Vec<FieldError> = Vec::new();
        for (at, (name, _)) in pairs.iter().enumerate() {
            let earlier = pairs[..at].iter().filter(|(n, _)| n == name).count();
            match (known.contains(&name.as_str()), earlier) {
                (true, 0) => {}
                (true, _) if many.contains(&name.as_str()) => {}
                (true, 1) => faults.push(FieldError::new(name.clone(), "may be given only once")),
                (false, 0) => {
                    let why = format!("is not known here; known are: {}", known.join(", "));
                    faults.push(FieldError::new(name.chars().take(80).collect::<String>(), why));
                }
                _ => {}
            }
        }
        Self { pairs, faults }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    pub fn read<T>(&mut self, name: &str, read: impl FnOnce(&str) -> std::result::Result<T, String>) -> Option<T> {
        match read(self.text(name)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.faults.push(FieldError::new(name, why));
                None
            }
        }
    }

    pub fn parse<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.read(name, |text| text.parse().map_err(|_| format!("{text:?} is not {expected}")))
    }

    pub fn flag(&mut self, name: &str) -> bool {
        self.parse(name, "true or false").unwrap_or(false)
    }

    pub fn number(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.read(name, |text| {
            let told = || format!("{text:?} must be a whole number from {} to {}", range.start(), range.end());
            text.parse().ok().filter(|n| range.contains(n)).ok_or_else(told)
        })
    }

    /// `?limit=`, 1–200, 50 if absent.
    pub fn limit(&mut self) -> usize {
        let limit = self.number("limit", 1..=limits::PAGE as u64);
        limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(limits::PAGE_DEFAULT)
    }

    /// `?cursor=`: opaque to clients; it is the id of the last item they saw.
    pub fn cursor(&mut self) -> Option<BuildId> {
        self.read("cursor", |text| {
            text.parse().map_err(|_| "is not a cursor of this list; take the next_cursor of an answer".into())
        })
    }

    /// `?cursor=` of lists in the order of making.
    pub fn order(&mut self) -> Option<u64> {
        self.parse("cursor", "a cursor of this list; take the next_cursor of an answer")
    }

    /// `?owner=`
    pub fn owner(&mut self) -> Option<Owner> {
        self.read("owner", |text| text.parse::<Owner>().map_err(|e| e.to_string()))
    }

    /// # Errors
    /// With all faults together.
    pub fn end(self) -> Result<()> {
        if self.faults.is_empty() { Ok(()) } else { Err(Error::Invalid { code: "invalid_query", fields: self.faults }) }
    }
}

/// `application/x-www-form-urlencoded`.
fn form(query: &str) -> Vec<(String, String)> {
    serde_urlencoded::from_str(query).unwrap_or_default()
}

/// # Errors
/// `invalid_id` when the text is no id.
pub fn build_id(text: &str) -> Result<BuildId> {
    text.parse().map_err(|e: crate::domain::InvalidId| Error::invalid("invalid_id", "id", e.to_string()))
}
