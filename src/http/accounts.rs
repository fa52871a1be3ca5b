//! `/api/v1/me` and `/api/v1/users`.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::guard::Client;
use super::query::Query;
use super::{App, Caller, body, replay};
use crate::accounts::{Fate, Removed, UserChange, UserInput};
use crate::apps::Owned;
use crate::auth::Principal;
use crate::domain::{Owner, Proof, Quota, Role, Timestamp, Usage, User};
use crate::error::{Error, FieldError, Result};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/me/password", put(change_password))
        .route("/api/v1/users", get(list).post(make))
        .route("/api/v1/users/{name}", get(one).patch(change).delete(remove))
        .route("/api/v1/keys/rotate", post(rotate))
}

/// Who the caller is, and what it may do, may use and uses.
#[derive(Serialize, utoipa::ToSchema)]
pub struct MeView {
    #[schema(value_type = String)]
    name: Owner,
    #[schema(value_type = String, pattern = "^(user|admin)$")]
    role: Role,
    scopes: Vec<&'static str>,
    /// Destinations that this token is limited to; empty: any.
    images: Vec<String>,
    /// `token`, `session` or `password`.
    by: &'static str,
    quota: Quota,
    usage: Usage,
}

impl MeView {
    pub async fn of(app: &App, caller: &Principal) -> Result<Self> {
        Ok(Self {
            name: caller.owner.clone(),
            role: caller.role,
            scopes: caller.permissions.iter().map(crate::domain::Permission::as_str).collect(),
            images: caller.images.iter().map(ToString::to_string).collect(),
            by: match caller.proof {
                Proof::Token { .. } => "token",
                Proof::Session => "session",
                Proof::Password => "password",
            },
            quota: caller.quota,
            usage: app.apps.usage(&caller.owner, app.builds.usage(&caller.owner).await?).await?,
        })
    }
}

/// Who am I?
#[utoipa::path(get, path = "/api/v1/me", tag = "accounts", operation_id = "get_me",
    responses((status = 200, body = MeView)))]
