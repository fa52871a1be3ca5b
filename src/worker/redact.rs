//! Finding known secrets in what is written of a build: lines of its log, and errors in its record.

mod forms;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::sanitize::plain;
use crate::domain::{BuildRecord, BuildSecret, Credentials, Entrusted, REDACTED};
use crate::engine::ssh::SigningKey;
use forms::{Forms, LONG};

/// Secrets shorter than this are not looked for: they would stand in every other line by chance.
const SHORTEST: usize = 4;
/// The same for a single line of a longer secret, which may be as common as a bracket, and for a piece in base64.
const SHORTEST_LINE: usize = 8;
/// Columns after which base64 is wrapped: by `base64` itself, and in PEM (RFC 7468).
const WRAPPED: [usize; 2] = [76, 64];

/// Replaces known secrets in text. Cheap to clone; what one clone learns, all know.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Forms>>);

impl Redactor {
    /// Knows a build's passwords, and the `user:password` that Basic authentication makes of them; its secrets and keys, line by line.
    #[must_use]
    pub fn of(given: &Entrusted) -> Self {
        let mut known = Known::default();
        given.credentials.iter().for_each(|one| known.learn_login(one));
        given.secrets.iter().for_each(|one| known.learn_secret(one, ""));
        for one in &given.ssh {
            let public = public_half(one);
            known.learn_secret(one, &public);
            known.0.except(public);
        }
        Self(Arc::new(RwLock::new(known.0.seal())))
    }

    /// Knows one more password.
    pub fn learn(&self, login: &Credentials) {
        let mut forms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known(std::mem::take(&mut forms));
        known.learn_login(login);
        *forms = known.0.seal();
    }

    /// Cleans all errors of a record, and the line for people that is made of one.
    pub fn clean_errors(&self, record: &mut BuildRecord) {
        let line = record.error.is_some().then_some(&mut record.message);
        let errors = record.error.iter_mut().chain(record.destinations.iter_mut().filter_map(|to| to.error.as_mut()));
        for text in errors.map(|error| &mut error.message).chain(line) {
            if let Cow::Owned(clean) = self.clean(text) {
                *text = clean;
            }
        }
    }

    fn forms(&self) -> RwLockReadGuard<'_, Forms> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without secrets, wherever colours stand in it.
    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let forms = self.forms();
        if forms.is_empty() {
            return Cow::Borrowed(text);
        }
        let bare = Bare::of(text);
        let found = forms.find(&bare.text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(bare.without(&found, bare.text.len()).0)
    }

    /// The same for the front of a line that goes on elsewhere. Its last bytes, in which a secret may have begun, are left in `line`.
    #[must_use]
    pub fn clean_front(&self, line: &mut String) -> String {
        let forms = self.forms();
        if forms.is_empty() {
            return std::mem::take(line);
        }
        let bare = Bare::of(line);
        let found = forms.find(&bare.text);
        let length = bare.text.len();
        let mut end = bare.text.floor_char_boundary(length.saturating_sub(LONG));
        // What reaches the end of the line may go on, and is known again by what is left of it; anything else is over.
        if let Some(over) = found.iter().find(|one| (one.start..one.end).contains(&end) && one.end < length) {
            end = over.end;
        }
        let (clean, left) = bare.without(&found, end);
        *line = left;
        clean
    }
}

/// A text and, apart from it, its colours: each with the place that it stands before.
struct Bare<'a> {
    text: Cow<'a, str>,
    colours: Vec<(usize, &'a str)>,
}

