//! How the arguments of an instruction are taken apart, after BuildKit's `split_command.go` and `line_parsers.go`.

/// White space between an instruction and its arguments, and between plain arguments (BuildKit's `reWhitespace`).
pub(super) fn is_blank(char: char) -> bool {
    matches!(char, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// The first word and what follows it.
pub(super) fn split_first(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(is_blank).map_or((text, ""), |(first, rest)| (first, rest.trim_start_matches(is_blank)))
}

/// Arguments that are separated by white space and know no quotes.
pub(super) fn plain(rest: &str) -> Vec<String> {
    rest.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Takes the leading `--flag`s off. Quotes and escapes in them are resolved.
pub(super) fn flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (flag, len) = flag(rest, escape);
        rest = &rest[len..];
        if flag == "--" {
            break;
        }
        flags.push(flag);
        rest = rest.trim_start();
    }
    (flags, rest.trim())
}

/// One flag and how many bytes it took.
fn flag(text: &str, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match quote {
            None if char.is_whitespace() => return (flag, at),
            None if matches!(char, '\'' | '"') => quote = Some(char),
            Some(open) if char == open => quote = None,
            _ if char == escape => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(char),
        }
    }
    (flag, text.len())
}

/// Words that may be quoted; quotes and escapes stay in them.
pub(super) fn quoted(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = rest.chars().peekable();
    while let Some(char) = chars.next() {
        match quote {
            None if char.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(char, '\'' | '"') => quote = Some(char),
            Some(open) if char == open => quote = None,
            _ => {}
        }
        if char == escape && quote != Some('\'') {
            // An escape at the very end stands for nothing.
            if let Some(escaped) = chars.next() {
                word.push(char);
                word.push(escaped);
            }
        } else {
            word.push(char);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The fields of one line of CSV, as the options of `--mount` are written (RFC 4180).
pub(super) fn csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut in_quotes = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        let field = fields.last_mut().expect("there is always a field, because the list begins with one and only grows");
        match char {
            '"' if in_quotes && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => fields.push(String::new()),
            _ => field.push(char),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_off_the_front_only() {
        for (line, expected, rest) in [
            ("--a --b=c x --d", &["--a", "--b=c"][..], "x --d"),
            ("  --m='a b' x", &["--m=a b"], "x"),
            ("--m=a\\ b x", &["--m=a b"], "x"),
            ("-- --x y", &[], "--x y"),
            ("-x --y", &[], "-x --y"),
            ("--only", &["--only"], ""),
        ] {
            assert_eq!(flags(line, '\\'), (expected.iter().map(|f| (*f).to_owned()).collect(), rest), "{line}");
        }
    }

    #[test]
    fn quotes_and_escapes_keep_words_together() {
        for (rest, expected) in [
            ("foo bar 'abc xyz'", &["foo", "bar", "'abc xyz'"][..]),
            ("foo\\ bar", &["foo\\ bar"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("föo bàr \"âbc xÿz\"", &["föo", "bàr", "\"âbc xÿz\""]),
            ("a \\", &["a"]),
        ] {
            assert_eq!(quoted(rest, '\\'), expected, "{rest}");
        }
        assert_eq!(csv("type=bind,\"from=a,b\",x"), ["type=bind", "from=a,b", "x"]);
    }
}
