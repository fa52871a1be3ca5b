//! What is known of a push from what the engine says: whether it may be tried again, and whether it is past stopping.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::client::Refusal;
use super::publisher::PushPolicy;
use tokio::sync::watch;

use crate::domain::{ImageRef, LogLine, LogStream, Transfer};
use crate::engine::{Lines, Result};

/// Longest wait that a registry's `Retry-After` is granted.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How an engine says that a layer is at the registry.
const LAYER_DONE: [&str; 4] = ["Pushed", "Layer already exists", "Mounted from", "Skipped foreign layer"];

/// How far a publish is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often it was tried, this one included.
    pub attempts: u32,
    /// Of this try; `None` before the engine has told of any.
    pub bytes: Option<Transfer>,
}

/// The tries of one publish, and what is waited between them.
pub(super) struct Tries<'a> {
    delays: backon::ExponentialBackoff,
    destination: &'a ImageRef,
    lines: &'a Lines,
    told: &'a watch::Sender<Progress>,
    /// The engine repeats parts of a push itself, for the better part of a minute; after that we try only once more.
    engine_repeats: bool,
}

impl<'a> Tries<'a> {
    pub(super) fn new(
        policy: PushPolicy,
        destination: &'a ImageRef,
        lines: &'a Lines,
        told: &'a watch::Sender<Progress>,
    ) -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(policy.base_delay)
            .with_max_delay(LONGEST_WAIT)
            .with_max_times(policy.attempts.saturating_sub(1))
            .with_jitter()
            .build();
        Self { delays, destination, lines, told, engine_repeats: false }
    }

    /// A try begins.
    pub(super) fn begin(&self) {
        self.told.send_modify(|told| *told = Progress { attempts: told.attempts + 1, bytes: None });
    }

    pub(super) fn sent(&self, bytes: Option<Transfer>) {
        self.told.send_if_modified(|told| std::mem::replace(&mut told.bytes, bytes) != bytes);
    }

    pub(super) fn heard(&mut self, line: &LogLine) {
        self.engine_repeats |= line.text.contains("Retrying in ");
    }

    /// Waits for the next try, or answers the error when there is to be none.
    pub(super) async fn again(&mut self, refusal: Refusal) -> Result<()> {
        let Refusal { error, retry_after } = refusal;
        let delay = if error.transient { self.delays.next() } else { None };
        let Some(delay) = delay else { return Err(error) };
        if std::mem::take(&mut self.engine_repeats) {
            self.delays.by_ref().for_each(drop);
        }
        let delay = delay.max(retry_after.unwrap_or_default()).min(LONGEST_WAIT);
        let text = format!("{}: {error}; trying again in {:.1} s", self.destination, delay.as_secs_f64());
        let _ = self.lines.send(LogLine { stream: LogStream::System, step: None, text }).await;
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Destinations whose push was dropped when all layers were at the registry: what is left then, the manifest, the engine
/// sends without listening for a cancel.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<Mutex<HashSet<String>>>);

impl Commits {
    fn with<T>(&self, change: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A push begins.
    pub(super) fn begin(&self, destination: &ImageRef) -> Layers {
        let destination = destination.to_string();
        self.with(|all| all.remove(&destination));
        Layers { commits: self.clone(), destination, done: HashMap::new(), sizes: HashMap::new() }
    }

    /// Whether the last push there was dropped in that state; forgets it.
    pub(super) fn was_committing(&self, destination: &ImageRef) -> bool {
        self.with(|all| all.remove(&destination.to_string()))
    }
}

/// The layers of one push, by what the engine says of them (`5f70bf18a086: Layer already exists`).
pub(super) struct Layers {
    commits: Commits,
    destination: String,
    done: HashMap<String, bool>,
    /// Of those that are sent.
    sizes: HashMap<String, Transfer>,
}

impl Layers {
    pub(super) fn heard(&mut self, text: &str) {
        let Some((layer, status)) = text.split_once(": ").filter(|(layer, _)| is_layer(layer)) else { return };
        if let Some(size) = status.strip_prefix("Pushing ").and_then(transfer) {
            self.sizes.insert(layer.to_owned(), size);
        } else if let Some(size) = self.sizes.get_mut(layer).filter(|_| status.starts_with("Pushed")) {
            size.done = size.total;
        }
        self.done.insert(layer.to_owned(), LAYER_DONE.iter().any(|done| status.starts_with(done)));
        let all = self.done.values().all(|done| *done);
        self.commits
            .with(|commits| if all { commits.insert(self.destination.clone()) } else { commits.remove(&self.destination) });
    }

    /// All that is sent, together.
    pub(super) fn bytes(&self) -> Option<Transfer> {
        let add = |a: Transfer, b: &Transfer| Transfer { total: a.total + b.total, done: a.done + b.done };
        (!self.sizes.is_empty()).then(|| self.sizes.values().fold(Transfer::default(), add))
    }

    /// The engine has told how it ended.
    pub(super) fn ended(self) {
        self.commits.with(|all| all.remove(&self.destination));
    }
}

/// `1.00MB/2.00MB`, or `1.00MB` while the whole is not known.
fn transfer(text: &str) -> Option<Transfer> {
    let (done, total) = text.split_once('/').unwrap_or((text, text));
    let (done, total) = (size(done)?, size(total)?);
    Some(Transfer { total: total.max(done), done })
}

/// Bytes as Docker writes them: `512B`, `1.98MB`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "three digits are told, and none below zero")]
fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 5] = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("B", 1.0)];
    let text = text.trim();
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| (number * unit).round() as u64)
}

/// Layers are told by twelve hexadecimal digits.
fn is_layer(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_added_up_over_the_layers() {
        let commits = Commits::default();
        let mut layers = commits.begin(&"r.example/app:1".parse().expect("an image"));
        assert_eq!(layers.bytes(), None);
        for told in
            ["0123456789ab: Pushing 512B/1.00kB", "ba9876543210: Pushing 1.50MB/3.00MB", "cccccccccccc: Layer already exists"]
        {
            layers.heard(told);
        }
        assert_eq!(layers.bytes(), Some(Transfer { total: 3_001_000, done: 1_500_512 }));
        layers.heard("ba9876543210: Pushed");
        assert_eq!(layers.bytes(), Some(Transfer { total: 3_001_000, done: 3_000_512 }));
        assert_eq!([size("5.00GB"), size("x"), size("-1B")], [Some(5_000_000_000), None, None]);
    }

    #[test]
    fn a_push_is_past_stopping_when_all_its_layers_are_there() {
        let commits = Commits::default();
        let image: ImageRef = "r.example/app:1".parse().expect("an image");
        let heard = |texts: &[&str]| {
            let mut layers = commits.begin(&image);
            texts.iter().for_each(|text| layers.heard(text));
            drop(layers);
            commits.was_committing(&image)
        };
        let [a, b] = ["0123456789ab: ", "ba9876543210: "];
        let say = |layer: &str, status: &str| format!("{layer}{status}");
        assert!(!heard(&["The push refers to repository [r.example/app]"]));
        assert!(!heard(&[&say(a, "Preparing"), &say(b, "Preparing"), &say(a, "Pushed")]));
        assert!(heard(&[&say(a, "Preparing"), &say(b, "Preparing"), &say(a, "Layer already exists"), &say(b, "Pushed")]));
        assert!(!heard(&[&say(a, "Pushed"), &say(b, "Pushing 1.00MB/2.00MB")]));
        let mut layers = commits.begin(&image);
        layers.heard(&say(a, "Pushed"));
        layers.ended();
        assert!(!commits.was_committing(&image), "a push that has ended is not on its way");
    }
}
