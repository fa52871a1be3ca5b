//! Where requests on behalf of users may go: not to this machine, not to its neighbours, not to a cloud's metadata service.
//!
//! A name is resolved once, every address that it has is looked at, and the caller connects to those addresses and no others: a name
//! that changes meanwhile (DNS rebinding) changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// An exception that an operator makes: a host by its name, an address, or a network.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub enum Outlet {
    /// In lower case.
    Host(String),
    Network(ipnet::IpNet),
}

impl std::str::FromStr for Outlet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if plain { Ok(Self::Host(text.to_ascii_lowercase())) } else { Err(format!("{text:?} is no host, address or network")) }
    }
}

impl TryFrom<String> for Outlet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Outlet> for String {
    fn from(outlet: Outlet) -> Self {
        match outlet {
            Outlet::Host(name) => name,
            Outlet::Network(network) => network.to_string(),
        }
    }
}

/// Why a host is not gone to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{host} is an address of this machine's surroundings ({address}), where requests of users do not go")]
    Inside { host: String, address: IpAddr },
    #[error("{host} cannot be resolved: {why}")]
    Unresolved { host: String, why: String },
}

/// The rule, with the operator's exceptions.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    allowed: Vec<Outlet>,
    /// Whether the surroundings are open too.
    near: bool,
}

impl Egress {
    #[must_use]
    pub const fn new(allowed: Vec<Outlet>) -> Self {
        Self { allowed, near: false }
    }

    /// Everywhere but to link-local addresses, where clouds have their metadata service.
    #[must_use]
    pub const fn near() -> Self {
        Self { allowed: Vec::new(), near: true }
    }

    /// The addresses to connect to, of a host name or an address (IPv6 with or without its brackets).
    ///
    /// # Errors
    /// [`Refused`] when it has no address, or any that is not to be gone to.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let unresolved = |why: String| Refused::Unresolved { host: host.to_owned(), why };
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => tokio::net::lookup_host((host, port)).await.map_err(|e| unresolved(e.to_string()))?.collect(),
        };
        if found.is_empty() {
            return Err(unresolved("it has no address".into()));
        }
        found.iter().try_for_each(|address| self.check(host, address.ip()))?;
        Ok(found)
    }

    /// Looks at one address of a host.
    ///
    /// # Errors
    /// [`Refused::Inside`].
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let canonical = address.to_canonical();
        let open = if self.near { !is_link_local(canonical) } else { is_public(canonical) };
        let inside = || Refused::Inside { host: host.to_owned(), address };
        (open || self.excepts(host, address)).then_some(()).ok_or_else(inside)
    }

    /// Whether the operator has made an exception for this address of a host.
    #[must_use]
    pub fn excepts(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|outlet| match outlet {
            Outlet::Host(name) => name.eq_ignore_ascii_case(host),
            Outlet::Network(network) => network.contains(&address),
        })
    }
}

/// Also the metadata service's IPv6 address at AWS, which is a unique local one.
fn is_link_local(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

/// By the IANA registries of special-purpose addresses (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation();
    // "This network", carriers' NAT, protocol assignments, benchmarks, reserved.
    let reserved = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special && !reserved
}

/// Global unicast (2000::/3) without documentation, and without forms that carry an IPv4 address of whatever kind.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let global = first & 0xe000 == 0x2000;
    let documentation = (first, second) == (0x2001, 0xdb8);
    let (teredo, six_to_four) = ((first, second) == (0x2001, 0), first == 0x2002);
    global && !documentation && !teredo && !six_to_four
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn surroundings_are_refused_in_every_spelling() {
        let egress = Egress::default();
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "[::1]",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "localhost",
        ] {
            let refused = egress.resolve(host, 80).await;
            assert!(matches!(refused, Err(Refused::Inside { .. })), "{host}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn registries_may_be_near_but_no_metadata_service_is_one() {
        for host in ["127.0.0.1", "10.0.0.1", "fd00::1", "1.1.1.1"] {
            assert!(Egress::near().resolve(host, 443).await.is_ok(), "{host}");
        }
        for host in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(Egress::near().resolve(host, 80).await.is_err(), "{host}");
        }
    }

    #[tokio::test]
    async fn the_rest_of_the_world_is_open_and_exceptions_hold() {
        for host in ["1.1.1.1", "192.0.1.1", "100.128.0.1", "2606:4700::1111", "[2606:4700::1111]"] {
            let found = Egress::default().resolve(host, 443).await.expect("public");
            assert_eq!(found[0].port(), 443);
        }
        let allowed = |text: &str| Egress::new(vec![text.parse().expect("an outlet")]);
        assert!(allowed("localhost").resolve("LocalHost", 1).await.is_ok());
        assert!(allowed("127.0.0.0/8").resolve("127.0.0.1", 1).await.is_ok());
        assert!(allowed("127.0.0.1").resolve("::ffff:127.0.0.1", 1).await.is_ok());
        assert!(allowed("10.0.0.0/8").resolve("127.0.0.1", 1).await.is_err());
        assert!(allowed("localhost").resolve("127.0.0.1", 1).await.is_err(), "a name excepts that name alone");
        assert!("a b".parse::<Outlet>().is_err());
    }
}
