//! `/api/v1/webhooks`: where the caller wants to be told of the ends of its builds, and what was told.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::query::Query;
use super::{App, Caller, body, guard, replay};
use crate::domain::{Attempt, Delivery, HookEvent, InvalidId, Owner, Timestamp, Webhook};
use crate::error::{Error, Result};
use crate::hooks::WebhookChange;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/webhooks", get(list).post(make))
        .route("/api/v1/webhooks/{id}", get(one).patch(change).delete(remove))
        .route("/api/v1/webhooks/{id}/test", post(test))
        .route("/api/v1/webhooks/{id}/deliveries", get(deliveries))
        .route("/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver", post(redeliver))
}

/// A webhook, without its secret.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookView {
    #[schema(format = "uuid")]
    id: String,
    #[schema(value_type = String)]
    owner: Owner,
    url: String,
    events: Vec<&'static str>,
    /// Only builds of this project; null: of any.
    project: Option<String>,
    /// Only builds for this destination; without a tag, for any of the repository; null: for any.
    image: Option<String>,
    enabled: bool,
    /// Why the service has disabled it itself.
    disabled_reason: Option<String>,
    /// Since when no delivery has succeeded, if the last one has not.
    #[schema(value_type = Option<String>, format = "date-time")]
    failing_since: Option<Timestamp>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.to_string(),
            owner: webhook.owner,
            url: webhook.url,
            events: webhook.events.into_iter().map(HookEvent::as_str).collect(),
            project: webhook.project,
            image: webhook.image,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason,
            failing_since: webhook.failing_since,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

/// A new webhook with the secret that was made for it, which is shown only now; null when the caller has named one.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = NewWebhook)]
pub struct NewWebhookView {
    #[serde(flatten)]
    view: WebhookView,
    secret: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct WebhookPage {
    items: Vec<WebhookView>,
    next_cursor: Option<String>,
}

/// One try of a delivery.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DeliveryAttempt)]
struct AttemptView {
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    duration_ms: u64,
    /// Of the receiver's answer.
    status: Option<u16>,
    error: Option<String>,
    /// What the receiver's answer began with, at most 1 KiB.
    answer: String,
}

/// One event for one webhook.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = "uuid")]
    webhook: String,
    /// One of the webhook's, or `webhook.test`.
    event: &'static str,
    #[schema(format = "uuid")]
    build: Option<String>,
    /// The first delivery of what this one tells again.
    #[schema(format = "uuid")]
    redelivery_of: Option<String>,
    #[schema(pattern = "^(pending|delivered|failed)$")]
    state: &'static str,
    attempts: Vec<AttemptView>,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = "date-time")]
    next_at: Option<Timestamp>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let attempt = |Attempt { at, duration_ms, status, error, answer }| AttemptView { at, duration_ms, status, error, answer };
        Self {
            id: delivery.id.to_string(),
            webhook: delivery.webhook.to_string(),
            event: delivery.event.as_str(),
            build: delivery.build.map(|id| id.to_string()),
            redelivery_of: delivery.redelivery_of.map(|id| id.to_string()),
            state: delivery.state.as_str(),
            attempts: delivery.attempts.into_iter().map(attempt).collect(),
            next_at: delivery.next_at,
            created_at: delivery.created_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct DeliveryPage {
    items: Vec<DeliveryView>,
    next_cursor: Option<String>,
}

/// A new webhook.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookForm {
    /// `https://…` or `http://…`, at a public address or one that the operator allows.
    url: String,
    /// Of `build.published`, `build.built`, `build.failed`, `build.cancelled`, `build.superseded`; all when absent.
    events: Option<Vec<String>>,
    project: Option<String>,
    /// `HOST/PATH`, or `HOST/PATH:TAG`.
    image: Option<String>,
    /// What the bodies are signed with, 16 to 256 visible ASCII characters; one is made when absent.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<SecretString>,
    enabled: Option<bool>,
}

/// A change of a webhook: what is absent stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookPatch {
    url: Option<String>,
    events: Option<Vec<String>>,
    /// Null: any.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    project: Option<Option<String>>,
    /// Null: any.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    image: Option<Option<String>>,
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<SecretString>,
    enabled: Option<bool>,
}

/// Tells null from nothing.
#[allow(clippy::option_option, reason = "nothing, null or a text are three things")]
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> Result<T> {
    text.parse().map_err(|e: InvalidId| Error::invalid("invalid_id", "id", e.to_string()))
}

/// The caller's webhooks, newest first; an admin's answer has everybody's.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, body = WebhookPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<WebhookPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, owner) = (query.limit(), query.order(), query.owner());
    query.end()?;
    let (webhooks, more) = app.hooks.list(&caller, owner, before, limit).await?;
    let next_cursor = more.then(|| webhooks.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(WebhookPage { items: webhooks.into_iter().map(|one| one.body.into()).collect(), next_cursor }))
}

