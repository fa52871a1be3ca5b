//! The classic builder's stream (moby `builder/dockerfile`): its own words and the steps' output in one.

use super::lines::{Splitter, line, progress};
use super::stream::{Message, Transfers};
use crate::domain::{Digest, LogLine, LogStream};

/// How the builder marks what a step wrote to stderr (moby `pkg/streamformatter`).
const STDERR_BEGIN: &str = "\u{1b}[91m";
const STDERR_END: &str = "\u{1b}[0m";

/// Turns messages into lines, and keeps what is known of the images that the build made.
#[derive(Default)]
pub(super) struct Classic {
    step: Option<String>,
    /// The container whose output is being told.
    running: Option<String>,
    cached: bool,
    out: Splitter,
    err: Splitter,
    transfers: Transfers,
    /// The finished stages' images, in order; the last one is the build's.
    stages: Vec<Digest>,
    /// Short id of the newest image inside the stage at hand, if this build made it.
    newest: Option<String>,
}

impl Classic {
    pub(super) fn decode(&mut self, message: &Message) -> Vec<LogLine> {
        if let Some(id) = message.aux.as_ref().and_then(|aux| aux["ID"].as_str()).and_then(|id| id.parse().ok()) {
            self.stages.push(id);
            self.newest = None;
        }
        let mut lines = Vec::new();
        if let Some(text) = &message.stream {
            self.stream(text, &mut lines);
        }
        lines.extend(self.transfers.tell(message).map(|text| progress(self.step.as_deref(), text)));
        lines
    }

    /// The build's image, once the stream has ended well.
    pub(super) fn image(&self) -> Option<&Digest> {
        self.stages.last()
    }

    /// Images that nothing will name: those of all stages, or of all but the last when the build succeeded.
    pub(super) fn unnamed(&self, succeeded: bool) -> Vec<String> {
        let stages = if succeeded { self.stages.split_last().map_or(&[][..], |(_, rest)| rest) } else { &self.stages };
        let newest = self.newest.iter().filter(|_| !succeeded).cloned();
        stages.iter().map(ToString::to_string).chain(newest).collect()
    }

    /// The container of the step at hand. The engine removes it at the step's end, unless the engine itself ends before.
    pub(super) fn container(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// What was written without a last newline.
    pub(super) fn finish(&mut self) -> Vec<LogLine> {
        let step = self.step.as_deref();
        let out = self.out.finish().map(|text| line(LogStream::Stdout, step, text));
        let err = self.err.finish().map(|text| line(LogStream::Stderr, step, text));
        out.into_iter().chain(err).collect()
    }

    fn stream(&mut self, text: &str, lines: &mut Vec<LogLine>) {
        if let Some(rest) = text.strip_prefix(STDERR_BEGIN) {
            let rest = rest.strip_suffix(STDERR_END).unwrap_or(rest);
            lines.extend(
                self.err.push(rest.as_bytes()).into_iter().map(|text| line(LogStream::Stderr, self.step.as_deref(), text)),
            );
        } else if self.running.is_some() && !self.ends_container(text) {
            lines.extend(
                self.out.push(text.as_bytes()).into_iter().map(|text| line(LogStream::Stdout, self.step.as_deref(), text)),
            );
        } else {
            lines.extend(self.finish());
            for said in text.lines().filter(|said| !said.is_empty()) {
                self.builders_own(said);
                lines.push(progress(self.step.as_deref(), said));
            }
        }
    }

    fn ends_container(&self, text: &str) -> bool {
        let removed = text.trim_end().strip_prefix("Removing intermediate container ");
        removed.is_some() && removed == self.running.as_deref()
    }

    fn builders_own(&mut self, said: &str) {
        if let Some(step) = said.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            self.step = Some(format!("[{}] {}", step.0, step.1));
            self.cached = false;
            self.running = None;
        } else if said.starts_with("Removing intermediate container ") {
            self.running = None;
        } else if let Some(what) = said.strip_prefix(" ---> ") {
            if let Some(container) = what.strip_prefix("Running in ") {
                self.running = Some(container.to_owned());
            } else if what == "Using cache" {
                self.cached = true;
            } else {
                let made = !self.cached && !self.is_from();
                self.newest = made.then(|| what.to_owned());
            }
        }
    }

