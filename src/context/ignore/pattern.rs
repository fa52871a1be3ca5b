/// One pattern. Docker has three plain forms for which it does not use its general one, and their meaning differs from what the
/// general one would give (`**file` matches `xfile`, `**file*` does not): so they are kept apart here too.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Exact(String),
    /// `dir/**`
    Prefix(String),
    /// `**/name`, `**name`
    Suffix(String),
    General(Vec<Token>),
}

#[derive(Debug, Clone)]
pub(super) enum Token {
    Char(char),
    /// `?`: any character but `/`.
    One,
    /// `*`: any characters but `/`.
    Many,
    /// `**` before something: nothing, or anything that ends in `/`.
    Dirs,
    /// `**` at the end: anything.
    Rest,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// `None` when Go's `filepath.Match`, or the regular expression that Docker makes of it, refuses the pattern.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut chars = text.chars().peekable();
        let mut tokens = Vec::new();
        // Which plain form the pattern has as far as it was read.
        let (mut plain, mut suffix, mut prefix) = (true, false, false);
        while let Some(char) = chars.next() {
            let first = tokens.is_empty();
            match char {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    let last = chars.peek().is_none();
                    prefix = last && plain && !suffix;
                    plain = (prefix || first) && plain;
                    suffix |= first;
                    tokens.push(if last { Token::Rest } else { Token::Dirs });
                    continue;
                }
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut chars)?),
                '\\' => tokens.push(Token::Char(chars.next()?)),
                other => {
                    tokens.push(Token::Char(other));
                    plain &= other != ']';
                    continue;
                }
            }
            plain = false;
        }
        Some(match (plain, suffix, prefix) {
            (false, ..) => Self::General(tokens),
            (_, true, _) => Self::Suffix(text[2..].to_owned()),
            (_, _, true) => Self::Prefix(text[..text.len() - 2].to_owned()),
            _ => Self::Exact(text.to_owned()),
        })
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Suffix(text) => path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path),
            Self::General(tokens) => general(tokens, path),
        }
    }
}

/// A class after its `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        if low > high {
            return None;
        }
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        other => Some(other),
    }
}

/// Follows all ways through the tokens at once: time grows with tokens times characters, whatever the pattern.
fn general(tokens: &[Token], path: &str) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    // A `**` that has begun to take something must end at a `/`.
    let mut inside = vec![false; tokens.len() + 1];
    pass_over(tokens, &mut at);
    for char in path.chars() {
        let mut next = vec![false; tokens.len() + 1];
        let mut still = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            if !at[index] && !inside[index] {
                continue;
            }
            match token {
                Token::Dirs => {
                    still[index] = true;
                    next[index + 1] |= char == '/';
                }
                Token::Many => next[index] |= at[index] && char != '/',
                Token::Rest => next[index] |= at[index],
                Token::One => next[index + 1] |= char != '/',
                Token::Char(own) => next[index + 1] |= char == *own,
                Token::Class { negated, ranges } => {
                    let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&char));
                    next[index + 1] |= within != *negated;
                }
            }
        }
        (at, inside) = (next, still);
        pass_over(tokens, &mut at);
    }
    at[tokens.len()]
}

/// Tokens that may take nothing let a way go on behind them.
fn pass_over(tokens: &[Token], at: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if at[index] && matches!(token, Token::Many | Token::Dirs | Token::Rest) {
            at[index + 1] = true;
        }
    }
}
