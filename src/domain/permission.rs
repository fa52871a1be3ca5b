use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a token may be used for. The names are those of the contract (`builds:read` …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Permission {
    BuildsRead,
    BuildsWrite,
    AppsRead,
    AppsWrite,
    /// Accounts, the audit, and other owners' objects; only an admin's token can have it.
    Admin,
}

impl Permission {
    pub const ALL: [Self; 5] = [Self::BuildsRead, Self::BuildsWrite, Self::AppsRead, Self::AppsWrite, Self::Admin];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuildsRead => "builds:read",
            Self::BuildsWrite => "builds:write",
            Self::AppsRead => "apps:read",
            Self::AppsWrite => "apps:write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|permission| permission.as_str()).collect();
            format!("{text:?} is no scope; scopes are: {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Permission {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.as_str().to_owned()
    }
}

/// A set of [`Permission`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Everything that an account of this role can be allowed.
    #[must_use]
    pub fn of_role(role: super::Role) -> Self {
        Permission::ALL.into_iter().filter(|p| role == super::Role::Admin || *p != Permission::Admin).collect()
    }

    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    pub fn iter(&self) -> impl Iterator<Item = Permission> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

/// Destinations that a token is limited to: `host/path`, in which a last `*` stands for any rest, tag included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePattern(String);

impl ImagePattern {
    /// Whether an image of this normalised repository is meant.
    #[must_use]
    pub fn matches(&self, image: &super::ImageRef) -> bool {
        match self.0.strip_suffix('*') {
            Some(head) => image.to_string().starts_with(head),
            None => image.repository() == self.0,
        }
    }

    /// Whether every image that is meant is also meant by `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self == other || other.0.strip_suffix('*').is_some_and(|head| self.0.starts_with(head))
    }
}

impl FromStr for ImagePattern {
    type Err = String;

    /// Normalised as Docker does a reference: `team/*` is `docker.io/team/*`.
    fn from_str(text: &str) -> Result<Self, String> {
        let told = |why: &str| format!("{text:?} is not HOST/PATH or HOST/PATH/*: {why}");
        // Only a whole last part can be left open, so that `team/*` never means `teammates/x`.
        let (path, open) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(told("a * can only stand for everything behind a /"));
        }
        if open && !path.contains('/') && (path.contains(['.', ':']) || path == "localhost") {
            // A whole registry. Its name is checked by a reference into it.
            let sample: super::ImageRef =
                format!("{path}/x").parse().map_err(|e: super::InvalidImageRef| told(&e.to_string()))?;
            return Ok(Self(format!("{}/*", sample.host())));
        }
        // An open path is checked by an image in it, for `team/*` is a folder of docker.io and not its library's `team`.
        let sample = if open { format!("{path}/x") } else { path.to_owned() };
        let image: super::ImageRef = sample.parse().map_err(|e: super::InvalidImageRef| told(&e.to_string()))?;
        if text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(told("a tag cannot be named"));
        }
        let repository = image.repository();
        Ok(Self(if open { format!("{}*", repository.trim_end_matches('x')) } else { repository }))
    }
}

impl TryFrom<String> for ImagePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ImagePattern> for String {
    fn from(pattern: ImagePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_whole_parts_of_a_path() {
        let matches = |pattern: &str, image: &str| {
            pattern.parse::<ImagePattern>().expect("a pattern").matches(&image.parse().expect("an image"))
        };
        assert!(matches("127.0.0.1:5000/team/*", "127.0.0.1:5000/team/app:1"));
        assert!(matches("127.0.0.1:5000/team/*", "127.0.0.1:5000/team/deep/app"));
        assert!(!matches("127.0.0.1:5000/team/*", "127.0.0.1:5000/teammates/app"));
        assert!(!matches("127.0.0.1:5000/team/*", "127.0.0.1:5001/team/app"));
        assert!(matches("127.0.0.1:5000/*", "127.0.0.1:5000/any/app"));
        assert!(matches("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app:7"));
        assert!(!matches("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app2"));
        assert!(matches("team/*", "docker.io/team/app"));
        assert!(!matches("team/*", "docker.io/library/team"));
        for bad in ["", "*", "team*", "127.0.0.1:5000/te*m/x", "127.0.0.1:5000/team/app:1", "x/Upper/*"] {
            assert!(bad.parse::<ImagePattern>().is_err(), "{bad}");
        }
        for (inner, outer, within) in [
            ("h:1/team/app", "h:1/team/*", true),
            ("h:1/team/deep/*", "h:1/team/*", true),
            ("h:1/team/*", "h:1/*", true),
            ("h:1/team/*", "h:1/team/*", true),
            ("h:1/team/*", "h:1/team/app", false),
            ("h:1/*", "h:1/team/*", false),
            ("h:1/team", "h:1/team/*", false),
            ("h:1/teammates/*", "h:1/team/*", false),
        ] {
            let pattern = |text: &str| text.parse::<ImagePattern>().expect("a pattern");
            assert_eq!(pattern(inner).is_within(&pattern(outer)), within, "{inner} {outer}");
        }
        let stored = serde_json::to_string(&"team/*".parse::<ImagePattern>().expect("a pattern")).expect("serialises");
        assert_eq!(serde_json::from_str::<ImagePattern>(&stored).expect("parses"), "team/*".parse().expect("a pattern"));
    }
}