impl<'a> Bare<'a> {
    fn of(text: &'a str) -> Self {
        let (mut bare, mut colours, mut rest) = (String::new(), Vec::new(), text);
        while let Some(at) = rest.find("\u{1b}[") {
            let body = &rest[at + 2..];
            let end = body.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|end| body[*end..].starts_with('m'));
            let colour = end.map_or(0, |end| end + 3);
            bare.push_str(&rest[..at]);
            if colour == 0 {
                bare.push_str("\u{1b}[");
                rest = body;
                continue;
            }
            colours.push((bare.len(), &rest[at..at + colour]));
            rest = &rest[at + colour..];
        }
        if colours.is_empty() {
            return Self { text: Cow::Borrowed(text), colours };
        }
        bare.push_str(rest);
        Self { text: Cow::Owned(bare), colours }
    }

    /// The text up to `end` with every match replaced, and what comes after it as it is. Colours stay.
    fn without(&self, found: &[Range<usize>], end: usize) -> (String, String) {
        let (mut clean, mut at) = (String::new(), 0);
        for one in found.iter().filter(|one| one.start < end) {
            self.copy(at..one.start, &mut clean);
            at = one.end.min(end);
            let (before, inside): (Vec<_>, Vec<_>) = self
                .colours
                .iter()
                .filter(|(place, _)| (one.start..at).contains(place))
                .partition(|(place, _)| *place == one.start);
            before.iter().for_each(|(_, colour)| clean.push_str(colour));
            clean.push_str(REDACTED);
            inside.iter().for_each(|(_, colour)| clean.push_str(colour));
        }
        self.copy(at..end, &mut clean);
        let mut left = String::new();
        self.copy(end..self.text.len(), &mut left);
        let last = self.colours.iter().filter(|(place, _)| *place == self.text.len());
        last.for_each(|(_, colour)| if end == self.text.len() { clean.push_str(colour) } else { left.push_str(colour) });
        (clean, left)
    }

    /// Copies with the colours before each of its characters.
    fn copy(&self, part: Range<usize>, to: &mut String) {
        let mut at = part.start;
        for (place, colour) in self.colours.iter().filter(|(place, _)| part.contains(place)) {
            to.push_str(&self.text[at..*place]);
            to.push_str(colour);
            at = *place;
        }
        to.push_str(&self.text[at..part.end]);
    }
}

#[derive(Default)]
struct Known(Forms);

impl Known {
    fn learn_login(&mut self, login: &Credentials) {
        let password = login.expose_password();
        if password.len() >= SHORTEST {
            self.learn(password);
            self.learn_encoded(password.as_bytes());
            self.learn(&STANDARD.encode(format!("{}:{password}", login.username())));
        }
    }