pub(super) async fn me(State(app): State<App>, Extension(caller): Caller) -> Result<Json<MeView>> {
    Ok(Json(MeView::of(&app, &caller).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordForm {
    /// Not needed when there is none yet.
    #[schema(value_type = Option<String>)]
    old_password: Option<SecretString>,
    #[schema(value_type = String)]
    new_password: SecretString,
}

/// Change one's own password. All sessions of the account end.
#[utoipa::path(put, path = "/api/v1/me/password", tag = "accounts", operation_id = "change_password", request_body = PasswordForm,
    responses((status = 204, description = "Changed.")))]
pub(super) async fn change_password(
    State(app): State<App>,
    Extension(caller): Caller,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<StatusCode> {
    let (_, bytes) = body::read(request).await?;
    let form: PasswordForm = body::parse(&bytes)?;
    // A token that leaks must not be worth the account.
    if matches!(caller.proof, Proof::Token { .. }) && caller.permissions != crate::domain::Permissions::of_role(caller.role) {
        return Err(Error::Forbidden {
            code: "missing_scope",
            detail: "a password is changed with all scopes of the account".into(),
        });
    }
    app.accounts.change_password(&caller.owner, client.address, form.old_password.as_ref(), form.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An account.
#[derive(Serialize, utoipa::ToSchema)]
pub struct UserView {
    #[schema(value_type = String)]
    name: Owner,
    #[schema(value_type = String, pattern = "^(user|admin)$")]
    role: Role,
    disabled: bool,
    /// Whether there is one to log in with.
    has_password: bool,
    quota: Quota,
    usage: Usage,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
}

impl UserView {
    async fn of(app: &App, user: User) -> Result<Self> {
        Ok(Self {
            usage: app.apps.usage(&user.name, app.builds.usage(&user.name).await?).await?,
            name: user.name,
            role: user.role,
            disabled: user.disabled,
            has_password: user.password.is_some(),
            quota: user.quota,
            created_at: user.created_at,
        })
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct UserPage {
    items: Vec<UserView>,
    next_cursor: Option<String>,
}

/// Accounts, newest first.
#[utoipa::path(get, path = "/api/v1/users", tag = "accounts", operation_id = "list_users",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = UserPage)))]
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Json<UserPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor"]);
    let (limit, before) = (query.limit(), query.order());
    query.end()?;
    let (users, more) = app.accounts.users(before, limit).await?;
    let next_cursor = more.then(|| users.last().map(|user| user.order.to_string())).flatten();
    let mut items = Vec::with_capacity(users.len());
    for user in users {
        items.push(UserView::of(&app, user.body).await?);
    }
    Ok(Json(UserPage { items, next_cursor }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserForm {
    /// 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit.
    name: String,
    /// Absent: the account is used by its tokens alone.
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// `user` if absent.
    #[schema(value_type = Option<String>, pattern = "^(user|admin)$")]
    role: Option<Role>,
    #[serde(default, deserialize_with = "quota")]
    quota: Option<Quota>,
}

/// As an object alone: of itself, `serde` also takes the fields one after another in a list.
fn quota<'de, D: serde::Deserializer<'de>>(json: D) -> std::result::Result<Option<Quota>, D::Error> {
    use serde::de::Error as _;
    let fields = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(json)?;
    fields.map(|fields| serde_json::from_value(fields.into()).map_err(D::Error::custom)).transpose()
}

/// Make an account.
#[utoipa::path(post, path = "/api/v1/users", tag = "accounts", operation_id = "make_user", request_body = UserForm,
    responses((status = 201, body = UserView, headers(("location" = String)))))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    replay::once(&app, &caller, "POST users", &headers, &bytes, |_| async {
        let form: UserForm = body::parse(&bytes)?;
        let name = form.name.parse::<Owner>().map_err(|e| Error::invalid("invalid_user", "name", e.to_string()))?;
        let input = UserInput {
            name,
            password: form.password,
            role: form.role.unwrap_or(Role::User),
            quota: bounded(form.quota.unwrap_or_default())?,
        };
        let user = app.accounts.make_user(input).await?;
        let location = format!("/api/v1/users/{}", user.name);
        let view = UserView::of(&app, user).await?;
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response())
    })
    .await
}

/// Largest number of a quota: the largest that JSON and Lua hold exactly (RFC 8259, 6).
const LARGEST: u64 = (1 << 53) - 1;

fn bounded(quota: Quota) -> Result<Quota> {
    let numbers = serde_json::to_value(quota).map_err(Error::internal)?;
    let beyond = numbers.as_object().into_iter().flatten().filter(|(_, number)| number.as_u64().is_some_and(|n| n > LARGEST));
    let faults: Vec<_> =
        beyond.map(|(name, _)| FieldError::new(format!("quota.{name}"), format!("may be {LARGEST} at most"))).collect();
    if faults.is_empty() { Ok(quota) } else { Err(Error::Invalid { code: "invalid_quota", fields: faults }) }
}

/// A name that cannot be one belongs to nobody.
fn named(name: &str) -> Result<Owner> {
    name.parse().map_err(|_| Error::NotFound("user"))
}

/// One account.
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "accounts", operation_id = "get_user", params(("name" = String, Path)),
    responses((status = 200, body = UserView)))]
pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<UserView>> {
    let user = app.accounts.user(&named(&name)?).await?;
    Ok(Json(UserView::of(&app, user.body).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    #[schema(value_type = Option<String>, pattern = "^(user|admin)$")]
    role: Option<Role>,
    disabled: Option<bool>,
    /// Replaces the whole quota.
    #[serde(default, deserialize_with = "quota")]
    quota: Option<Quota>,
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// Needed to change one's own password.
    #[schema(value_type = Option<String>)]
    old_password: Option<SecretString>,
}

/// Change an account.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "accounts", operation_id = "change_user", params(("name" = String, Path)), request_body = UserPatch,
    responses((status = 200, body = UserView)))]
pub(super) async fn change(
    State(app): State<App>,
    Extension(caller): Caller,
    Extension(client): Extension<Client>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<UserView>> {
    let name = named(&name)?;
    let (_, bytes) = body::read(request).await?;
    let UserPatch { role, disabled, quota, password, old_password } = body::parse(&bytes)?;
    let quota = quota.map(bounded).transpose()?;
    let change = UserChange { role, disabled, quota, password, old_password };
    let user = app.accounts.change_user(&caller, client.address, &name, change).await?;
    Ok(Json(UserView::of(&app, user).await?))
}

/// What was removed, or given to the heir.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RemovedView {
    #[schema(value_type = String)]
    name: Owner,
    /// `deleted`, or `transferred`.
    objects: &'static str,
    builds: u64,
    apps: u64,
    runs: u64,
    volumes: u64,
    registries: u64,
    tokens: u64,
}

/// Remove an account. What it owns is deleted or goes to another account; without `objects` it must own nothing.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "accounts", operation_id = "remove_user",
    params(("name" = String, Path), ("objects" = Option<String>, Query, description = "`delete`, or `transfer:NAME`.")),
    responses((status = 200, body = RemovedView)))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<RemovedView>> {
    let name = named(&name)?;
    let mut query = Query::of(&uri, &["objects"]);
    let fate = query.read("objects", fate);
    query.end()?;
    let objects = if matches!(fate, Some(Fate::Transfer(_))) { "transferred" } else { "deleted" };
    let removed = app.accounts.remove_user(&caller, &name, fate).await?;
    let Removed { builds, apps: Owned { apps, runs, volumes }, registries, tokens } = removed;
    Ok(Json(RemovedView { name, objects, builds, apps, runs, volumes, registries, tokens }))
}

fn fate(text: &str) -> std::result::Result<Fate, String> {
    match text.strip_prefix("transfer:") {
        Some(name) => name.parse().map(Fate::Transfer).map_err(|e: crate::domain::InvalidOwner| e.to_string()),
        None if text == "delete" => Ok(Fate::Delete),
        None => Err(format!("{text:?} must be delete or transfer:NAME")),
    }
}

/// What was sealed with the new key.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RotatedView {
    /// The beginning of the new key's hash.
    key: String,
    registries: u64,
    builds: u64,
    answers: u64,
    /// Apps and runs with secret variables.
    variables: u64,
    webhooks: u64,
    /// Whether the audit's head was.
    audit: bool,
}

/// Make a new key for kept credentials and seal them with it. The old key stays readable for a minute, for other processes.
#[utoipa::path(post, path = "/api/v1/keys/rotate", tag = "accounts", operation_id = "rotate_keys",
    responses((status = 200, body = RotatedView)))]
pub(super) async fn rotate(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    if !bytes.is_empty() {
        return Err(Error::Invalid { code: "invalid_json", fields: vec![FieldError::new("body", "must be empty")] });
    }
    replay::once(&app, &caller, "POST keys/rotate", &headers, &bytes, |_| async {
        let (resealed, key) = app.accounts.rotate_keys().await?;
        let crate::accounts::Resealed { registries, builds, answers, variables, webhooks, audit } = resealed;
        let view = RotatedView { key, registries, builds, answers, variables, webhooks, audit };
        Ok(Json(view).into_response())
    })
    .await
}
