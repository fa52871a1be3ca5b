//! Where an owner wants to be told of the ends of builds, and what was told.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    BuildId, BuildRecord, BuildState, DeliveryId, Destination, DestinationState, ImageRef, Owner, Timestamp, WebhookId, limits,
};

/// Longest pause between two tries of a delivery.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookEvent {
    /// Pushed to every destination that no younger build has: of those that the webhook is for, to one at least.
    #[serde(rename = "build.published")]
    Published,
    /// Built, and asked not to push.
    #[serde(rename = "build.built")]
    Built,
    #[serde(rename = "build.failed")]
    Failed,
    #[serde(rename = "build.cancelled")]
    Cancelled,
    /// A younger build took its place, or has all of its tags that the webhook is for.
    #[serde(rename = "build.superseded")]
    Superseded,
    /// Somebody tries the webhook.
    #[serde(rename = "webhook.test")]
    Test,
}

impl HookEvent {
    /// Those that a webhook can be for.
    pub const OF_BUILDS: [Self; 5] = [Self::Published, Self::Built, Self::Failed, Self::Cancelled, Self::Superseded];

    /// The name that clients and receivers see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "build.published",
            Self::Built => "build.built",
            Self::Failed => "build.failed",
            Self::Cancelled => "build.cancelled",
            Self::Superseded => "build.superseded",
            Self::Test => "webhook.test",
        }
    }

    /// How a build has ended for whoever looks at these of its destinations; none while it is live.
    #[must_use]
    pub fn of(record: &BuildRecord, concerns: impl Fn(&ImageRef) -> bool) -> Option<Self> {
        let superseded = |d: &Destination| d.state == DestinationState::Superseded;
        let mut seen = record.destinations.iter().filter(|d| concerns(&d.image)).peekable();
        match record.state {
            BuildState::Published if seen.peek().is_some() && seen.all(superseded) => Some(Self::Superseded),
            BuildState::Cancelled if record.is_superseded() => Some(Self::Superseded),
            BuildState::Published => Some(Self::Published),
            BuildState::Built => Some(Self::Built),
            BuildState::Failed => Some(Self::Failed),
            BuildState::Cancelled => Some(Self::Cancelled),
            BuildState::Queued | BuildState::Building | BuildState::Pushing => None,
        }
    }
}

/// An address that is told of the ends of an owner's builds. What the bodies are signed with is sealed, bound to owner and id.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub owner: Owner,
    /// `http` or `https`, without a user or a fragment.
    pub url: String,
    pub events: Vec<HookEvent>,
    /// Only builds of this project.
    pub project: Option<String>,
    /// Only builds that name this destination, `HOST/PATH`, or `HOST/PATH:TAG`.
    pub image: Option<String>,
    pub enabled: bool,
    /// Why the service itself has disabled it.
    pub disabled_reason: Option<String>,
    /// Since when no try has succeeded, if the last one has not.
    pub failing_since: Option<Timestamp>,
    /// Base64 of the sealed secret.
    pub sealed: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Webhook {
    /// What its secret is sealed for.
    #[must_use]
    pub fn purpose(owner: &Owner, id: WebhookId) -> String {
        format!("dockwright/webhook/v1/{owner}/{id}")
    }

    /// What it is to be told of this end, if anything.
    #[must_use]
    pub fn event_of(&self, record: &BuildRecord) -> Option<HookEvent> {
        let concerns = |image: &ImageRef| {
            let filter = self.image.as_deref();
            filter.is_none_or(|filter| filter == image.repository() || filter == image.to_string())
        };
        let ours = self.enabled
            && self.project.as_ref().is_none_or(|project| *project == record.spec.project)
            && (self.image.is_none() || record.spec.images.iter().any(concerns));
        HookEvent::of(record, concerns).filter(|event| ours && self.events.contains(event))
    }
}

impl fmt::Debug for Webhook {
    /// Without its address, which may hold a secret of the receiver's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Is still to be tried.
    Pending,
    /// The receiver took it (2xx).
    Delivered,
    /// Given up.
    Failed,
}

impl DeliveryState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub duration_ms: u64,
    /// The answer's HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// Why there was none, or none that counts.
    pub error: Option<String>,
    /// What the answer began with ([`limits::DELIVERY_ANSWER_BYTES`]).
    pub answer: String,
}

