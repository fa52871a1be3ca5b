//! Somebody at the command line.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::service::Running;

/// Speaks to a service with a token of their own.
pub struct Person {
    _folder: tempfile::TempDir,
    /// Where the service is, and the file with the token.
    reach: [String; 4],
}

impl Person {
    pub fn of(service: &Running, token: &str) -> Self {
        Self::at(&service.url(""), token)
    }

    pub fn at(url: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, token).expect("written");
        let reach = ["--url", url, "--token-file", file.to_str().expect("text")].map(str::to_owned);
        Self { _folder: folder, reach }
    }

    /// The words of a line, and behind them one argument that may have any form.
    fn args<'a>(&'a self, line: &'a str, last: &[&'a str]) -> Vec<&'a str> {
        self.reach.iter().map(String::as_str).chain(line.split_whitespace()).chain(last.iter().copied()).collect()
    }

    pub fn run(&self, line: &str) -> Ended {
        run(&self.args(line, &[]), "")
    }

    /// With a last argument that a shell would quote.
    pub fn with(&self, line: &str, last: &str) -> Ended {
        run(&self.args(line, &[last]), "")
    }

    /// With `input` on standard input.
    pub fn say(&self, input: &str, line: &str) -> Ended {
        run(&self.args(line, &[]), input)
    }

    /// To be started by the test.
    pub fn command(&self, line: &str, last: &[&str]) -> Command {
        dockwright(&self.args(line, last))
    }

    /// What a line shows, which must be of what the service answers: every name of a field is one of the answer's.
    pub fn shows(&self, line: &str) -> String {
        let answer = self.run(&format!("{line} --json")).json();
        let shown = self.run(line).well().out;
        let (answer, names): (&Value, Vec<&str>) = match answer.as_array() {
            Some(items) => (items.first().unwrap_or_else(|| panic!("{line}: nothing to show")), columns(&shown)),
            None => (&answer, shown.lines().filter_map(|line| line.split_whitespace().next()).collect()),
        };
        for name in names {
            let known = |value: &Value, part: &str| value.is_null() || value.get(part).is_some();
            let mut at = answer;
            for part in name.to_lowercase().split('.') {
                // An app has an image or a build.
                assert!(known(at, part) || part == "build" || part == "image", "{line}: {name} is not in {answer}");
                at = &at[part];
            }
        }
        shown
    }
}

fn columns(table: &str) -> Vec<&str> {
    table.lines().next().expect("a head").split_whitespace().collect()
}

/// How a command ended.
pub struct Ended {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Ended {
    pub fn well(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    /// Refused, with these words.
    pub fn refused(&self, words: &str) {
        assert!(self.code == 1 && self.err.contains(words), "{} {}{}", self.code, self.out, self.err);
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.well().out).expect("JSON alone")
    }
}

/// Nothing of the caller's settings is inherited.
pub fn dockwright(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockwright"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DOCKWRIGHT_")) {
        command.env_remove(name);
    }
    // No log-in and no registry login of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", "/nowhere").env("DOCKER_CONFIG", "/nowhere");
    command.args(args);
    command
}

/// `dockwright ARGS`, with `input` on standard input.
pub fn run(args: &[&str], input: &str) -> Ended {
    let mut command = dockwright(args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // A command that wants no input may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { out: text(output.stdout), err: text(output.stderr), code: output.status.code().expect("no signal") }
}
