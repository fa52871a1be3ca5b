//! What a request comes from: the client's address behind proxies, the host it was sent to, and whether a page of another origin sent it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ipnet::IpNet;
use secrecy::SecretString;

use crate::auth::Presented;
use crate::error::{Error, Result};

/// The other end of the connection; put into each request by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The cookie of a session: with the prefix that binds it to one host over TLS (RFC 6265bis), and its plain name on loopback.
const COOKIE_TLS: &str = "__Host-dockwright";
const COOKIE_PLAIN: &str = "dockwright";

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What an operator says of the way to this service.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Proxies whose word about the client is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Names under which browsers may use sessions, besides `localhost` and addresses.
    pub public_hosts: Vec<String>,
    /// Whether this process itself speaks TLS.
    pub tls: bool,
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: IpAddr,
    /// Whether the client's own connection is encrypted.
    pub secure: bool,
    /// Whether the connection does not leave this machine.
    pub local: bool,
}

impl Guard {
    pub fn client(&self, request: &Request) -> Client {
        let peer =
            request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
        let headers = request.headers();
        if !self.trusts(peer) {
            return Client { address: peer, secure: self.tls, local: peer.is_loopback() };
        }
        let address = self.forwarded_for(headers).unwrap_or(peer);
        let secure = headers.get(FORWARDED_PROTO).map_or(self.tls, |proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        Client { address, secure, local: address.is_loopback() }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// The last address in the chain that no trusted proxy has: what stands before it, the client may have made up.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let chain: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
        let mut client = None;
        for hop in chain.iter().rev() {
            let address: IpAddr = hop.trim().parse().ok()?;
            client = Some(address.to_canonical());
            if !self.trusts(address) {
                break;
            }
        }
        client
    }

    /// Refuses a request with a session that a page of another origin may have sent, or that came under a foreign name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `host_not_allowed` or `foreign_origin`.
    pub fn check_browser(&self, request: &Request) -> Result<()> {
        let headers = request.headers();
        let host = host(request).ok_or_else(|| forbidden("host_not_allowed", "the request names no host".to_owned()))?;
        if !self.knows(&host) {
            let told = format!("sessions are not used under the name {host}; the operator can allow it with --public-host");
            return Err(forbidden("host_not_allowed", told));
        }
        let said = headers.contains_key(header::ORIGIN) || headers.get(FETCH_SITE).is_some_and(|site| site == "same-origin");
        if only_reads(request) || said { check_origin(request) } else { Err(foreign()) }
    }

    /// A name that a page elsewhere could point at this address (DNS rebinding) is not ours unless the operator says so.
    fn knows(&self, host: &str) -> bool {
        let name = host.parse::<axum::http::uri::Authority>().map_or_else(|_| host.to_owned(), |a| a.host().to_owned());
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok()
            || self.public_hosts.iter().any(|public| public.eq_ignore_ascii_case(bare))
    }
}

/// Refuses a change, or an upgrade to a socket, that a page of another origin sends. Browsers add a password that they were once
/// asked for to such a request by themselves, as they do with a cookie. Who sends no `Origin` is no browser.
///
/// # Errors
/// [`Error::Forbidden`] `foreign_origin`.
pub fn check_origin(request: &Request) -> Result<()> {
    let Some(origin) = request.headers().get(header::ORIGIN).filter(|_| !only_reads(request)) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let own = host(request).zip(authority).is_some_and(|(host, authority)| authority.eq_ignore_ascii_case(&host));
    if own { Ok(()) } else { Err(foreign()) }
}

fn foreign() -> Error {
    forbidden("foreign_origin", "changes are taken only from the service's own pages".to_owned())
}

/// A socket is no mere reading: its pages are not kept to their own origin by the browser.
fn only_reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && !request.headers().contains_key(header::UPGRADE)
}

fn forbidden(code: &'static str, detail: String) -> Error {
    Error::Forbidden { code, detail }
}

/// As the client wrote it, with the port.
fn host(request: &Request) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    header.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str)).map(str::to_owned)
}

/// What the request shows of who sends it. A header goes before a cookie, so that a page cannot be made to use another account.
pub fn presented(headers: &HeaderMap) -> Option<Presented> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return Some(Presented::Authorization(value.to_str().unwrap_or_default().into()));
    }
    cookie(headers).map(Presented::Cookie)
}