impl Attempt {
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        self.error.is_none()
    }
}

/// One event for one webhook, with all tries of telling it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub webhook: WebhookId,
    pub event: HookEvent,
    pub build: Option<BuildId>,
    /// The earlier one that this one tells again.
    pub redelivery_of: Option<DeliveryId>,
    /// What is sent, to the letter.
    pub body: String,
    pub state: DeliveryState,
    pub attempts: Vec<Attempt>,
    /// When it is tried next, while it is pending.
    pub next_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl Delivery {
    /// Notes how a try went, and whether and when there is another: after `first`, then after five times as long each time, at most 6 h,
    /// a fifth more or less by `chance` (0 to 1), and not before the receiver has asked for it (`retry_after`).
    pub fn tried(&mut self, attempt: Attempt, first: Duration, chance: f64, retry_after: Option<Duration>) {
        let most = if self.event == HookEvent::Test { 1 } else { limits::DELIVERY_TRIES };
        let done = attempt.at.plus(Duration::from_millis(attempt.duration_ms));
        let succeeded = attempt.succeeded();
        self.attempts.push(attempt);
        self.next_at = None;
        self.state = if succeeded {
            DeliveryState::Delivered
        } else if self.attempts.len() >= most {
            DeliveryState::Failed
        } else {
            let power = u32::try_from(self.attempts.len() - 1).unwrap_or(u32::MAX);
            let pause = first.saturating_mul(5_u32.saturating_pow(power)).min(LONGEST_PAUSE).mul_f64(0.8 + 0.4 * chance);
            self.next_at = Some(done.plus(pause.max(retry_after.unwrap_or_default()).min(LONGEST_PAUSE.mul_f64(1.2))));
            DeliveryState::Pending
        };
    }

    /// Is not tried any more.
    pub fn given_up(&mut self, why: &str, at: Timestamp) {
        let error = Some(why.to_owned());
        self.attempts.push(Attempt { at, duration_ms: 0, status: None, error, answer: String::new() });
        self.next_at = None;
        self.state = DeliveryState::Failed;
    }
}

/// A delivery that is still to be tried: small, so that all of them can be looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueDelivery {
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(event: HookEvent) -> Delivery {
        Delivery {
            id: DeliveryId::new(),
            webhook: WebhookId::new(),
            event,
            build: None,
            redelivery_of: None,
            body: String::new(),
            state: DeliveryState::Pending,
            attempts: Vec::new(),
            next_at: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn failure() -> Attempt {
        let error = Some("refused".into());
        Attempt { at: Timestamp::from_millis(0), duration_ms: 0, status: Some(500), error, answer: String::new() }
    }

    #[test]
    fn the_pauses_grow_from_seconds_to_hours_and_end() {
        let mut pauses = Vec::new();
        let mut delivery = delivery(HookEvent::Failed);
        while delivery.state == DeliveryState::Pending {
            delivery.tried(failure(), Duration::from_secs(5), 0.5, None);
            pauses.extend(delivery.next_at.map(|at| at.as_millis() / 1000));
        }
        assert_eq!(pauses, [5, 25, 125, 625, 3125, 15625, 21600, 21600, 21600, 21600, 21600]);
        assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::Failed, limits::DELIVERY_TRIES));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever_and_a_test_is_made_once() {
        for (asked, waits) in [(1, 4), (60, 60), (1_000_000, 25_920)] {
            let mut delivery = delivery(HookEvent::Built);
            delivery.tried(failure(), Duration::from_secs(5), 0.0, Some(Duration::from_secs(asked)));
            assert_eq!(delivery.next_at.map(|at| at.as_millis() / 1000), Some(waits));
        }
        let mut test = delivery(HookEvent::Test);
        test.tried(failure(), Duration::from_secs(5), 0.0, None);
        assert_eq!((test.state, test.next_at), (DeliveryState::Failed, None));
    }

    #[test]
    fn an_end_has_one_delivery_a_webhook() {
        let (webhook, build) = (WebhookId::new(), BuildId::new());
        let id = DeliveryId::of_end(webhook, build);
        assert_eq!(id, DeliveryId::of_end(webhook, build));
        assert_ne!(id, DeliveryId::of_end(WebhookId::new(), build));
        assert_ne!(id, DeliveryId::of_end(webhook, BuildId::new()));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
