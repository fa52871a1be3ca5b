//! One instruction, taken apart as far as its form is the parser's business (BuildKit's `newNodeFromLine`).

use super::words;
use super::{DockerfileFault, fault};

#[derive(Debug)]
pub(super) struct Node {
    /// Line on which it begins, from 1.
    pub line: u32,
    /// The whole instruction, as it was written, on one line.
    pub text: String,
    /// As it was written.
    pub word: String,
    pub keyword: Option<Keyword>,
    pub flags: Vec<String>,
    pub args: Vec<String>,
    /// Whether the arguments came as a JSON array.
    pub json: bool,
    pub heredocs: u32,
    /// The instruction behind `ONBUILD`.
    pub trigger: Option<Box<Node>>,
}

macro_rules! keywords {
    ($($name:ident)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Keyword { $($name),* }

        impl Keyword {
            fn parse(word: &str) -> Option<Self> {
                [$((stringify!($name), Self::$name)),*].into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, own)| own)
            }

            /// In upper case, as messages have it.
            pub(super) fn name(self) -> String {
                format!("{self:?}").to_ascii_uppercase()
            }
        }
    };
}

keywords! { Add Arg Cmd Copy Entrypoint Env Expose From Healthcheck Label Maintainer Onbuild Run Shell Stopsignal User Volume Workdir }

impl Node {
    pub(super) fn parse(text: &str, line: u32, escape: char) -> Result<Self, DockerfileFault> {
        let (word, rest) = words::split_first(text);
        let (flags, rest) = words::flags(rest, escape);
        let keyword = Keyword::parse(word);
        let mut node = Self {
            line,
            text: text.trim().to_owned(),
            word: word.to_owned(),
            keyword,
            flags,
            args: Vec::new(),
            json: false,
            heredocs: 0,
            trigger: None,
        };
        if let Some(keyword) = keyword {
            node.take_args(keyword, rest, escape)?;
        }
        Ok(node)
    }

    fn take_args(&mut self, keyword: Keyword, rest: &str, escape: char) -> Result<(), DockerfileFault> {
        use Keyword as K;
        let whole = |rest: &str| if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] };
        match keyword {
            K::Add | K::Copy | K::Volume => self.args = self.json_or(rest, words::plain)?,
            K::Cmd | K::Entrypoint | K::Run | K::Shell => self.args = self.json_or(rest, whole)?,
            K::From | K::Expose => self.args = words::plain(rest),
            K::Maintainer | K::Stopsignal | K::User | K::Workdir => self.args = whole(rest),
            K::Arg => self.args = words::quoted(rest, escape),
            K::Env | K::Label => self.args = self.pairs(keyword, rest, escape)?,
            K::Healthcheck => {
                let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let command = self.json_or(command.trim_start(), whole)?;
                self.args = whole(kind).into_iter().chain(command).collect();
            }
            K::Onbuild => {
                self.args = whole(rest);
                if !rest.is_empty() {
                    self.trigger = Some(Box::new(Self::parse(rest, self.line, escape)?));
                }
            }
        }
        Ok(())
    }

    /// A JSON array of strings; text that is no JSON array is taken by `otherwise`, as Docker does.
    fn json_or(&mut self, rest: &str, otherwise: impl Fn(&str) -> Vec<String>) -> Result<Vec<String>, DockerfileFault> {
        if !rest.starts_with('[') {
            return Ok(otherwise(rest));
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(otherwise(rest)) };
        self.json = true;
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => Ok(text),
            _ => {
                let message = "when using JSON array syntax, arrays must be comprised of strings only";
                Err(fault(self.line, "dockerfile_syntax", message.into()))
            }
        };
        values.into_iter().map(text).collect()
    }

    /// `name value`, or `name=value` again and again; answers the names.
    fn pairs(&self, keyword: Keyword, rest: &str, escape: char) -> Result<Vec<String>, DockerfileFault> {
        let words = words::quoted(rest, escape);
        let refuse = |message: String| Err(fault(self.line, "dockerfile_syntax", message));
        let Some(first) = words.first() else { return Ok(Vec::new()) };
        if !first.contains('=') {
            let (name, value) = words::split_first(rest);
            return if value.is_empty() {
                refuse(format!("{} must have two arguments", keyword.name()))
            } else {
                Ok(vec![name.into()])
            };
        }
        let mut names = Vec::new();
        for word in &words {
            match word.split_once('=') {
                Some((name, _)) => names.push(name.to_owned()),
                None => return refuse(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
            }
        }
        Ok(names)
    }

    /// Only where a shell or a copy reads them, and not out of a JSON array.
    pub(super) fn may_have_heredocs(&self) -> bool {
        let node = self.trigger.as_deref().unwrap_or(self);
        matches!(node.keyword, Some(Keyword::Add | Keyword::Copy | Keyword::Run)) && !node.json
    }
}
