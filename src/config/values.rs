//! The forms that single settings have.

use std::ops::RangeInclusive;

use anyhow::bail;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// An address, or a network like `10.0.0.0/8`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct Network(pub ipnet::IpNet);

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        address.or_else(|_| text.parse()).map(Self).map_err(|_| format!("{text:?} is no address and no network like 10.0.0.0/8"))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

/// Ports from the first to the last: `20000-29999`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// None when there is no port in it, or 0, which is none.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first > 0 && first <= last { Some(Self { first, last }) } else { None }
    }

    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.trim().parse().ok();
        let range = text.split_once('-').and_then(|(first, last)| Self::new(port(first)?, port(last)?));
        range.ok_or_else(|| format!("{text:?} is no range of ports; write for example 20000-29999"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        format!("{}-{}", range.first, range.last)
    }
}

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    Sqlite,
    /// May hold a password.
    Redis(SecretString),
}

pub(super) fn masked<S: serde::Serializer>(_: &Option<SecretString>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str("********")
}

pub(super) fn masked_url<S: serde::Serializer>(url: &StoreUrl, s: S) -> Result<S::Ok, S::Error> {
    match url {
        StoreUrl::Sqlite => s.serialize_str("sqlite"),
        StoreUrl::Redis(url) => s.serialize_str(&mask_password(url.expose_secret())),
    }
}

/// `redis://user:secret@host` → `redis://user:********@host`.
fn mask_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "********".into() };
    match rest.rsplit_once('@') {
        Some((login, host)) => format!("{scheme}://{}:********@{host}", login.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

pub(super) fn store_url(text: &str) -> anyhow::Result<StoreUrl> {
    match text {
        "sqlite" => Ok(StoreUrl::Sqlite),
        url if url.starts_with("redis://") || url.starts_with("rediss://") => {
            Ok(StoreUrl::Redis(SecretString::from(url.to_owned())))
        }
        _ => bail!("store: must be sqlite, or a URL that begins with redis:// or rediss://"),
    }
}