    /// A secret of one line as it is; one of several line by line, and of `NAME=value` the value. What is no text is known in base64 alone.
    /// What stands in `public` as well may be told.
    fn learn_secret(&mut self, secret: &BuildSecret, public: &str) {
        let bytes = secret.expose();
        if bytes.len() >= SHORTEST {
            self.learn_encoded(bytes);
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

    /// In base64: by itself, with and without a line's end, also where it is wrapped; and behind other bytes.
    fn learn_encoded(&mut self, bytes: &[u8]) {
        let line = bytes.trim_ascii_end();
        if line.len() < SHORTEST {
            return;
        }
        let echoed = [line, b"\n"].concat();
        let mut ways = vec![line, bytes, &echoed];
        ways.dedup();
        for encoded in ways.into_iter().map(|alone| STANDARD.encode(alone)) {
            // The lines before the last are long, and so are known as pieces.
            for last in WRAPPED.map(|columns| &encoded[encoded.len() - encoded.len() % columns..]) {
                if last.len() < encoded.len() && last.len() >= SHORTEST_LINE {
                    self.0.add(last);
                }
            }
            self.learn(&encoded);
        }
        for before in 1..=2_usize {
            let encoded = STANDARD.encode([&[0; 2][..before], line].concat());
            // Of the characters at both ends, some bits are those of its neighbours.
            let own = &encoded[before + 1..(before + line.len()) * 8 / 6];
            if own.len() >= SHORTEST_LINE {
                self.learn(own);
            }
        }
    }

    /// As it is, and as a log shows it.
    fn learn(&mut self, text: &str) {
        let shown = plain(text);
        let shown = Bare::of(&shown).text;
        for form in std::iter::once(text).chain((shown != text).then_some(&*shown)).filter(|form| form.len() >= SHORTEST) {
            self.0.add(form);
        }
    }
}

/// As OpenSSH writes it: what a step lists stays readable.
fn public_half(key: &BuildSecret) -> String {
    SigningKey::parse(key.expose()).map(|key| STANDARD.encode(key.public())).unwrap_or_default()
}

/// Letters in which nothing repeats itself.
#[cfg(test)]
pub(super) fn letters(count: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn of(secrets: &[&str]) -> Redactor {
        let secrets = secrets.iter().map(|text| BuildSecret::new("x", text.as_bytes().to_vec().into())).collect();
        Redactor::of(&Entrusted { secrets, ..Entrusted::default() })
    }

    #[test]
    fn errors_of_a_record_are_cleaned_of_what_was_learnt_too() {
        use crate::domain::{BuildError, BuildId, BuildSpec, ContextInfo, ErrorKind, StageName, Timestamp};
        let spec = BuildSpec { images: vec!["h/x:1".parse().expect("valid")], push: true, ..BuildSpec::default() };
        let (owner, now) = ("ada".parse().expect("valid"), Timestamp::from_millis(1));
        let mut record = BuildRecord::new(BuildId::new(), owner, spec, ContextInfo::default(), None, now);
        let (stage, kind, code) = (StageName::Push, ErrorKind::Auth, "push_denied".to_owned());
        let error = BuildError { stage, kind, code, message: "not hunter22\nnor hunter2".into(), dockerfile_line: None };
        record.destinations[0].failed(error.clone(), now);
        record.failed(error, now).expect("live");
        let redactor = Redactor::default();
        redactor.learn(&Credentials::new("h", "u", SecretString::from("hunter2")));
        redactor.clone().learn(&Credentials::new("h", "u", SecretString::from("hunter22")));
        redactor.clean_errors(&mut record);
        let error = record.error.expect("failed");
        assert_eq!((&*error.message, &*record.message), ("not [redacted]\nnor [redacted]", "not [redacted]"));
        assert_eq!(record.destinations[0].error.as_ref(), Some(&error));
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
            // Wherever it stands in what is encoded.
            (&["s3cret-token"], "dXNlcjpzM2NyZXQtdG9rZW4=", "dXNlcjp[redacted]4="),
            (&["s3cret-token"], "eHhzM2NyZXQtdG9rZW4=", "eHh[redacted]4="),
            // Colours are no part of it, and stay.
            (&["token-1234"], "a \u{1b}[31mtok\u{1b}[0men-1234 b", "a \u{1b}[31m[redacted]\u{1b}[0m b"),
            // As the log shows it.
            (&["tok\u{0}en\u{1b}[K-1234"], "token-1234", "[redacted]"),
        ] {
            assert_eq!(of(secrets).clean(text), expected, "{secrets:?}");
        }
    }

    #[test]
    fn long_secrets_are_found_in_pieces() {
        let secret = letters(1000);
        let redactor = of(&[&secret]);
        for (from, to) in [(0, 63), (1, 64), (17, 80), (500, 900), (937, 1000), (0, 1000)] {
            assert_eq!(redactor.clean(&format!("<{}>", &secret[from..to])), "<[redacted]>", "{from}..{to}");
        }
        assert_eq!(redactor.clean(&secret[100..131]), &secret[100..131], "too little to be its own");
        for columns in [76, 64] {
            for given in [secret.as_bytes(), format!("{secret}\n").as_bytes(), format!("user:{secret}").as_bytes()] {
                let encoded = STANDARD.encode(given);
                let lines = encoded.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).expect("ASCII"));
                let whole: Vec<&str> = lines.filter(|line| line.len() == columns).collect();
                for line in &whole[1..] {
                    assert_eq!(redactor.clean(line), REDACTED);
                }
                let first = redactor.clean(whole[0]).into_owned();
                assert!(first.ends_with(REDACTED) && first.len() < 24, "{first}");
            }
        }
        let token = "t0ken-of-a-hundred-bytes-".repeat(4);
        let encoded = STANDARD.encode(format!("{token}\n"));
        for columns in [76, 64] {
            for line in encoded.as_bytes().chunks(columns) {
                let line = std::str::from_utf8(line).expect("ASCII");
                assert_eq!(of(&[&token]).clean(line), if line.len() < SHORTEST_LINE { line } else { REDACTED });
            }
        }
    }

    #[test]
    fn what_repeats_itself_costs_no_more() {
        let (known, line) = (of(&[&"a".repeat(400_000)]), "a".repeat(1 << 20));
        assert_eq!(known.clean(&line).replace(REDACTED, ""), "");
        let almost = format!("{}b", "a".repeat(31)).repeat(1 << 10);
        assert_eq!(known.clean(&almost), almost);
    }

    proptest::proptest! {
        #[test]
        fn no_secret_is_left_wherever_it_stands(secret in "[a-zé€]{8,20}", before in "\\PC{0,9}", after in "\\PC{0,9}") {
            let clean = of(&[&secret]).clean(&format!("{before}{secret}{after}")).into_owned();
            proptest::prop_assert!(!clean.contains(&secret), "{clean}");
        }
    }
}