/// Make a webhook. The secret that is made for it is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "make_webhook", request_body = WebhookForm,
    responses((status = 201, body = NewWebhookView, headers(("location" = String))),
        (status = 400, description = "All that is wrong with it, told together in `errors`."),
        (status = 429, description = "There are as many as one owner may have.")))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    let (app, caller, bytes) = (&app, &*caller, &bytes);
    replay::once(app, caller, "POST webhooks", &headers, bytes, |new| async move {
        let WebhookForm { url, events, project, image, secret, enabled } = body::parse(bytes)?;
        let change = WebhookChange { url: Some(url), events, project: Some(project), image: Some(image), secret, enabled };
        let (webhook, secret) = app.hooks.make(caller, new.into(), change).await?;
        let location = format!("/api/v1/webhooks/{}", webhook.id);
        let secret = secret.map(|secret| secret.expose_secret().to_owned());
        let headers =
            [(header::LOCATION, location.parse().map_err(Error::internal)?), (header::CACHE_CONTROL, guard::no_store())];
        Ok((StatusCode::CREATED, headers, Json(NewWebhookView { view: webhook.into(), secret })).into_response())
    })
    .await
}

/// One webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "get_webhook",
    params(("id" = String, Path, format = "uuid")), responses((status = 200, body = WebhookView)))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(text): Path<String>,
) -> Result<Json<WebhookView>> {
    Ok(Json(app.hooks.get(&caller, id(&text)?).await?.body.into()))
}

/// Change a webhook. What waits to be delivered goes where it says from now on.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "change_webhook",
    params(("id" = String, Path, format = "uuid")), request_body = WebhookPatch, responses((status = 200, body = WebhookView)))]
pub(super) async fn change(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(text): Path<String>,
    request: Request,
) -> Result<Json<WebhookView>> {
    let (_, bytes) = body::read(request).await?;
    let WebhookPatch { url, events, project, image, secret, enabled } = body::parse(&bytes)?;
    let change = WebhookChange { url, events, project, image, secret, enabled };
    Ok(Json(app.hooks.change(&caller, id(&text)?, &change).await?.into()))
}

/// Remove a webhook, with its history and what waits to be delivered.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "remove_webhook",
    params(("id" = String, Path, format = "uuid")), responses((status = 204, description = "Removed.")))]
pub(super) async fn remove(State(app): State<App>, Extension(caller): Caller, Path(text): Path<String>) -> Result<StatusCode> {
    app.hooks.remove(&caller, id(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Try a webhook: send it the event `webhook.test`, once. The deliveries tell what came of it.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", operation_id = "test_webhook",
    params(("id" = String, Path, format = "uuid")), responses((status = 202, body = DeliveryView)))]
pub(super) async fn test(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(text): Path<String>,
    request: Request,
) -> Result<Response> {
    let webhook = id(&text)?;
    let (headers, bytes) = body::read(request).await?;
    let (app, caller) = (&app, &*caller);
    replay::once(app, caller, &format!("POST webhooks/{webhook}/test"), &headers, &bytes, |new| async move {
        let delivery = app.hooks.test(caller, webhook, new.into()).await?;
        Ok((StatusCode::ACCEPTED, Json(DeliveryView::from(delivery))).into_response())
    })
    .await
}

/// What was told to a webhook, newest first: the newest 50, and those that are still to be tried, for 30 days.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "list_deliveries",
    params(("id" = String, Path, format = "uuid"), ("limit" = Option<u64>, Query, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = DeliveryPage)))]
pub(super) async fn deliveries(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Json<DeliveryPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor"]);
    let (limit, before) = (query.limit(), query.order());
    query.end()?;
    let (deliveries, more) = app.hooks.deliveries(&caller, id(&text)?, before, limit).await?;
    let next_cursor = more.then(|| deliveries.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(DeliveryPage { items: deliveries.into_iter().map(|one| one.body.into()).collect(), next_cursor }))
}

/// Tell again what was told before, to the letter, in a delivery of its own, which names the first one (`redelivery_of`).
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver", tag = "webhooks", operation_id = "redeliver",
    params(("id" = String, Path, format = "uuid"), ("delivery" = String, Path, format = "uuid")),
    responses((status = 202, body = DeliveryView), (status = 409, description = "`webhook_disabled`")))]
pub(super) async fn redeliver(
    State(app): State<App>,
    Extension(caller): Caller,
    Path((webhook, delivery)): Path<(String, String)>,
    request: Request,
) -> Result<Response> {
    let (webhook, earlier) = (id(&webhook)?, id(&delivery)?);
    let (headers, bytes) = body::read(request).await?;
    let (app, caller) = (&app, &*caller);
    let route = format!("POST webhooks/{webhook}/deliveries/{earlier}/redeliver");
    replay::once(app, caller, &route, &headers, &bytes, |new| async move {
        let delivery = app.hooks.redeliver(caller, webhook, earlier, new.into()).await?;
        Ok((StatusCode::ACCEPTED, Json(DeliveryView::from(delivery))).into_response())
    })
    .await
}
