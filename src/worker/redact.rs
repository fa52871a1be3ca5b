//! Finding known secrets in lines of a log.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::{BuildSecret, Credentials, Entrusted, REDACTED, limits};
use crate::engine::ssh::SigningKey;

/// Secrets shorter than this are not looked for: they would stand in every other line by chance.
const SHORTEST: usize = 4;
/// The same for a single line of a longer secret, which may be as common as a bracket; also the length by which secrets are looked up.
const SHORTEST_LINE: usize = 8;

/// Replaces known secrets in text. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Known>);

#[derive(Default)]
struct Known {
    short: Vec<SecretString>,
    /// By their first bytes, the longest first.
    long: HashMap<[u8; SHORTEST_LINE], Vec<SecretString>>,
}

impl Redactor {
    /// Knows a build's passwords, and the `user:password` that Basic authentication makes of them; its secrets and keys, line by line.
    #[must_use]
    pub fn of(given: &Entrusted) -> Self {
        let mut known = Known::default();
        given.credentials.iter().for_each(|one| known.learn_login(one));
        given.secrets.iter().for_each(|one| known.learn_secret(one, ""));
        given.ssh.iter().for_each(|one| known.learn_secret(one, &public_half(one)));
        for list in known.long.values_mut() {
            list.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        }
        Self(Arc::new(known))
    }

    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.short.is_empty() && self.0.long.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut clean, mut kept, mut at) = (String::new(), 0, 0);
        while at < text.len() {
            match self.0.longest_at(&text.as_bytes()[at..]) {
                Some(length) => {
                    clean.push_str(&text[kept..at]);
                    clean.push_str(REDACTED);
                    at += length;
                    kept = at;
                }
                None => at += 1,
            }
        }
        if kept == 0 {
            return Cow::Borrowed(text);
        }
        clean.push_str(&text[kept..]);
        Cow::Owned(clean)
    }
}

impl Known {
    fn learn_login(&mut self, login: &Credentials) {
        let password = login.expose_password();
        if password.len() >= SHORTEST {
            self.learn(password);
            self.learn(&STANDARD.encode(password));
            self.learn(&STANDARD.encode(format!("{}:{password}", login.username())));
        }
    }

    /// A secret of one line as it is; one of several line by line, and of `NAME=value` the value. What is no text is known in base64 alone.
    /// What stands in `public` as well may be told.
    fn learn_secret(&mut self, secret: &BuildSecret, public: &str) {
        let bytes = secret.expose();
        if (SHORTEST..=limits::LOG_LINE_BYTES).contains(&bytes.len()) {
            self.learn(&STANDARD.encode(bytes));
            self.learn(&STANDARD.encode(bytes.trim_ascii_end()));
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let text = text.trim();
        if !text.contains('\n') {
            self.learn(text);
        }
        // The lines around a key in PEM are everybody's.
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("-----") && !public.contains(line)) {
            let value = line.split_once('=').map(|(_, value)| value.trim().trim_matches(['"', '\'']));
            [Some(line), value]
                .into_iter()
                .flatten()
                .filter(|part| part.len() >= SHORTEST_LINE)
                .for_each(|part| self.learn(part));
        }
    }

    fn learn(&mut self, text: &str) {
        let secret = SecretString::from(text.to_owned());
        match text.as_bytes().first_chunk() {
            Some(first) => self.long.entry(*first).or_default().push(secret),
            None if text.len() >= SHORTEST => self.short.push(secret),
            None => {}
        }
    }

    /// Length of the longest secret at the front of the text.
    fn longest_at(&self, text: &[u8]) -> Option<usize> {
        let is_here = |secret: &&SecretString| text.starts_with(secret.expose_secret().as_bytes());
        let long = text.first_chunk().and_then(|first| self.long.get(first)?.iter().find(is_here));
        let found = long.or_else(|| self.short.iter().filter(is_here).max_by_key(|secret| secret.expose_secret().len()));
        found.map(|secret| secret.expose_secret().len())
    }
}

/// As OpenSSH writes it: what a step lists stays readable.
fn public_half(key: &BuildSecret) -> String {
    SigningKey::parse(key.expose()).map(|key| STANDARD.encode(key.public())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(secrets: &[&str]) -> Redactor {
        let secrets = secrets.iter().map(|text| BuildSecret::new("x", text.as_bytes().to_vec().into())).collect();
        Redactor::of(&Entrusted { secrets, ..Entrusted::default() })
    }

    #[test]
    fn passwords_are_replaced() {
        let login = Credentials::new("h", "u", SecretString::from("hunter22"));
        let redactor = Redactor::of(&vec![login].into());
        assert_eq!(redactor.clean("x hunter22 y"), "x [redacted] y");
        assert_eq!(redactor.clean(&STANDARD.encode("u:hunter22")), REDACTED);
        assert_eq!(redactor.clean("nothing"), "nothing");
    }

    #[test]
    fn secrets_are_replaced_as_they_may_be_told() {
        for (secrets, text, expected) in [
            (&["s3cr\n"][..], "a s3cr b s3cr", "a [redacted] b [redacted]"),
            (&["abc"], "abc", "abc"),
            (&["token-é€\n"], "é token-é€ é", "é [redacted] é"),
            // The longest of those that fit.
            (&["password", "password-and-more"], "xpassword-and-more", "x[redacted]"),
            (&["short", "shorter"], "shorter", "[redacted]"),
            // Line by line; common little lines stay.
            (&["{\n  first-line\n}\n"], "{ first-line }", "{ [redacted] }"),
            (&["//r/:_authToken=npm_12345\nA=1\n"], "npm_12345 A=1", "[redacted] A=1"),
            (&["KEY=\"quoted value\"\n"], "quoted value", "[redacted]"),
            (&["-----BEGIN X-----\nYWJjZGVm\n-----END X-----\n"], "-----BEGIN X----- YWJjZGVm", "-----BEGIN X----- [redacted]"),
            (&["s3cret!\n"], "czNjcmV0IQo= czNjcmV0IQ==", "[redacted] [redacted]"),
            (&["", "\n"], "nothing", "nothing"),
        ] {
            assert_eq!(of(secrets).clean(text), expected, "{secrets:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_secret_is_left_wherever_it_stands(secret in "[a-zé€]{8,20}", before in "\\PC{0,9}", after in "\\PC{0,9}") {
            let clean = of(&[&secret]).clean(&format!("{before}{secret}{after}")).into_owned();
            proptest::prop_assert!(!clean.contains(&secret), "{clean}");
        }
    }
}
