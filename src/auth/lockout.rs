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
    keys: Vec<String>,
}

/// # Errors
/// [`Error::TooMany`] with the time to wait, when too many have failed.
pub async fn begin(store: &Store, name: &str, address: IpAddr) -> Result<Attempt> {
    let place = place(address);
    let own = key(&["login", name, &place]);
    let shared = key(&["login-from", &place]);
    count(store, &own, FREE).await?;
    count(store, &shared, FREE_OF_ADDRESS).await?;
    Ok(Attempt { keys: vec![own, shared] })
}

/// The password was right: the name's failures at this address are forgotten, and this attempt was none of the address's.
///
/// # Errors
/// When the store cannot be asked.
pub async fn succeeded(store: &Store, attempt: Attempt) -> Result<()> {
    let writes: Vec<Write> = attempt.keys.into_iter().map(|key| Write::remove(Kind::Lockout, key, Expect::Anything)).collect();
    Ok(store.commit(&writes).await?)
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

async fn count(store: &Store, key: &str, free: u32) -> Result<()> {
    let nobody: Owner = "system".parse().expect("valid, because it is a constant of that form");
    for _ in 0..TRIES {
        let known = store.object::<Failures>(&Scope::All, Kind::Lockout, key).await?;
        let (failures, expect) = match known {
            Some(object) => (object.body, Expect::Revision(object.revision)),
            None => (Failures::default(), Expect::Absent),
        };
        let now = Timestamp::now();
        if let Some(until) = failures.until.filter(|until| *until > now) {
            return Err(Error::TooMany {
                code: "locked_out",
                detail: "too many attempts to log in have failed".into(),
                retry_after: until.since(now),
            });
        }
        let count = failures.count.saturating_add(1);
        let next = Failures { count, until: penalty(count, free).map(|penalty| now.plus(penalty)) };
        let write = Write::put(Kind::Lockout, key, &nobody, expect, &next).keep(REMEMBERED);
        match store.commit(&[write]).await {
            Err(StoreError::Conflict) => {}
            other => return Ok(other?),
        }
    }
    Err(Error::TooMany {
        code: "locked_out",
        detail: "too many attempts to log in at once".into(),
        retry_after: Duration::from_secs(1),
    })
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
