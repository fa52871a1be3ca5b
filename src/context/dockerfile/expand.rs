//! Variables in the names of images, as BuildKit's shell lexer puts in their values.

use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting of `${a:-${b:-…}}` that is followed.
const DEPTH: u32 = 32;

/// Puts in the values that `lookup` knows. Knows `$x`, `${x}`, and in braces the modifiers `-`, `:-`, `+`, `:+`, `?`, `:?`, `#`, `##`, `%`, `%%`, `/` and
/// `//`; single quotes keep their text as it is. `None` when the text is malformed: an engine refuses it as well.
#[must_use]
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut expander = Expander { chars: text.chars().peekable(), lookup };
    expander.until(None, DEPTH)
}

struct Expander<'a> {
    chars: Peekable<Chars<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Expander<'_> {
    /// Up to `stop`, which is taken, or to the end of the text.
    fn until(&mut self, stop: Option<char>, depth: u32) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        let mut out = String::new();
        loop {
            match self.chars.next() {
                None => return stop.is_none().then_some(out),
                end if end == stop => return Some(out),
                Some('\'') => loop {
                    match self.chars.next()? {
                        '\'' => break,
                        char => out.push(char),
                    }
                },
                Some('"') => {}
                Some('\\') => out.extend(self.chars.next()),
                Some('$') => out.push_str(&self.variable(depth)?),
                Some(char) => out.push(char),
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(char) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(char);
        }
        name
    }

    fn variable(&mut self, depth: u32) -> Option<String> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Some(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        let name = self.name();
        if name.is_empty() {
            return None;
        }
        let value = (self.lookup)(&name);
        let (modifier, empty_is_unset) = match self.chars.next()? {
            '}' => return Some(value.unwrap_or_default()),
            ':' => (self.chars.next()?, true),
            other => (other, false),
        };
        let is_set = value.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
        let value = value.unwrap_or_default();
        if modifier == '/' {
            return self.replaced(&value, depth);
        }
        let twice = matches!(modifier, '#' | '%') && self.chars.next_if_eq(&modifier).is_some();
        let word = self.until(Some('}'), depth)?;
        match modifier {
            '-' => Some(if is_set { value } else { word }),
            '+' => Some(if is_set { word } else { String::new() }),
            '?' => is_set.then_some(value),
            '#' => Some(without_prefix(&value, &word, twice)),
            '%' => Some(without_suffix(&value, &word, twice)),
            _ => None,
        }
    }

    /// `${x/pattern/text}` and `${x//pattern/text}`
    fn replaced(&mut self, value: &str, depth: u32) -> Option<String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), depth)?;
        let replacement = self.until(Some('}'), depth)?;
        let (mut out, mut rest) = (String::new(), value);
        while let Some(char) = rest.chars().next() {
            // The longest piece that begins here.
            let piece = ends(rest).rev().find(|end| *end > 0 && glob(&pattern, &rest[..*end]));
            if let Some(end) = piece {
                out.push_str(&replacement);
                rest = &rest[end..];
                if !all {
                    break;
                }
            } else {
                out.push(char);
                rest = &rest[char.len_utf8()..];
            }
        }
        Some(out + rest)
    }
}

/// Every place where the text can be cut.
fn ends(text: &str) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (0..=text.len()).filter(|at| text.is_char_boundary(*at))
}

fn without_prefix(value: &str, pattern: &str, longest: bool) -> String {
    let fits = |end: &usize| glob(pattern, &value[..*end]);
    let end = if longest { ends(value).rev().find(fits) } else { ends(value).find(fits) };
    value[end.unwrap_or(0)..].to_owned()
}

fn without_suffix(value: &str, pattern: &str, longest: bool) -> String {
    let fits = |start: &usize| glob(pattern, &value[*start..]);
    let start = if longest { ends(value).find(fits) } else { ends(value).rev().find(fits) };
    value[..start.unwrap_or(value.len())].to_owned()
}

/// `*` is anything, `?` one character; goes back only to the last `*`, which is enough.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(char) if *char == '?' || *char == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn expands_as_a_shell_does() {
        let lookup = |name: &str| match name {
            "host" => Some("reg.local".to_owned()),
            "path" => Some("a/b/a".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain:1", Some("plain:1")),
            ("$host/x", Some("reg.local/x")),
            ("${host}x", Some("reg.localx")),
            ("$none/x", Some("/x")),
            ("${none:-d}", Some("d")),
            ("${none:-${host}}", Some("reg.local")),
            ("${empty-d}", Some("")),
            ("${empty:-d}", Some("d")),
            ("${host:+x}", Some("x")),
            ("${empty:+x}", Some("")),
            ("${none:?no}", None),
            ("${host#reg.}", Some("local")),
            ("${path##*/}", Some("a")),
            ("${path#*/}", Some("b/a")),
            ("${path%/*}", Some("a/b")),
            ("${path%%/*}", Some("a")),
            ("${path/a/c}", Some("c/b/a")),
            ("${path//a/c}", Some("c/b/c")),
            ("'$host'", Some("$host")),
            ("\"$host\"", Some("reg.local")),
            ("\\$host", Some("$host")),
            ("${host", None),
            ("${}", None),
            ("$", Some("$")),
        ] {
            assert_eq!(expand(text, &lookup).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        assert_eq!(expand(&"${a:-".repeat(10_000), &|_| None), None);
    }
}
