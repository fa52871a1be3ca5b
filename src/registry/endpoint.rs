//! Where a registry's host name leads, and how much TLS it is asked for: as the engine does it
//! (moby `registry/config.go`, `registry/service_v2.go`), because the engine is what pushes there.

use std::net::IpAddr;
use std::path::Path;

/// Docker Hub's name in image references, and the host that serves it.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Extra certificate authorities of a registry, in a folder named after its host, as the engine reads them.
const CERTIFICATES: &str = "/etc/docker/certs.d";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// The host that is connected to for a registry's name.
pub(super) fn server(host: &str) -> &str {
    if host == HUB.0 { HUB.1 } else { host }
}

/// The name without its port.
pub(super) fn name_of(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or(bracketed);
    }
    host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name)
}

pub(super) fn is_loopback(host: &str) -> bool {
    let name = name_of(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the registry is one whose certificate is not verified: this machine's, or listed as a host or a network.
pub(super) fn is_insecure(host: &str, listed: &[String]) -> bool {
    let name = name_of(host);
    let ip = name.parse::<IpAddr>().ok();
    is_loopback(host) || listed.iter().any(|entry| entry == host || entry == name || ip.is_some_and(|ip| in_network(ip, entry)))
}

/// In the order in which they are tried. This machine's registries mostly speak plain HTTP, and a TLS greeting can hang such a server.
pub(super) fn schemes(host: &str, insecure: bool) -> &'static [Scheme] {
    match (insecure, is_loopback(host)) {
        (false, _) => &[Scheme::Https],
        (true, true) => &[Scheme::Http, Scheme::Https],
        (true, false) => &[Scheme::Https, Scheme::Http],
    }
}

fn in_network(ip: IpAddr, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let same = |a: u128, b: u128, width: u32| bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0);
    match (ip, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => bits > 0 && same(a.into(), b.into(), 128) || bits == 0,
        _ => false,
    }
}

/// The registry's own certificate authorities, as the engine's operator has put them there.
pub(super) fn authorities(host: &str) -> Vec<reqwest::Certificate> {
    // The host is a folder's name here; an image reference cannot hold a slash in it, but nothing else may either.
    if host.contains(['/', '\\']) || host.starts_with('.') {
        return Vec::new();
    }
    let Ok(folder) = std::fs::read_dir(Path::new(CERTIFICATES).join(host)) else { return Vec::new() };
    let files = folder.filter_map(Result::ok).map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files
        .filter_map(|path| std::fs::read(path).ok())
        .filter_map(|pem| reqwest::Certificate::from_pem_bundle(&pem).ok())
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_registries_are_insecure() {
        let listed: Vec<String> = ["10.1.0.0/16", "r.example:5000", "plain.example", "fd00::/8"].map(Into::into).into();
        for host in [
            "127.0.0.1:5000",
            "localhost",
            "[::1]:5000",
            "127.9.9.9",
            "10.1.2.3:5000",
            "r.example:5000",
            "plain.example:80",
            "[fd01::1]:1",
        ] {
            assert!(is_insecure(host, &listed), "{host}");
        }
        for host in
            ["docker.io", "10.2.0.1", "r.example", "r.example:5001", "localhost.example", "[fe80::1]", "127.0.0.1.example"]
        {
            assert!(!is_insecure(host, &listed), "{host}");
        }
    }

    #[test]
    fn plain_http_is_only_for_the_insecure() {
        assert_eq!(schemes("r.example", false), [Scheme::Https]);
        assert_eq!(schemes("r.example", true), [Scheme::Https, Scheme::Http]);
        assert_eq!(schemes("127.0.0.1:5000", true), [Scheme::Http, Scheme::Https]);
    }

    #[test]
    fn names_and_servers() {
        assert_eq!([server("docker.io"), server("r.example:5000")], ["registry-1.docker.io", "r.example:5000"]);
        assert_eq!([name_of("h:1"), name_of("h"), name_of("[::1]:5000"), name_of("[::1]")], ["h", "h", "::1", "::1"]);
    }
}