/// The value of the session's cookie.
pub fn cookie(headers: &HeaderMap) -> Option<SecretString> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let pairs: Vec<(&str, &str)> = pairs.filter_map(|pair| pair.trim().split_once('=')).collect();
    let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| SecretString::from((*value).to_owned()));
    find(COOKIE_TLS).or_else(|| find(COOKIE_PLAIN))
}

impl Client {
    /// `Set-Cookie` for a session; an empty value takes the cookie away.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `tls_needed` when the cookie would cross a network in the clear.
    pub fn set_cookie(&self, value: &str, seconds: u64) -> Result<HeaderValue> {
        let (name, secure) = match (self.secure, self.local) {
            (true, _) => (COOKIE_TLS, "; Secure"),
            (false, true) => (COOKIE_PLAIN, ""),
            (false, false) => {
                let told = "a session needs TLS unless the browser is on this machine: set --tls-cert and --tls-key, or put a \
                            trusted proxy with TLS before the service";
                return Err(forbidden("tls_needed", told.to_owned()));
            }
        };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&text).map_err(Error::internal)
    }
}

/// `Cache-Control` of an answer that holds a secret.
pub fn no_store() -> HeaderValue {
    HeaderValue::from_static("no-store")
}

/// The headers of every answer. Pages have scripts and styles of their own files alone.
pub fn harden(headers: &mut HeaderMap, secure: bool) {
    const CSP: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                       object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let set = [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: &str, peer: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Peer(SocketAddr::new(peer.parse().expect("an address"), 1)));
        request
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let guard = Guard { trusted_proxies: vec!["10.0.0.0/8".parse().expect("a net")], ..Guard::default() };
        let seen = |peer: &str, chain: &str| {
            let client = guard.client(&request("GET", peer, &[("x-forwarded-for", chain), ("x-forwarded-proto", "https")]));
            (client.address.to_string(), client.secure)
        };
        assert_eq!(seen("192.0.2.1", "1.1.1.1"), ("192.0.2.1".into(), false));
        assert_eq!(seen("10.0.0.1", "1.1.1.1, 192.0.2.7"), ("192.0.2.7".into(), true), "the last hop, not what it claims");
        assert_eq!(seen("10.0.0.1", "192.0.2.7, 10.0.0.9"), ("192.0.2.7".into(), true));
        assert_eq!(seen("10.0.0.1", "nonsense").0, "10.0.0.1");
    }

    #[test]
    fn changes_come_from_the_own_pages_under_a_known_name() {
        let guard = Guard { public_hosts: vec!["ci.example".into()], ..Guard::default() };
        let ok = |method: &str, headers: &[(&str, &str)]| guard.check_browser(&request(method, "127.0.0.1", headers)).is_ok();
        let host = ("host", "127.0.0.1:8080");
        assert!(ok("GET", &[host]));
        assert!(ok("POST", &[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(ok("POST", &[("host", "ci.example"), ("origin", "https://ci.example")]));
        assert!(ok("POST", &[host, ("sec-fetch-site", "same-origin")]));
        assert!(!ok("POST", &[host]), "nobody says where it comes from");
        for origin in
            ["null", "http://evil.example", "http://127.0.0.1:9090", "http://127.0.0.1:8080.evil.example", "127.0.0.1:8080"]
        {
            assert!(!ok("POST", &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!ok("GET", &[host, ("upgrade", "websocket"), ("origin", "http://evil.example")]));
        assert!(!ok("POST", &[("host", "evil.example"), ("origin", "http://evil.example")]), "rebound");
        assert!(!ok("GET", &[("host", "evil.example")]));
    }

    #[test]
    fn a_cookie_never_crosses_a_network_in_the_clear() {
        let client = |secure, local| Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), secure, local };
        let text = |client: Client| client.set_cookie("v", 9).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(
            text(client(true, false)).expect("set"),
            "__Host-dockwright=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=9; Secure"
        );
        assert_eq!(text(client(false, true)).expect("set"), "dockwright=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=9");
        assert!(text(client(false, false)).is_err());
    }
}
