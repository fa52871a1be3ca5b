//! `WWW-Authenticate` (RFC 9110 §11.6.1): what a registry wants to be asked with, and to whom credentials may go for it.

use std::collections::BTreeMap;

use reqwest::Url;

use super::endpoint::name_of;

/// Token servers on another host than their registry that get the registry's credentials all the same. Everybody else's
/// must be on the registry's own host: a registry that names a foreign one could be harvesting passwords.
const TRUSTED_REALMS: [(&str, &str); 3] =
    [("docker.io", "auth.docker.io"), ("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// Docker's token authentication: a token is to be fetched from `realm`.
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the headers of a 401; a token is preferred to a password in each request.
    pub(super) fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let mut parameters = parameters(rest);
                let realm = parameters.remove("realm").and_then(|realm| Url::parse(&realm).ok());
                if let Some(realm) = realm.filter(|realm| matches!(realm.scheme(), "https" | "http")) {
                    return Some(Self::Bearer {
                        realm,
                        service: parameters.remove("service"),
                        scope: parameters.remove("scope"),
                    });
                }
            }
        }
        basic
    }
}

/// `a="x",b=y` with quotes and backslashes as in RFC 9110 §5.6.4; names in lower case.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find(',').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        found.insert(name, value);
        rest = after;
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// Whether the registry is one of those: everybody knows its token server.
pub(super) fn is_known(registry: &str) -> bool {
    TRUSTED_REALMS.iter().any(|(name, _)| *name == registry)
}

/// Whether the registry's credentials may be sent to its token server: same host (on any port), or one that is known to
/// be the registry's; and never in the clear unless the registry itself is spoken to so.
pub(super) fn may_have_credentials(registry: &str, realm: &Url, plain: bool) -> bool {
    let Some(host) = realm.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let own = host.eq_ignore_ascii_case(name_of(registry));
    let trusted = TRUSTED_REALMS.iter().any(|(name, server)| *name == registry && host == *server);
    (own || trusted) && (realm.scheme() == "https" || (plain && own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn reads_what_registries_send() {
        let bearer = Challenge::read(
            [r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#]
                .into_iter(),
        );
        let expected = Challenge::Bearer {
            realm: url("https://auth.docker.io/token"),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(bearer, Some(expected.clone()));
        assert_eq!(Challenge::read(["Basic realm=\"x\""].into_iter()), Some(Challenge::Basic));
        let spaced =
            r#"bearer Realm="https://auth.docker.io/token" , service=registry.docker.io, scope="repository:a/b:pull,push""#;
        assert_eq!(Challenge::read(["Basic realm=\"x\"", spaced].into_iter()), Some(expected));
        let escaped = Challenge::read([r#"Bearer realm="https://h/t",service="a\"b,c""#].into_iter());
        assert!(matches!(escaped, Some(Challenge::Bearer { service: Some(service), .. }) if service == "a\"b,c"));
        for bad in ["", "Bearer", "Bearer realm=", "Bearer realm=\"file:///etc/passwd\"", "Digest realm=\"x\""] {
            assert_eq!(Challenge::read([bad].into_iter()), None, "{bad:?}");
        }
    }

    #[test]
    fn credentials_do_not_go_to_foreign_realms() {
        for (registry, realm, plain, may) in [
            ("docker.io", "https://auth.docker.io/token", false, true),
            ("docker.io", "http://auth.docker.io/token", false, false),
            ("r.example", "https://r.example/token", false, true),
            ("r.example:5000", "https://r.example:5001/token", false, true),
            ("r.example", "http://r.example/token", false, false),
            ("r.example", "https://auth.r.example/token", false, false),
            ("r.example", "https://auth.docker.io/token", false, false),
            ("r.example", "https://r.example.evil/token", false, false),
            ("r.example", "https://r.example@evil.example/token", false, false),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", true, true),
            ("127.0.0.1:5000", "http://127.0.0.2:5001/token", true, false),
        ] {
            assert_eq!(may_have_credentials(registry, &url(realm), plain), may, "{registry} {realm}");
        }
    }
}
