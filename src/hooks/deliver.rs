//! From the end of a build to its deliveries, and each of those until it is taken or given up. One process of a store does it at a time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretBox;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::due::Waiting;
use super::{body, enqueue, fresh, send};
use crate::domain::{
    Attempt, BuildId, BuildRecord, Delivery, DeliveryId, DeliveryState, DueDelivery, HookEvent, Owner, Scope, Timestamp, Webhook,
};
use crate::egress::Egress;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};
use crate::store::{Ended, Store, StoreError, Topic};
use crate::vault::Vault;

/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The pause after the store has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The lock of whoever delivers. A process that is killed holds up the others for so long; longer than a try.
const LOCK: &str = "webhooks";
const LOCKED: Duration = Duration::from_secs(15);
/// Ends that are made into deliveries in one step.
const ENDS: usize = 100;
/// Tries under way at once, and those of one owner: a receiver that hangs holds up only its own. An owner who has none under way always
/// gets one, up to a bound that only hundreds of owners reach whose receivers all hang.
const TRIES: usize = 32;
const TRIES_OF_OWNER: usize = 4;
const TRIES_AT_MOST: usize = 512;

/// A build as the interface shows it.
pub type Render = Arc<dyn Fn(&BuildRecord) -> Value + Send + Sync>;

/// What an operator sets on webhooks.
#[derive(Debug, Clone, Copy)]
pub struct HookSettings {
    /// The pause after the first try of a delivery; later ones are longer.
    pub first_retry: Duration,
    /// A webhook that has failed for so long is disabled.
    pub disable_after: Duration,
}

/// Tells webhooks of ended builds.
pub struct Dispatcher {
    store: Store,
    vault: Arc<Vault>,
    egress: Egress,
    render: Render,
    settings: HookSettings,
    holder: String,
    // A std mutex, for it is never held across an await.
    under_way: Mutex<HashMap<DeliveryId, Owner>>,
    waiting: Waiting,
    /// Ended builds that this version cannot read.
    left: Mutex<HashSet<BuildId>>,
    tasks: TaskTracker,
}

