//! Once more, when the service is away, or busy: what is done by a key, or changes nothing, may be asked for twice.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::upload::Sent;
use crate::client::{Lost, Refused};

/// The service holds the key of a request that was lost with its process for a minute.
const RETRIES: Duration = Duration::from_secs(75);

/// How long a service is waited for that does not do what it is asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Patience {
    /// An open stream of events says something, if only that it is there, more often than that.
    pub silence: Duration,
    /// Everything was sent, or nothing more of it is taken, and nothing is answered.
    pub answer: Duration,
    /// A build that is under way is not heard of.
    pub away: Duration,
    /// What failed is tried again.
    pub retries: Duration,
    /// Between two tries.
    pub pause: Duration,
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(45),
            answer: Duration::from_secs(120),
            away: Duration::from_secs(300),
            retries: RETRIES,
            pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// The usual one; what fails is tried again for this long.
    pub(super) fn with_retries(retries: Option<Duration>) -> Self {
        let usual = Self::default();
        Self { retries: retries.unwrap_or(usual.retries), ..usual }
    }
}

/// Does something until it is done, or would fail the same if it were tried again. `told` hears of the first failure that it is tried after.
///
/// # Errors
/// The last one.
pub(super) async fn again<T>(
    patience: &Patience,
    told: impl Fn(&anyhow::Error),
    mut once: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (mut pause, mut failed) = (patience.pause, None);
    loop {
        let error = match once().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let is_first = failed.is_none();
        let left = patience.retries.saturating_sub(failed.get_or_insert_with(Instant::now).elapsed());
        let Some(wait) = passes_in(&error).map(|asked| asked.max(pause)).filter(|wait| *wait <= left) else { return Err(error) };
        if is_first {
            told(&error);
        }
        sleep(wait).await;
        pause = (pause * 2).min(patience.longest_pause);
    }
}

/// When a fault may have passed; `None` for one that stays.
fn passes_in(error: &anyhow::Error) -> Option<Duration> {
    let Some(refused) = error.downcast_ref::<Refused>() else {
        // An address that is none stays none.
        let broken = error.chain().find_map(|cause| cause.downcast_ref::<reqwest::Error>());
        return broken.filter(|broken| !broken.is_builder()).map(|_| Duration::ZERO);
    };
    let is_passing = match (refused.status, refused.code.as_str()) {
        // A quota is full until something of the account's own ends.
        (429, "quota_exceeded") => false,
        // The first request with the same key.
        (409, "still_running") | (408 | 429 | 503, _) => true,
        // Of what stands before a service that is away.
        (502 | 504, code) => code == "unknown",
        _ => false,
    };
    is_passing.then(|| refused.retry_after.unwrap_or_default())
}

/// The answer; unless for this long nothing more of what is sent is taken, and nothing is answered.
///
/// # Errors
/// [`Lost::Silent`]; and those of the answer.
pub(super) async fn heard<T>(
    sent: &Sent,
    silence: Duration,
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::pin!(answer);
    let mut before = sent.bytes();
    loop {
        match timeout(silence, &mut answer).await {
            Ok(answer) => return answer,
            Err(_) if sent.bytes() == before && sent.is_due() => return Err(Lost::Silent(silence).into()),
            Err(_) => before = sent.bytes(),
        }
    }
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
