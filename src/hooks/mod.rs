//! Webhooks: an owner's own services are told of the ends of its builds.
//!
//! ```text
//! the commit that ends a build ──▶ Store::ended ──▶ a delivery for each webhook that wants it ──▶ tries, until one succeeds
//!                                                   (its body as the build was then)             (or it is given up)
//! ```
//!
//! [`deliver`] takes from one to the next, each durable before the former goes: what has ended is told at least once, under one id,
//! wherever the process is killed. [`send`] is one try.

mod deliver;
mod due;
mod send;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::auth::Principal;
use crate::domain::{
    Delivery, DeliveryId, DeliveryState, DueDelivery, HookEvent, ImageRef, Owner, Scope, Timestamp, Webhook, WebhookId, limits,
};
use crate::egress::Egress;
use crate::error::{Error, FieldError, Result};
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};
use crate::store::{Store, StoreError};
use crate::vault::Vault;

pub use deliver::{Dispatcher, HookSettings, Render};

/// How long a delivery is kept, unless newer ones push it out before.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Random bytes of a secret that we make.
const SECRET_BYTES: usize = 32;
/// How often a change is tried when others change the same.
const TRIES: usize = 20;

/// The use-cases of webhooks.
pub struct Hooks {
    store: Store,
    vault: Arc<Vault>,
    egress: Egress,
}

/// What is to be different of a webhook; what is absent stays.
#[derive(Default)]
pub struct WebhookChange {
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    /// `Some(None)`: any.
    pub project: Option<Option<String>>,
    /// `Some(None)`: any.
    pub image: Option<Option<String>>,
    pub secret: Option<SecretString>,
    pub enabled: Option<bool>,
}

impl Hooks {
    #[must_use]
    pub fn new(store: Store, vault: Arc<Vault>, egress: Egress) -> Self {
        Self { store, vault, egress }
    }

