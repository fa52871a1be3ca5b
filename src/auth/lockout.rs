//! What slows down guessing: failures are counted by name and address together, and by address, and each one beyond the first
//! few doubles the time before the next attempt. Another address is not affected, so nobody can lock the right user out.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{Owner, Scope, Timestamp};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Write};
use crate::store::{Store, StoreError};

/// Failures that cost nothing: a name at one address, and all names at one address.
const FREE: u32 = 5;
const FREE_OF_ADDRESS: u32 = 20;
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten this long after the last one.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How often a count is tried again when another attempt was counted meanwhile.
const TRIES: usize = 200;

#[derive(Serialize, Deserialize, Default)]
struct Failures {
    count: u32,
    /// No attempt is looked at before.
    until: Option<Timestamp>,
}

/// An attempt to log in that was counted as failed before it was looked at, so that many at once are counted too.
pub struct Attempt {
    /// The name's failures at this address, and the address's.
    own: String,
    shared: String,
}

/// # Errors
/// [`Error::TooMany`] with the time to wait, when too many have failed. Nothing is counted, or kept, of an attempt that is not looked at.
pub async fn begin(store: &Store, name: &str, address: IpAddr) -> Result<Attempt> {
    let place = place(address);
    let attempt = Attempt { own: key(&["login", name, &place]), shared: key(&["login-from", &place]) };
    for _ in 0..TRIES {
        let counts = [(known(store, &attempt.own).await?, FREE), (known(store, &attempt.shared).await?, FREE_OF_ADDRESS)];
        let now = Timestamp::now();
        if let Some(until) = counts.iter().filter_map(|(known, _)| known.failures.until).max().filter(|until| *until > now) {
            return Err(locked_out("too many attempts to log in have failed", until.since(now)));
        }
        let writes = counts.map(|(known, free)| {
            let count = known.failures.count.saturating_add(1);
            known.write(Failures { count, until: penalty(count, free).map(|penalty| now.plus(penalty)) })
        });
        match store.commit(&writes).await {
            Err(StoreError::Conflict) => {}
            other => return Ok(other.map(|()| attempt)?),
        }
    }
    Err(locked_out("too many attempts to log in at once", Duration::from_secs(1)))
}

/// The password was right: the name's failures at this address are forgotten. The address's are not, but for this attempt, which
/// was none: whoever has an account cannot wipe out with it that the passwords of others were guessed at.
///
/// # Errors
/// When the store cannot be asked.
pub async fn succeeded(store: &Store, attempt: Attempt) -> Result<()> {
    for _ in 0..TRIES {
        let shared = known(store, &attempt.shared).await?;
        let count = shared.failures.count.saturating_sub(1);
        let less = match count {
            0 => Write::remove(Kind::Lockout, attempt.shared.as_str(), shared.expect),
            count => shared.write(Failures { count, until: None }),
        };
        match store.commit(&[Write::remove(Kind::Lockout, attempt.own.as_str(), Expect::Anything), less]).await {
            Err(StoreError::Conflict) => {}
            other => return Ok(other?),
        }
    }
    // So many log in here at this very moment that one too many is counted.
    Ok(())
}

fn locked_out(detail: &str, retry_after: Duration) -> Error {
    Error::TooMany { code: "locked_out", detail: detail.into(), retry_after }
}

/// A count as it is now.
struct Known {
    key: String,
    failures: Failures,
    expect: Expect,
}

impl Known {
    fn write(self, failures: Failures) -> Write {
        let nobody: Owner = "system".parse().expect("valid, because it is a constant of that form");
        Write::put(Kind::Lockout, self.key, &nobody, self.expect, &failures).keep(REMEMBERED)
    }
}

async fn known(store: &Store, key: &str) -> Result<Known> {
    let object = store.object::<Failures>(&Scope::All, Kind::Lockout, key).await?;
    let (failures, expect) =
        object.map_or((Failures::default(), Expect::Absent), |object| (object.body, Expect::Revision(object.revision)));
    Ok(Known { key: key.to_owned(), failures, expect })
}

/// Where somebody is: one address, or the network of 64 bits that an IPv6 user has for itself (RFC 6177).
fn place(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{:x?}", &v6.segments()[..4]),
    }
}

fn key(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\n").as_bytes()))
}

/// 1 s after the first failure that counts, then twice as long after each.
fn penalty(count: u32, free: u32) -> Option<Duration> {
    let beyond = count.checked_sub(free)?;
    Some(Duration::from_secs(1_u64 << beyond.min(20)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_and_has_an_end() {
        assert_eq!(penalty(4, FREE), None);
        assert_eq!(penalty(5, FREE), Some(Duration::from_secs(1)));
        assert_eq!(penalty(8, FREE), Some(Duration::from_secs(8)));
        assert_eq!(penalty(1000, FREE), Some(LONGEST));
    }

    #[test]
    fn neighbours_in_a_v6_network_are_one_place() {
        let at = |text: &str| place(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
