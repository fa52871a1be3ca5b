//! Amounts as people write them: `512m`, `1.5`, `15m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes; `k`, `m`, `g`, `t` (also `kb`, `kib`, …) are powers of 1024, as in Docker's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// Thousandths of a CPU, written as a decimal number: `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpus(pub u64);

/// A span of time: `90s`, `15m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no amount of bytes; write for example 512m or 2g");
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let shift = match &lower[digits..] {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = lower[..digits].parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no number of CPUs; write for example 2 or 1.5");
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 3 || !plain(whole) || !plain(fraction) {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        whole.checked_mul(1000).and_then(|w| w.checked_add(thousandths)).filter(|&n| n > 0).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text.trim())
            .map(Self)
            .map_err(|_| format!("{text:?} is no span of time; write for example 90s or 15m"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "t"), (30, "g"), (20, "m"), (10, "k")] {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            rest => write!(f, "{}.{}", self.0 / 1000, format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Bytes, Cpus, Span);

/// A number of bytes for people, in powers of 1000: `12.3 MB`.
#[must_use]
pub fn readable(bytes: u64) -> String {
    let units = ["kB", "MB", "GB"];
    let mut tenths = bytes / 100;
    for unit in &units[..2] {
        if tenths < 10_000 {
            return if bytes < 1000 { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) };
        }
        tenths /= 1000;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_docker_reads_them() {
        for (text, bytes) in [("0", 0), ("17", 17), ("512m", 512 << 20), ("2G", 2 << 30), ("1kib", 1024)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for (text, cpus) in [("1", 1000), ("1.5", 1500), ("0.25", 250)] {
            assert_eq!(text.parse(), Ok(Cpus(cpus)));
            assert_eq!(Cpus(cpus).to_string(), text);
        }
        for bad in ["", "x", "-1m", "1.5g", "99999999999t"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad:?}");
        }
        for bad in ["", "0", ".5", "-1", "1e3", "1.0001", "NaN"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad:?}");
        }
        assert_eq!("15m".parse(), Ok(Span(Duration::from_secs(900))));
        assert_eq!(Bytes(3 << 20).to_string(), "3m");
    }

    #[test]
    fn sizes_are_for_people() {
        let shown: Vec<String> = [999, 1000, 12_345, 999_999, 1_000_000, 5_250_000_000].map(readable).into();
        assert_eq!(shown, ["999 B", "1.0 kB", "12.3 kB", "999.9 kB", "1.0 MB", "5.2 GB"]);
    }
}