    /// A page of what the caller may see, newest first; `owner` narrows it. Whether there are older ones.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn list(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Object<Webhook>>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::Webhook, owner, parent: None, before, limit };
        Ok(self.store.objects(&query).await?)
    }

    /// # Errors
    /// [`Error::NotFound`] when the caller may not see such a webhook.
    pub async fn get(&self, caller: &Principal, id: WebhookId) -> Result<Object<Webhook>> {
        let found = self.store.object(&caller.scope(), Kind::Webhook, &id.to_string()).await?;
        found.ok_or(Error::NotFound("webhook"))
    }

    /// Makes a webhook of the caller's own; its secret with it, when the caller has named none.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all that is wrong; [`Error::TooMany`] when the owner has [`limits::WEBHOOKS`] already.
    pub async fn make(
        &self,
        caller: &Principal,
        id: WebhookId,
        mut change: WebhookChange,
    ) -> Result<(Webhook, Option<SecretString>)> {
        let (owner, now) = (caller.owner.clone(), Timestamp::now());
        let made = change.secret.is_none().then(|| SecretString::from(format!("whsec_{}", hex::encode(random_secret()))));
        change.secret = change.secret.or_else(|| made.clone());
        change.url = Some(change.url.unwrap_or_default());
        let mut webhook = Webhook {
            id,
            owner: owner.clone(),
            url: String::new(),
            events: HookEvent::OF_BUILDS.to_vec(),
            project: None,
            image: None,
            enabled: true,
            disabled_reason: None,
            failing_since: None,
            sealed: String::new(),
            created_at: now,
            updated_at: now,
        };
        self.apply(&mut webhook, &change).await?;
        let guard = format!("webhooks/{owner}");
        for _ in 0..TRIES {
            let known = self.store.object::<Timestamp>(&Scope::All, Kind::Guard, &guard).await?;
            let expect = known.map_or(Expect::Absent, |object| Expect::Revision(object.revision));
            let own = self.store.all_objects::<Webhook>(&Scope::Owner(owner.clone()), Kind::Webhook).await?;
            if own.iter().filter(|object| object.body.id != id).count() >= limits::WEBHOOKS {
                return Err(Error::over_quota("webhooks", limits::WEBHOOKS as u64, own.len() as u64));
            }
            let put = Write::put(Kind::Webhook, id.to_string(), &owner, Expect::Anything, &webhook);
            match self.store.commit(&[Write::put(Kind::Guard, &guard, &owner, expect, &now), put]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|()| (webhook, made))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Changes a webhook. What waits to be delivered goes where it says from now on; one that the service has disabled begins anew.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] with all that is wrong.
    pub async fn change(&self, caller: &Principal, id: WebhookId, change: &WebhookChange) -> Result<Webhook> {
        for _ in 0..TRIES {
            let object = self.get(caller, id).await?;
            let mut webhook = object.body;
            self.apply(&mut webhook, change).await?;
            webhook.updated_at = Timestamp::now();
            let expect = Expect::Revision(object.revision);
            match self.store.commit(&[Write::put(Kind::Webhook, object.id, &object.owner, expect, &webhook)]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|()| webhook)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn apply(&self, webhook: &mut Webhook, change: &WebhookChange) -> Result<()> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, why: String| faults.push(FieldError::new(field, why));
        if let Some(url) = &change.url {
            match self.checked_url(url).await {
                Ok(url) => webhook.url = url,
                Err(why) => fault("url", why),
            }
        }
        match change.events.as_deref().map(events).transpose() {
            Ok(events) => webhook.events = events.unwrap_or_else(|| webhook.events.clone()),
            Err(why) => fault("events", why),
        }
        if let Some(project) = &change.project {
            if project.as_ref().is_some_and(|name| !(1..=limits::PROJECT_BYTES).contains(&name.len())) {
                fault("project", format!("must have 1 to {} bytes", limits::PROJECT_BYTES));
            }
            webhook.project.clone_from(project);
        }
        match change.image.clone().map(|image| image.map(|text| image_filter(&text)).transpose()).transpose() {
            Ok(image) => webhook.image = image.unwrap_or_else(|| webhook.image.clone()),
            Err(why) => fault("image", why),
        }
        if let Some(secret) = &change.secret {
            let plain = secret.expose_secret();
            if !(16..=256).contains(&plain.len()) || !plain.bytes().all(|b| b.is_ascii_graphic()) {
                fault("secret", "must have 16 to 256 visible ASCII characters".into());
            }
            let purpose = Webhook::purpose(&webhook.owner, webhook.id);
            webhook.sealed = STANDARD.encode(self.vault.seal(&purpose, plain.as_bytes()));
        }
        if let Some(enabled) = change.enabled {
            if enabled && !webhook.enabled {
                (webhook.disabled_reason, webhook.failing_since) = (None, None);
            }
            webhook.enabled = enabled;
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid { code: "invalid_webhook", fields: faults }) }
    }

    /// The address in its one spelling. Where it leads is looked at again at each delivery.
    async fn checked_url(&self, text: &str) -> std::result::Result<String, String> {
        if text.len() > limits::WEBHOOK_URL_BYTES {
            return Err(format!("may have at most {} bytes", limits::WEBHOOK_URL_BYTES));
        }
        let url = Url::parse(text).map_err(|why| format!("is no address: {why}"))?;
        let (host, port) = send::place(&url).ok_or("must begin with https:// or http://, and name a host")?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("must hold no user, password or fragment: the receiver knows us by the signature".into());
        }
        self.egress.resolve(host, port).await.map_err(|why| why.to_string())?;
        Ok(url.into())
    }

    /// Removes a webhook, with its history and what waits to be delivered.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove(&self, caller: &Principal, id: WebhookId) -> Result<()> {
        let object = self.get(caller, id).await?;
        self.store.commit(&[Write::remove(Kind::Webhook, object.id, Expect::Anything)]).await?;
        Ok(drop_deliveries(&self.store, id, None, |_| true).await?)
    }

    /// A page of a webhook's deliveries, newest first; whether there are older ones.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn deliveries(
        &self,
        caller: &Principal,
        id: WebhookId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Object<Delivery>>, bool)> {
        self.get(caller, id).await?;
        let query = ObjectQuery { scope: caller.scope(), parent: Some(id.to_string()), before, limit, ..of_deliveries() };
        Ok(self.store.objects(&query).await?)
    }

    /// Tells again what was told before, in a delivery of its own.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `webhook_disabled`.
    pub async fn redeliver(&self, caller: &Principal, id: WebhookId, earlier: DeliveryId, new: DeliveryId) -> Result<Delivery> {
        let webhook = self.get(caller, id).await?;
        let found = self.store.object::<Delivery>(&caller.scope(), Kind::Delivery, &earlier.to_string()).await?;
        let earlier = found.filter(|object| object.body.webhook == id).ok_or(Error::NotFound("delivery"))?.body;
        if !webhook.body.enabled {
            return Err(Error::Conflict { code: "webhook_disabled", detail: "the webhook is disabled: enable it first".into() });
        }
        let first = earlier.redelivery_of.unwrap_or(earlier.id);
        let delivery =
            Delivery { build: earlier.build, redelivery_of: Some(first), ..fresh(new, id, earlier.event, earlier.body) };
        enqueue(&self.store, &webhook.owner, &delivery).await?;
        Ok(delivery)
    }

    /// Sends a test event, once; also to a webhook that is disabled.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn test(&self, caller: &Principal, id: WebhookId, new: DeliveryId) -> Result<Delivery> {
        let webhook = self.get(caller, id).await?;
        let delivery = fresh(new, id, HookEvent::Test, body(HookEvent::Test, &Value::Null));
        enqueue(&self.store, &webhook.owner, &delivery).await?;
        Ok(delivery)
    }
}

