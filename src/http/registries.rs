//! `/api/v1/registries`: credentials that the caller keeps.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::{App, Caller, body, replay};
use crate::accounts::{Accounts, RegistryInput};
use crate::auth::Principal;
use crate::domain::{Owner, StoredRegistry, Timestamp};
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/registries", get(list))
        .route("/api/v1/registries/{name}", get(one).put(put).delete(remove))
        .route("/api/v1/registries/{name}/check", post(check))
}

/// A stored registry, without its password.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RegistryView {
    #[schema(value_type = String)]
    owner: Owner,
    name: String,
    server: String,
    username: String,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

impl From<StoredRegistry> for RegistryView {
    fn from(stored: StoredRegistry) -> Self {
        let StoredRegistry { owner, name, server, username, created_at, updated_at, sealed: _ } = stored;
        Self { owner, name, server, username, created_at, updated_at }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct RegistryPage {
    items: Vec<RegistryView>,
    next_cursor: Option<String>,
}

/// Whose registry is meant.
fn owner(caller: &Principal, uri: &Uri) -> Result<Owner> {
    let mut query = Query::of(uri, &["owner"]);
    let named = query.parse("owner", "an account's name");
    query.end()?;
    Accounts::registry_owner(caller, named)
}

/// The caller's registries, newest first; an admin's answer has everybody's.
#[utoipa::path(get, path = "/api/v1/registries", tag = "registries", operation_id = "list_registries",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, body = RegistryPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<RegistryPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, named) = (query.limit(), query.order(), query.parse("owner", "an account's name"));
    query.end()?;
    let (registries, more) = app.accounts.registries(&caller, named, before, limit).await?;
    let next_cursor = more.then(|| registries.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(RegistryPage { items: registries.into_iter().map(|one| one.body.into()).collect(), next_cursor }))
}

/// One registry.
#[utoipa::path(get, path = "/api/v1/registries/{name}", tag = "registries", operation_id = "get_registry",
    params(("name" = String, Path), ("owner" = Option<String>, Query, description = "For admins: another account's.")),
    responses((status = 200, body = RegistryView)))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<RegistryView>> {
    Ok(Json(app.accounts.registry(&owner(&caller, &uri)?, &name).await?.into()))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryForm {
    /// `HOST` or `HOST:PORT`, as in an image's name.
    server: String,
    username: String,
    #[schema(value_type = String)]
    password: SecretString,
}

/// Keep credentials under a name, or replace them.
#[utoipa::path(put, path = "/api/v1/registries/{name}", tag = "registries", operation_id = "put_registry", params(("name" = String, Path)), request_body = RegistryForm,
    responses((status = 200, description = "Replaced.", body = RegistryView), (status = 201, description = "Kept.", body = RegistryView)))]
pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response> {
    let (_, bytes) = body::read(request).await?;
    let RegistryForm { server, username, password } = body::parse(&bytes)?;
    let input = RegistryInput { server, username, password };
    let (stored, is_new) = app.accounts.put_registry(&caller.owner, &name, input).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(RegistryView::from(stored))).into_response())
}

/// Forget credentials. Builds that were given them keep them until they end.
#[utoipa::path(delete, path = "/api/v1/registries/{name}", tag = "registries", operation_id = "remove_registry",
    params(("name" = String, Path), ("owner" = Option<String>, Query, description = "For admins: another account's.")),
    responses((status = 204, description = "Forgotten.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<StatusCode> {
    app.accounts.remove_registry(&owner(&caller, &uri)?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the registry said.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CheckView {
    /// Whether it takes the credentials.
    ok: bool,
    code: Option<String>,
    /// Its own words, when it does not.
    message: Option<String>,
}

/// Does the registry accept the credentials?
#[utoipa::path(post, path = "/api/v1/registries/{name}/check", tag = "registries", operation_id = "check_registry",
    params(("name" = String, Path), ("owner" = Option<String>, Query, description = "For admins: another account's.")),
    responses((status = 200, body = CheckView)))]
pub(super) async fn check(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response> {
    let owner = owner(&caller, request.uri())?;
    let (headers, bytes) = body::read(request).await?;
    let route = format!("POST registries/{name}/check of {owner}");
    replay::once(&app, &caller, &route, &headers, &bytes, |_| async {
        let checked = app.accounts.check_registry(&owner, &name).await?;
        let (code, message) = checked.error.unzip();
        Ok(Json(CheckView { ok: checked.ok, code, message }).into_response())
    })
    .await
}
