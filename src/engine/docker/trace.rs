//! BuildKit's progress (`moby.buildkit.trace`: a base64 protobuf `StatusResponse`) told as
//! `docker build --progress=plain` tells it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};
use prost::Message as _;

use super::lines::{Splitter, line, progress};
use super::stream::size;
use crate::domain::{LogLine, LogStream};

const STDERR: i64 = 2;

/// One step, as far as it was told.
#[derive(Default)]
struct Step {
    /// Its number in the log, `#5`, by the order in which steps began.
    number: usize,
    name: String,
    began: bool,
    /// When it last ended; a step may end, begin again and end again.
    ended: Option<(i64, i32)>,
    out: Splitter,
    err: Splitter,
}

/// Turns traces into lines.
#[derive(Default)]
pub(super) struct Trace {
    /// The build's own stages.
    stages: Vec<String>,
    steps: HashMap<String, Step>,
    began: usize,
    /// When a transfer inside a step was last told, by step and transfer.
    transfers: HashMap<(String, String), (i64, bool)>,
}

impl Trace {
    pub(super) fn of(stages: Vec<String>) -> Self {
        Self { stages, ..Self::default() }
    }

    /// `[builder 1/2] FROM busybox` without its stage, when that is none of this build's: see [`crate::engine::BuildRequest::stages`].
    fn own(&self, name: &str) -> String {
        let place = name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((place, rest)) = place.filter(|(place, _)| place.contains('/')) else { return name.to_owned() };
        let is_own = |word: &&str| word.contains('/') || self.stages.iter().any(|stage| stage.eq_ignore_ascii_case(word));
        let own: Vec<&str> = place.split_whitespace().filter(is_own).collect();
        format!("[{}]{rest}", own.join(" "))
    }

    /// The lines of one trace; nothing for what cannot be decoded, because a build does not fail for its progress.
    pub(super) fn decode(&mut self, base64: &str) -> Vec<LogLine> {
        let decoded = STANDARD.decode(base64).ok().and_then(|bytes| StatusResponse::decode(bytes.as_slice()).ok());
        let Some(trace) = decoded else { return Vec::new() };
        let mut lines = Vec::new();
        for vertex in &trace.vertexes {
            self.begin(vertex, &mut lines);
        }
        for status in &trace.statuses {
            lines.extend(self.transfer(status));
        }
        for log in &trace.logs {
            self.log(log, &mut lines);
        }
        for vertex in &trace.vertexes {
            self.end(vertex, &mut lines);
        }
        lines
    }

    /// What was written without a last newline.
    pub(super) fn finish(&mut self) -> Vec<LogLine> {
        let mut steps: Vec<&mut Step> = self.steps.values_mut().collect();
        steps.sort_by_key(|step| step.number);
        steps.into_iter().flat_map(Step::flush).collect()
    }

    fn begin(&mut self, vertex: &Vertex, lines: &mut Vec<LogLine>) {
        let name = self.own(&vertex.name);
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if step.began || vertex.started.is_none() {
            return;
        }
        self.began += 1;
        step.began = true;
        step.number = self.began;
        step.name = name;
        lines.push(progress(Some(&step.name), format!("#{} {}", step.number, step.name)));
    }

    fn end(&mut self, vertex: &Vertex, lines: &mut Vec<LogLine>) {
        let Some(completed) = &vertex.completed else { return };
        let Some(step) = self.steps.get_mut(&vertex.digest).filter(|step| step.began) else { return };
        let at = (completed.seconds, completed.nanos);
        if step.ended.replace(at) == Some(at) {
            return;
        }
        lines.extend(step.flush());
        let end = if !vertex.error.is_empty() {
            format!("ERROR: {}", vertex.error)
        } else if vertex.cached {
            "CACHED".to_owned()
        } else {
            format!("DONE {:.1}s", vertex.started.as_ref().map_or(0.0, |started| seconds(completed) - seconds(started)))
        };
        lines.push(progress(Some(&step.name), format!("#{} {end}", step.number)));
    }

    /// A transfer (of a base image's layer, of the context) is told when it begins, at most once a second, and when it ends.
    fn transfer(&mut self, status: &VertexStatus) -> Option<LogLine> {
        let step = self.steps.get(&status.vertex).filter(|step| step.began)?;
        let now = status.timestamp.as_ref().map_or(0, |at| at.seconds);
        let ended = status.completed.is_some();
        let key = (status.vertex.clone(), status.id.clone());
        if self.transfers.get(&key).is_some_and(|(at, over)| *over || (*at == now && !ended)) {
            return None;
        }
        self.transfers.insert(key, (now, ended));
        let bytes = match (status.current, status.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", size(current)),
            (current, total) => format!(" {} / {}", size(current), size(total)),
        };
        let done = if ended { " done" } else { "" };
        Some(progress(Some(&step.name), format!("#{} {}{bytes}{done}", step.number, status.id)))
    }

    fn log(&mut self, log: &VertexLog, lines: &mut Vec<LogLine>) {
        let step = self.steps.entry(log.vertex.clone()).or_default();
        let (stream, splitter) =
            if log.stream == STDERR { (LogStream::Stderr, &mut step.err) } else { (LogStream::Stdout, &mut step.out) };
        let name = (!step.name.is_empty()).then_some(step.name.as_str());
        lines.extend(splitter.push(&log.msg).into_iter().map(|text| line(stream, name, text)));
    }
}

impl Step {
    fn flush(&mut self) -> Vec<LogLine> {
        let name = (!self.name.is_empty()).then_some(self.name.as_str());
        let out = self.out.finish().map(|text| line(LogStream::Stdout, name, text));
        let err = self.err.finish().map(|text| line(LogStream::Stderr, name, text));
        out.into_iter().chain(err).collect()
    }
}

#[allow(clippy::cast_precision_loss, reason = "tenths of a second are shown")]
fn seconds(at: &Timestamp) -> f64 {
    at.seconds as f64 + f64::from(at.nanos) / 1e9
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