fn random_secret() -> [u8; SECRET_BYTES] {
    rand::random()
}

fn events(names: &[String]) -> std::result::Result<Vec<HookEvent>, String> {
    let known = || HookEvent::OF_BUILDS.map(HookEvent::as_str).join(", ");
    if names.is_empty() {
        return Err(format!("must name at least one of {}", known()));
    }
    let named = |name: &String| HookEvent::OF_BUILDS.into_iter().find(|event| event.as_str() == name);
    let mut events: Vec<HookEvent> = names
        .iter()
        .map(|name| named(name).ok_or_else(|| format!("{name:?} is none of {}", known())))
        .collect::<Result<_, _>>()?;
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

/// With a tag exactly that destination, else any tag of the repository.
fn image_filter(text: &str) -> std::result::Result<String, String> {
    let image: ImageRef = text.parse().map_err(|why| format!("{text:?} {why}"))?;
    let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    Ok(if tagged { image.to_string() } else { image.repository() })
}

/// What is sent. The delivery's id is not in it, but in a header, so that telling it again sends the same.
fn body(event: HookEvent, build: &Value) -> String {
    json!({"event": event.as_str(), "created_at": Timestamp::now().to_string(), "build": build}).to_string()
}

fn fresh(id: DeliveryId, webhook: WebhookId, event: HookEvent, body: String) -> Delivery {
    let now = Timestamp::now();
    Delivery {
        id,
        webhook,
        event,
        build: None,
        redelivery_of: None,
        body,
        state: DeliveryState::Pending,
        attempts: Vec::new(),
        next_at: Some(now),
        created_at: now,
    }
}

/// Makes a delivery, unless there is one of that id; the oldest ones beyond the bounds go.
async fn enqueue(store: &Store, owner: &Owner, delivery: &Delivery) -> Result<(), StoreError> {
    let (id, webhook) = (delivery.id.to_string(), delivery.webhook.to_string());
    let due = DueDelivery { at: delivery.next_at.unwrap_or(delivery.created_at) };
    let writes = [
        Write::put(Kind::Delivery, &id, owner, Expect::Absent, delivery).under(&webhook).keep(KEPT),
        Write::put(Kind::DueDelivery, &id, owner, Expect::Absent, &due),
    ];
    match store.commit(&writes).await {
        // It was begun before, by a process that was then killed.
        Err(StoreError::Conflict) => return Ok(()),
        other => other?,
    }
    let done = |delivery: &Delivery| delivery.state != DeliveryState::Pending;
    for (most, goes) in
        [(limits::DELIVERIES, &done as &(dyn Fn(&Delivery) -> bool + Sync)), (limits::DELIVERIES_WAITING, &|_| true)]
    {
        if let Some(oldest) = store.order_at(Kind::Delivery, &webhook, most - 1).await? {
            drop_deliveries(store, delivery.webhook, Some(oldest), goes).await?;
        }
    }
    Ok(())
}

fn of_deliveries() -> ObjectQuery {
    ObjectQuery { limit: limits::PAGE, ..ObjectQuery::one(Kind::Delivery) }
}

/// Removes the deliveries of a webhook that were made before one ([`Object::order`]), as far as they are to go.
async fn drop_deliveries(
    store: &Store,
    webhook: WebhookId,
    mut before: Option<u64>,
    goes: impl Fn(&Delivery) -> bool + Sync,
) -> Result<(), StoreError> {
    loop {
        let query = ObjectQuery { parent: Some(webhook.to_string()), before, ..of_deliveries() };
        let (page, more) = store.objects::<Delivery>(&query).await?;
        before = page.last().map(|object| object.order);
        let gone = page.into_iter().filter(|object| goes(&object.body));
        let writes: Vec<Write> = gone
            .flat_map(|object| [Kind::Delivery, Kind::DueDelivery].map(|kind| Write::remove(kind, &object.id, Expect::Anything)))
            .collect();
        if !writes.is_empty() {
            store.commit(&writes).await?;
        }
        if !more {
            return Ok(());
        }
    }
}