    fn is_from(&self) -> bool {
        let instruction = self.step.as_deref().and_then(|step| step.split_whitespace().nth(1));
        instruction.is_some_and(|word| word.eq_ignore_ascii_case("FROM"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> Message {
        Message { stream: Some(text.into()), ..Message::default() }
    }

    fn aux(digit: &str) -> Message {
        Message { aux: Some(serde_json::json!({"ID": format!("sha256:{}", digit.repeat(64))})), ..Message::default() }
    }

    /// What Engine 20.10.24 sends for two stages, the second one failing.
    fn two_stages() -> Vec<Message> {
        vec![
            stream("Step 1/4 : FROM busybox AS one"),
            stream("\n"),
            stream(" ---> 568104583eb7\n"),
            stream("Step 2/4 : RUN echo out; echo err >&2"),
            stream("\n"),
            stream(" ---> Running in 1e36a3ac7f74\n"),
            stream("Step 9/9 : o"),
            stream("ut\n"),
            stream("\u{1b}[91merr\n\u{1b}[0m"),
            stream("tail"),
            stream("Removing intermediate container 1e36a3ac7f74\n"),
            stream(" ---> aaaaaaaaaaaa\n"),
            aux("a"),
            stream("Step 3/4 : FROM busybox"),
            stream(" ---> 568104583eb7\n"),
            stream("Step 4/5 : COPY --from=one /x /"),
            stream(" ---> bbbbbbbbbbbb\n"),
            stream("Step 5/5 : RUN false"),
            stream(" ---> Running in 2e36a3ac7f74\n"),
        ]
    }

    #[test]
    fn tells_steps_from_what_they_write() {
        let mut classic = Classic::default();
        let lines: Vec<LogLine> = two_stages().iter().flat_map(|message| classic.decode(message)).collect();
        let of = |stream| lines.iter().filter(|l| l.stream == stream).map(|l| l.text.as_str()).collect::<Vec<_>>();
        assert_eq!(of(LogStream::Stdout), ["Step 9/9 : out", "tail"]);
        assert_eq!(of(LogStream::Stderr), ["err"]);
        assert!(of(LogStream::Progress).contains(&" ---> Running in 1e36a3ac7f74"));
        let err = lines.iter().find(|l| l.stream == LogStream::Stderr).expect("there is one");
        assert_eq!(err.step.as_deref(), Some("[2/4] RUN echo out; echo err >&2"));
    }

    #[test]
    fn knows_which_images_nothing_names() {
        let mut classic = Classic::default();
        for message in two_stages() {
            classic.decode(&message);
        }
        let stage_one = format!("sha256:{}", "a".repeat(64));
        assert_eq!(classic.unnamed(false), [stage_one.clone(), "bbbbbbbbbbbb".into()]);
        classic.decode(&aux("b"));
        assert_eq!(classic.unnamed(true), [stage_one]);
        assert_eq!(classic.image().map(Digest::as_str), Some(format!("sha256:{}", "b".repeat(64)).as_str()));
    }

    #[test]
    fn knows_the_container_of_the_step_at_hand() {
        let (mut classic, mut told) = (Classic::default(), Vec::new());
        for message in two_stages() {
            classic.decode(&message);
            told.extend(classic.container().map(str::to_owned).filter(|id| told.last() != Some(id)));
        }
        assert_eq!(told, ["1e36a3ac7f74", "2e36a3ac7f74"]);
        classic.decode(&stream("Removing intermediate container 2e36a3ac7f74\n"));
        assert_eq!(classic.container(), None);
    }

    #[test]
    fn base_images_and_cached_ones_are_not_the_builds() {
        let mut classic = Classic::default();
        for text in ["Step 1/2 : from busybox", " ---> 568104583eb7\n"] {
            classic.decode(&stream(text));
        }
        assert!(classic.unnamed(false).is_empty());
        for text in ["Step 2/2 : RUN true", " ---> Using cache\n", " ---> cccccccccccc\n"] {
            classic.decode(&stream(text));
        }
        assert!(classic.unnamed(false).is_empty());
    }
}
