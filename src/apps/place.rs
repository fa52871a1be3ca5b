use std::fmt;
use std::str::FromStr;

/// How far a reader of a run's log is, in each of the three that it is made of: none of them waits for the others, so that a time alone
/// would lose lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the last event of the run's own build.
    pub built: u64,
    /// Nanoseconds since the Unix epoch of the last of the service's own lines.
    pub noted: i64,
    /// The same of the last line of the container's output, by the engine's clock.
    pub put_out: i64,
}

impl Place {
    pub(super) fn built(built: u64) -> Self {
        Self { built, ..Self::default() }
    }

    pub(super) fn noted(noted: i64) -> Self {
        Self { noted, ..Self::default() }
    }

    pub(super) fn put_out(put_out: i64) -> Self {
        Self { put_out, ..Self::default() }
    }

    /// The farther one of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { built: self.built.max(other.built), noted: self.noted.max(other.noted), put_out: self.put_out.max(other.put_out) }
    }
}

/// `BUILT-NOTED-OUTPUT`; opaque to clients, who give it back as they got it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.built, self.noted, self.put_out)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let mut parts = text.split('-');
            let (built, noted, put_out) = (parts.next()?, parts.next()?, parts.next()?);
            parts.next().is_none().then_some(())?;
            Some(Self { built: built.parse().ok()?, noted: noted.parse().ok()?, put_out: put_out.parse().ok()? })
        };
        parse().ok_or_else(|| "is no place in this log; take the number of an event".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place { built: 3, noted: 5, put_out: 1_700_000_000_000_000_001 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1", "1-2", "1-2-3-4", "-1-2-3", "a-b-c", "1--2-3"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
