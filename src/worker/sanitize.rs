//! What may stand in a log: colours, but no other escape sequence. Known secrets are taken out by [`super::redact`].

use std::borrow::Cow;

/// Keeps colours (CSI … m, of digits and `;` alone) and tabs; removes every other control character and escape sequence.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\u{1b}' | '\u{9b}' => escape(rest, &mut kept),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => c.len_utf8() + string_end(&rest[c.len_utf8()..]),
            c => {
                if !c.is_control() || c == '\t' {
                    kept.push(c);
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Cow::Owned(kept)
}

/// Length of the escape sequence at the start of `text` (ECMA-48); a colour is copied to `kept`.
fn escape(text: &str, kept: &mut String) -> usize {
    let mut chars = text.chars();
    let first = chars.next().expect("not empty, because the caller saw its first character");
    let introducer = if first == '\u{9b}' {
        first.len_utf8()
    } else {
        match chars.next() {
            Some('[') => 2,
            Some(']' | 'P' | 'X' | '^' | '_') => return 2 + string_end(&text[2..]),
            // Two-character sequences, with intermediate bytes before the last (`ESC ( B`).
            Some(_) => {
                return 1 + text[1..]
                    .char_indices()
                    .find(|(_, c)| !(' '..='/').contains(c))
                    .map_or(text.len() - 1, |(i, c)| i + c.len_utf8());
            }
            None => return 1,
        }
    };
    let body = &text[introducer..];
    let Some((end, last)) = body.char_indices().find(|(_, c)| !(' '..='?').contains(c)) else { return text.len() };
    if !('@'..='~').contains(&last) {
        return introducer + end;
    }
    if last == 'm' && body[..end].bytes().all(|b| b.is_ascii_digit() || b == b';') {
        kept.push_str("\u{1b}[");
        kept.push_str(&body[..=end]);
    }
    introducer + end + 1
}

/// Length up to and with the terminator (BEL or ST) of an OSC, DCS, SOS, PM or APC string.
fn string_end(text: &str) -> usize {
    text.char_indices()
        .find_map(|(i, c)| match c {
            '\u{7}' => Some(i + 1),
            '\u{9c}' => Some(i + c.len_utf8()),
            '\u{1b}' if text[i + 1..].starts_with('\\') => Some(i + 2),
            _ => None,
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass() {
        for (given, kept) in [
            ("plain\ttext", "plain\ttext"),
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[1;38;5;9mx", "\u{1b}[1;38;5;9mx"),
            ("a\u{1b}[2Jb\u{1b}[10;10Hc", "abc"),
            ("a\u{1b}[?25lb", "ab"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("a\u{1b}Pdcs\u{1b}\\b", "ab"),
            ("a\u{9d}0;title\u{9c}b", "ab"),
            ("a\u{9b}31mb", "a\u{1b}[31mb"),
            ("a\u{1b}(Bb\u{1b}cd", "abd"),
            ("a\u{8}\u{0}\u{7f}b", "ab"),
            ("unfinished \u{1b}[3", "unfinished "),
            ("unfinished \u{1b}", "unfinished "),
            ("unfinished \u{1b}]0;x", "unfinished "),
            ("bad \u{1b}[3\u{1b}[31mred", "bad \u{1b}[31mred"),
            ("é\u{1b}[0K€", "é€"),
        ] {
            assert_eq!(plain(given), kept, "{given:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_dangerous_is_left(text in "(\\x1b|\\[|\\]|[0-9;?m]|\\PC|\\x07|\\x{9b}|\\x{9d}|\n){0,40}") {
            let clean = plain(&text).into_owned();
            let without_colours = regexless(&clean);
            proptest::prop_assert!(!without_colours.chars().any(|c| c.is_control() && c != '\t'), "{clean:?}");
            proptest::prop_assert_eq!(plain(&clean), clean.as_str());
        }
    }

    /// Takes the colours out.
    fn regexless(text: &str) -> String {
        let mut out = String::new();
        let mut parts = text.split("\u{1b}[");
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').strip_prefix('m').expect("a colour"));
        }
        out
    }
}
