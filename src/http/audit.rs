//! `/api/v1/audit`.

use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::App;
use super::query::Query;
use crate::audit::{Entry, Head, Kept};
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/audit", get(list)).route("/api/v1/audit/head", get(kept_head))
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct AuditPage {
    #[schema(value_type = Vec<AuditEntry>)]
    items: Vec<Entry>,
    next_cursor: Option<String>,
}

/// Something that was done, or tried.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct AuditEntry {
    /// 1, 2, 3 … without gaps.
    seq: u64,
    #[schema(format = "date-time")]
    at: String,
    /// The account; none for a log-in that failed.
    actor: Option<String>,
    proof: Option<AuditProof>,
    /// Where it came from.
    address: String,
    /// `build.submit`, `user.change` …
    action: String,
    /// The object's path below `/api/v1/`.
    object: String,
    /// The answer's HTTP status.
    status: u16,
    request_id: String,
    /// The hash of the entry before; 64 zeros for the first.
    prev: String,
    /// SHA-256 of `prev` and this entry, in hexadecimal.
    hash: String,
}

/// How the account has shown that it is the one.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct AuditProof {
    #[schema(pattern = "^(token|session|password)$")]
    by: String,
    /// The token's.
    #[schema(required = false, format = "uuid")]
    id: String,
    /// The token's.
    #[schema(required = false)]
    name: String,
}

/// Who did what, newest first. Each entry holds the hash of the one before.
#[utoipa::path(get, path = "/api/v1/audit", tag = "accounts", operation_id = "get_audit",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = AuditPage)))]
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Json<AuditPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor"]);
    let (limit, before) = (query.limit(), query.order());
    query.end()?;
    let items = app.accounts.audit.read(before, limit).await?;
    let next_cursor = items.last().filter(|last| last.seq > 1 && items.len() == limit).map(|last| last.seq.to_string());
    Ok(Json(AuditPage { items, next_cursor }))
}

/// The end of the chain, as it is kept under the service's own key.
#[derive(Serialize, utoipa::ToSchema)]
pub struct HeadView {
    /// `kept`; `none` before the first entry, or when it was taken away; `forged` when no key of this service has sealed it.
    #[schema(pattern = "^(kept|none|forged)$")]
    state: &'static str,
    /// The last entry's number.
    seq: Option<u64>,
    /// The last entry's hash.
    hash: Option<String>,
}

/// The audit's head. A chain that has no such entry was cut off.
#[utoipa::path(get, path = "/api/v1/audit/head", tag = "accounts", operation_id = "get_audit_head",
    responses((status = 200, body = HeadView)))]
pub(super) async fn kept_head(State(app): State<App>) -> Result<Json<HeadView>> {
    let (state, head) = match app.accounts.audit.head().await? {
        Kept::Nothing => ("none", None),
        Kept::Forged => ("forged", None),
        Kept::Head(head) => ("kept", Some(head)),
    };
    let (seq, hash) = head.map(|Head { seq, hash }| (seq, hash)).unzip();
    Ok(Json(HeadView { state, seq, hash }))
}
