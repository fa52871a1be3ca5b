use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

impl BuildId {
    /// When the id was made, as a UUIDv7 says itself; the epoch for other UUIDs.
    #[must_use]
    pub fn made_at(self) -> super::Timestamp {
        let millis = self.0.get_timestamp().map_or(0, |at| {
            let (seconds, nanos) = at.to_unix();
            i64::try_from(seconds).unwrap_or(i64::MAX / 1000) * 1000 + i64::from(nanos / 1_000_000)
        });
        super::Timestamp::from_millis(millis)
    }
}

/// Text that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

impl InvalidId {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        // A foreign text is quoted back to the caller: keep it short.
        Self { text: text.chars().take(80).collect(), expected }
    }
}

/// A content digest, `sha256:` and 64 lower-case hexadecimal digits (OCI image specification, "Digests").
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new(text, "a sha256 digest"))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a claim: it grows by one each time a build is claimed, and every write of a worker carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            #[must_use]
            #[allow(clippy::new_without_default, reason = "every call makes another id")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts only the canonical form: 36 characters, lower case, hyphenated.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = Uuid::try_parse(text).ok().map(Self).filter(|id| id.to_string() == text);
                id.ok_or_else(|| InvalidId::new(text, $expected))
            }
        }
    };
}

uuid_id! {
    /// The id of a build: a UUIDv7, so that ids sort by the time of their making.
    BuildId, "a build id (a UUID in lower case, with hyphens)"
}
uuid_id! {
    /// The id of a manifest, by which a context is sent in pieces.
    ManifestId, "a manifest's id (a UUID in lower case, with hyphens)"
}
uuid_id! {
    /// The id of an account, which no later account of the same name has. It is shown to nobody.
    AccountId, "an account's id (a UUID in lower case, with hyphens)"
}
uuid_id! {
    /// The id of an app.
    AppId, "an app's id (a UUID in lower case, with hyphens)"
}
uuid_id! {
    /// The id of a run, and of the container that it makes.
    RunId, "a run's id (a UUID in lower case, with hyphens)"
}

uuid_id! {
    /// The id of a webhook.
    WebhookId, "a webhook's id (a UUID in lower case, with hyphens)"
}
uuid_id! {
    /// The id of what is told to a webhook, by which a receiver drops what it has had already.
    DeliveryId, "a delivery's id (a UUID in lower case, with hyphens)"
}

impl DeliveryId {
    /// The one id under which a webhook is told of a build's end, however often that is begun.
    #[must_use]
    pub fn of_end(webhook: WebhookId, build: BuildId) -> Self {
        let hash = Sha256::new_with_prefix(webhook.0.as_bytes()).chain_update(build.0.as_bytes()).finalize();
        let mut bits = [0; 10];
        bits.copy_from_slice(&hash[..10]);
        let millis = u64::try_from(build.made_at().as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
    }
}

/// What one request makes may be known by one id: a repeated request then makes the same thing.
macro_rules! from_build_id {
    ($($name:ident),*) => {
        $(impl From<BuildId> for $name {
            fn from(id: BuildId) -> Self {
                Self(id.0)
            }
        })*
    };
}
from_build_id!(AppId, RunId, WebhookId, DeliveryId);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            #[must_use]
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// An engine, by the id that it gives itself: images live on the node that built them.
    NodeId
}
name! {
    /// One run of one worker process; new at each start.
    WorkerId
}

impl WorkerId {
    /// A name that no other worker has had or will have.
    #[must_use]
    pub fn unique() -> Self {
        Self(format!("w-{}", Uuid::now_v7().simple()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = BuildId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in
            [id.to_string().to_uppercase(), format!("{{{id}}}"), id.to_string().replace('-', ""), "x".into(), String::new()]
        {
            assert!(bad.parse::<BuildId>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn digests_are_checked() {
        assert!(format!("sha256:{}", "a".repeat(64)).parse::<Digest>().is_ok());
        for bad in ["", "sha256:", "sha512:aa", &format!("sha256:{}", "A".repeat(64)), &format!("sha256:{}", "a".repeat(63))] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} must be refused");
        }
    }
}
