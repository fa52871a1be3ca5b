//! Which heredocs a line announces, after BuildKit's `heredocsFromLine` and its shell lexer.

use std::iter::Peekable;
use std::str::Chars;

/// What ends a heredoc.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub name: String,
    /// `<<-`: tabs before the terminator do not count.
    pub chomp: bool,
}

/// The heredocs of a line in their order; none when a quote or a brace in the line has no end, as in BuildKit.
pub(super) fn in_line(line: &str) -> Vec<Heredoc> {
    let words = Words { chars: line.chars().peekable(), raw: true }.split().unwrap_or_default();
    words.iter().filter_map(|word| heredoc(word)).collect()
}

/// `[digits]<<[-]WORD`
fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mut names = Words { chars: rest.chars().peekable(), raw: false }.split()?;
    let name = names.pop().filter(|_| names.is_empty())?;
    Some(Heredoc { name, chomp })
}

/// Splits at white space as a shell does. `None` where BuildKit's lexer gives up.
struct Words<'a> {
    chars: Peekable<Chars<'a>>,
    /// Whether quotes and escapes stay in the words.
    raw: bool,
}

impl Words<'_> {
    fn split(mut self) -> Option<Vec<String>> {
        let mut words = Vec::new();
        let mut word = String::new();
        while let Some(char) = self.chars.next() {
            match char {
                '\'' | '"' => self.quoted(char, &mut word)?,
                '$' => self.dollar(&mut word)?,
                '<' if self.chars.next_if_eq(&'<').is_some() => {
                    word.push_str("<<");
                    // The terminator may stand apart from its `<<`.
                    while let Some(blank) = self.chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')) {
                        word.push(blank);
                    }
                }
                '\\' => {
                    if self.raw {
                        word.push('\\');
                    }
                    word.extend(self.chars.next());
                }
                _ if char.is_whitespace() => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                _ => word.push(char),
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
        Some(words)
    }

    fn quoted(&mut self, quote: char, word: &mut String) -> Option<()> {
        if self.raw {
            word.push(quote);
        }
        loop {
            match self.chars.next()? {
                char if char == quote => break,
                '$' if quote == '"' => self.dollar(word)?,
                '\\' if quote == '"' => {
                    let escaped = self.chars.next_if(|c| matches!(c, '"' | '$' | '\\'));
                    if self.raw || escaped.is_none() {
                        word.push('\\');
                    }
                    word.extend(escaped);
                }
                char => word.push(char),
            }
        }
        if self.raw {
            word.push(quote);
        }
        Some(())
    }

    /// After a `$`: no variable has a value here, so the text stays; only what is malformed is found.
    fn dollar(&mut self, word: &mut String) -> Option<()> {
        word.push('$');
        if self.chars.next_if_eq(&'{').is_none() {
            return Some(());
        }
        word.push('{');
        if matches!(self.chars.peek()?, '{' | '}' | ':') {
            return None;
        }
        self.name(word);
        let mut modifier = self.chars.next()?;
        word.push(modifier);
        if modifier == '}' {
            return Some(());
        }
        if modifier == ':' {
            modifier = self.chars.next()?;
            word.push(modifier);
        }
        if !matches!(modifier, '+' | '-' | '?' | '#' | '%' | '/') {
            return None;
        }
        self.braces(word)
    }

    /// A variable's name: digits, one special parameter, or letters, digits and `_`.
    fn name(&mut self, word: &mut String) {
        if let Some(special) = self.chars.next_if(|c| "@*#?-$!".contains(*c)) {
            word.push(special);
            return;
        }
        let digits = self.chars.peek().is_some_and(char::is_ascii_digit);
        let belongs = |c: &char| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || *c == '_' };
        while let Some(char) = self.chars.next_if(belongs) {
            word.push(char);
        }
    }

    /// Up to the `}` of a substitution.
    fn braces(&mut self, word: &mut String) -> Option<()> {
        loop {
            let char = self.chars.next()?;
            match char {
                '\'' | '"' => self.quoted(char, word)?,
                '$' => self.dollar(word)?,
                '\\' => {
                    word.push(char);
                    word.push(self.chars.next()?);
                }
                _ => word.push(char),
            }
            if char == '}' {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_line;

    fn names(line: &str) -> Vec<(String, bool)> {
        in_line(line).into_iter().map(|heredoc| (heredoc.name, heredoc.chomp)).collect()
    }

    #[test]
    fn finds_what_buildkit_finds() {
        for (line, expected) in [
            ("RUN <<EOF", &[("EOF", false)][..]),
            ("RUN <<-EOF", &[("EOF", true)]),
            ("RUN << EOF > /x", &[("EOF", false)]),
            ("RUN << -EOF", &[("-EOF", false)]),
            ("RUN <<'EOF'", &[("EOF", false)]),
            ("RUN <<\"one two\"", &[("one two", false)]),
            ("RUN 4<<EOF", &[("EOF", false)]),
            ("COPY <<a.txt <<-B /dest/", &[("a.txt", false), ("B", true)]),
            ("RUN <<eo'f'", &[("eof", false)]),
            ("RUN <<eo\\'f", &[("eo'f", false)]),
            ("RUN <<$EOF", &[("$EOF", false)]),
            ("RUN X=${Y:-z} cat <<EOF", &[("EOF", false)]),
            ("RUN <<EOF python3", &[("EOF", false)]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN cat <<<EOF", &[]),
            ("RUN cat <<", &[]),
            ("RUN cat <<-", &[]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN echo ${} <<EOF", &[]),
            ("RUN echo ${#} ${x#y} ${1} <<EOF", &[("EOF", false)]),
            ("RUN echo ${#x} <<EOF", &[]),
            ("RUN echo ${1x} <<EOF", &[]),
            ("RUN echo $((1<<2))", &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(name, chomp)| ((*name).to_owned(), *chomp)).collect();
            assert_eq!(names(line), expected, "{line}");
        }
    }
}
