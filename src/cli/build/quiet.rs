//! Nothing, unless it fails: then the last lines that were heard.

use std::collections::VecDeque;

use serde_json::Value;

use super::feed::Line;
use super::show::{Show, to_stderr};
use crate::worker::plain;

const KEPT: usize = 20;

#[derive(Default)]
pub(super) struct Quiet {
    last: VecDeque<String>,
}

impl Show for Quiet {
    fn line(&mut self, line: &Line) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(plain(&line.text).into_owned());
    }

    fn end(&mut self, build: &Value) {
        if build["state"] == "failed" {
            self.last.iter().for_each(|line| to_stderr(&format!("{line}\n")));
        }
    }
}