impl Dispatcher {
    #[must_use]
    pub fn new(store: Store, vault: Arc<Vault>, egress: Egress, render: Render, settings: HookSettings) -> Arc<Self> {
        Arc::new(Self {
            store,
            vault,
            egress,
            render,
            settings,
            holder: uuid::Uuid::new_v4().simple().to_string(),
            under_way: Mutex::default(),
            waiting: Waiting::default(),
            left: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs [`Dispatcher::deliver_once`] whenever there may be something to do, until `stop`. What is under way then is told again at the
    /// next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut woken = self.store.wakes().subscribe(Topic::Hooks);
        while !stop.is_cancelled() {
            let nap = match self.deliver_once(&stop).await {
                Ok(Some(next)) => next.since(Timestamp::now()).min(LOOK_AGAIN),
                Ok(None) => LOOK_AGAIN,
                Err(error) => {
                    tracing::debug!(%error, "webhooks wait");
                    tokio::select! { () = tokio::time::sleep(AFTER_FAILURE) => {} () = stop.cancelled() => {} }
                    Duration::ZERO
                }
            };
            tokio::select! { () = woken.woken(nap) => {} () = stop.cancelled() => {} }
        }
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.store.unlock(LOCK, &self.holder).await {
            tracing::debug!(%error, "the lock of webhooks ends by itself");
        }
    }

    /// Makes deliveries of the builds that have ended and begins what is due; answers when more will be.
    ///
    /// # Errors
    /// When the store is away; nothing is lost by it.
    pub async fn deliver_once(self: &Arc<Self>, stop: &CancellationToken) -> Result<Option<Timestamp>, StoreError> {
        let idle = self.ended(1).await?.is_empty() && !self.any_waits().await?;
        if idle || !self.store.lock(LOCK, &self.holder, LOCKED).await? {
            self.waiting.forget();
            return Ok(None);
        }
        self.take_ends().await?;
        self.begin_due(stop).await
    }

    async fn take_ends(&self) -> Result<(), StoreError> {
        loop {
            let ended = self.ended(ENDS).await?;
            let mut told = Vec::new();
            for Ended { build, record } in &ended {
                match record {
                    Some(record) => {
                        self.announce(record).await?;
                        told.push(*build);
                    }
                    None => self.leave(*build),
                }
            }
            self.store.ended_done(&told).await?;
            if ended.len() < ENDS {
                return Ok(());
            }
        }
    }

    /// The first ends to be told of, without those that are left to a version that can read them.
    async fn ended(&self, most: usize) -> Result<Vec<Ended>, StoreError> {
        let left = self.left().clone();
        let mut ended = self.store.ended(most + left.len()).await?;
        ended.retain(|end| !left.contains(&end.build));
        Ok(ended)
    }

    fn leave(&self, build: BuildId) {
        tracing::error!(%build, "a build has ended, and this version cannot read its record: its webhooks are told by one that can");
        self.left().insert(build);
    }

    fn left(&self) -> MutexGuard<'_, HashSet<BuildId>> {
        self.left.lock().expect("not poisoned, because nothing panics while it is held")
    }

    async fn announce(&self, record: &BuildRecord) -> Result<(), StoreError> {
        let shown = (self.render)(record);
        let webhooks = self.store.all_objects::<Webhook>(&Scope::Owner(record.owner.clone()), Kind::Webhook).await?;
        for Object { body: webhook, .. } in webhooks {
            let Some(event) = webhook.event_of(record) else { continue };
            let id = DeliveryId::of_end(webhook.id, record.id);
            let delivery = Delivery { build: Some(record.id), ..fresh(id, webhook.id, event, body(event, &shown)) };
            enqueue(&self.store, &webhook.owner, &delivery).await?;
        }
        Ok(())
    }

    async fn any_waits(&self) -> Result<bool, StoreError> {
        Ok(!self.store.objects::<DueDelivery>(&ObjectQuery::one(Kind::DueDelivery)).await?.0.is_empty())
    }

    /// Begins the tries whose time has come, the longest due first; answers when the next one's comes.
    async fn begin_due(self: &Arc<Self>, stop: &CancellationToken) -> Result<Option<Timestamp>, StoreError> {
        self.waiting.look(&self.store).await?;
        let (due, later) = self.waiting.due(Timestamp::now());
        for (id, owner) in due {
            if self.admit(id, &owner) {
                let (own, stop) = (Arc::clone(self), stop.clone());
                self.tasks.spawn(async move {
                    tokio::select! {
                        tried = own.attempt(id) => if let Err(error) = tried {
                            tracing::debug!(delivery = %id, %error, "what came of a delivery is not noted: it is told again");
                        },
                        () = stop.cancelled() => {}
                    }
                    own.under_way().remove(&id);
                    // Another one of the same owner may wait for this place.
                    own.store.wakes().wake(Topic::Hooks);
                });
            }
        }
        Ok(later)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<DeliveryId, Owner>> {
        self.under_way.lock().expect("not poisoned, because nothing panics while it is held")
    }

    /// Whether this one is begun now.
    fn admit(&self, id: DeliveryId, owner: &Owner) -> bool {
        let mut under_way = self.under_way();
        let of_owner = under_way.values().filter(|other| *other == owner).count();
        let most = if of_owner == 0 { TRIES_AT_MOST } else { TRIES };
        if under_way.contains_key(&id) || under_way.len() >= most || of_owner >= TRIES_OF_OWNER {
            return false;
        }
        under_way.insert(id, owner.clone());
        true
    }

    async fn attempt(&self, id: DeliveryId) -> Result<(), StoreError> {
        let name = id.to_string();
        let gone = || [Kind::Delivery, Kind::DueDelivery].map(|kind| Write::remove(kind, &name, Expect::Anything));
        let Some(found) = self.store.object::<Delivery>(&Scope::All, Kind::Delivery, &name).await? else {
            self.waiting.set(id, None);
            return self.store.commit(&gone()).await;
        };
        let (owner, expect, mut delivery) = (found.owner, Expect::Revision(found.revision), found.body);
        if delivery.next_at.is_none_or(|at| at > Timestamp::now()) {
            // It was tried since the list was read.
            self.waiting.set(id, delivery.next_at);
            return Ok(());
        }
        let webhook = self.store.object::<Webhook>(&Scope::All, Kind::Webhook, &delivery.webhook.to_string()).await?;
        let Some(Object { body: webhook, .. }) = webhook else {
            self.waiting.set(id, None);
            return self.store.commit(&gone()).await;
        };
        if webhook.enabled || delivery.event == HookEvent::Test {
            self.try_once(&webhook, &mut delivery).await;
        } else {
            delivery.given_up("the webhook is disabled", Timestamp::now());
        }
        let due = match delivery.next_at {
            Some(at) => Write::put(Kind::DueDelivery, &name, &owner, Expect::Anything, &DueDelivery { at }),
            None => Write::remove(Kind::DueDelivery, &name, Expect::Anything),
        };
        let put = Write::put(Kind::Delivery, &name, &owner, expect, &delivery).keep_as_it_is();
        match self.store.commit(&[put, due]).await {
            // It was removed, or another process has tried it meanwhile.
            Err(StoreError::Conflict) => return Ok(()),
            other => other?,
        }
        self.waiting.set(id, delivery.next_at);
        if delivery.event == HookEvent::Test { Ok(()) } else { self.note_health(&webhook, &delivery).await }
    }

    async fn try_once(&self, webhook: &Webhook, delivery: &mut Delivery) {
        let sent = match self.secret(webhook) {
            Ok(secret) => send::send(&self.egress, &webhook.url, &secret, delivery).await,
            Err(error) => {
                tracing::error!(webhook = %webhook.id, %error, "the secret of a webhook cannot be opened");
                let error = Some("the webhook's secret cannot be opened: set a new one".to_owned());
                let attempt = Attempt { at: Timestamp::now(), duration_ms: 0, status: None, error, answer: String::new() };
                send::Sent { attempt, retry_after: None }
            }
        };
        delivery.tried(sent.attempt, self.settings.first_retry, rand::random(), sent.retry_after);
    }

    fn secret(&self, webhook: &Webhook) -> anyhow::Result<SecretBox<Vec<u8>>> {
        self.vault.open(&Webhook::purpose(&webhook.owner, webhook.id), &STANDARD.decode(&webhook.sealed)?)
    }

    /// Remembers since when a webhook has failed, and disables it when that is long ago.
    async fn note_health(&self, webhook: &Webhook, delivery: &Delivery) -> Result<(), StoreError> {
        let Some(last) = delivery.attempts.last() else { return Ok(()) };
        if (last.succeeded() && webhook.failing_since.is_none()) || !webhook.enabled {
            return Ok(());
        }
        let id = webhook.id.to_string();
        let Some(object) = self.store.object::<Webhook>(&Scope::All, Kind::Webhook, &id).await? else { return Ok(()) };
        let mut now = object.body.clone();
        if delivery.state == DeliveryState::Delivered {
            now.failing_since = None;
        } else {
            let since = *now.failing_since.get_or_insert(last.at);
            if last.at.since(since) >= self.settings.disable_after {
                now.enabled = false;
                let why = last.error.as_deref().unwrap_or_default();
                now.disabled_reason = Some(format!("every delivery since {since} has failed; the last one: {why}"));
                tracing::warn!(webhook = %now.id, owner = %now.owner, "a webhook has failed for too long and is disabled");
            }
        }
        if now == object.body {
            return Ok(());
        }
        let put = Write::put(Kind::Webhook, id, &object.owner, Expect::Revision(object.revision), &now);
        match self.store.commit(&[put]).await {
            // Its owner changes it: the next try notes it.
            Err(StoreError::Conflict) => Ok(()),
            other => other,
        }
    }
}
