//! `/api/v1/tokens`: the caller's own, and for admins any account's.

use std::time::Duration;

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::{App, Caller, body, guard, replay};
use crate::accounts::TokenInput;
use crate::domain::quantity::Span;
use crate::domain::{ImagePattern, InvalidId, Owner, Permission, Permissions, Timestamp, Token, TokenId};
use crate::error::{Error, FieldError, Result};

/// Longest name of a token.
const NAME: usize = 100;
/// Most destinations that a token is limited to.
const IMAGES: usize = 64;
/// Longest life that can be asked for: about ten years.
const LONGEST: Duration = Duration::from_secs(3660 * 24 * 3600);

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/tokens", get(list).post(make)).route("/api/v1/tokens/{id}", delete(revoke))
}

/// A token, without its text.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TokenView {
    #[schema(value_type = String, format = "uuid")]
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    /// Destinations that it is limited to; empty: any.
    images: Vec<String>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = "date-time")]
    expires_at: Option<Timestamp>,
    /// To the minute.
    #[schema(value_type = Option<String>, format = "date-time")]
    last_used_at: Option<Timestamp>,
}

impl TokenView {
    fn of(token: Token, last_used_at: Option<Timestamp>) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            scopes: token.scopes.iter().map(Permission::as_str).collect(),
            images: token.images.iter().map(ToString::to_string).collect(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at,
        }
    }
}

/// A new token with its text, which is shown only now.
#[derive(Serialize, utoipa::ToSchema)]
pub struct NewTokenView {
    #[serde(flatten)]
    view: TokenView,
    token: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct TokenPage {
    items: Vec<TokenView>,
    next_cursor: Option<String>,
}

/// Whose tokens are meant.
fn owner(query: &mut Query) -> Option<Owner> {
    query.parse("owner", "an account's name")
}

/// The caller's tokens, newest first. A token sees those that can do no more than itself.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "accounts", operation_id = "list_tokens",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "For admins: another account's.")),
    responses((status = 200, body = TokenPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<TokenPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, named) = (query.limit(), query.order(), owner(&mut query));
    query.end()?;
    let owner = app.accounts.token_owner(&caller, named).await?;
    let (tokens, more) = app.accounts.tokens(&caller, &owner, before, limit).await?;
    let next_cursor = more.then(|| tokens.last().map(|(token, _)| token.order.to_string())).flatten();
    let items = tokens.into_iter().map(|(token, used)| TokenView::of(token.body, used)).collect();
    Ok(Json(TokenPage { items, next_cursor }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenForm {
    /// 1 to 100 characters.
    name: String,
    /// Absent: all that the caller may.
    scopes: Option<Vec<String>>,
    /// `HOST/PATH` or `HOST/PATH/*`: only builds for these destinations.
    #[serde(default)]
    images: Vec<String>,
    /// Seconds, or a time like `90d`; absent: never.
    expires_in: Option<Lifetime>,
}

/// Seconds, or a time like `90d`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
enum Lifetime {
    Seconds(u64),
    Text(String),
}

impl TokenForm {
    fn read(self) -> Result<TokenInput> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, why: String| faults.push(FieldError::new(field, why));
        if !(1..=NAME).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            fault("name", format!("must have 1 to {NAME} characters"));
        }
        let mut scopes = Vec::new();
        for scope in self.scopes.iter().flatten() {
            match scope.parse::<Permission>() {
                Ok(scope) => scopes.push(scope),
                Err(why) => fault("scopes", why),
            }
        }
        if self.scopes.as_ref().is_some_and(Vec::is_empty) {
            fault("scopes", "must name at least one, or be absent".into());
        }
        let mut images: Vec<ImagePattern> = Vec::new();
        for image in &self.images {
            match image.parse() {
                Ok(image) => images.push(image),
                Err(why) => fault("images", why),
            }
        }
        if images.len() > IMAGES {
            fault("images", format!("at most {IMAGES}"));
        }
        let expires_at = match self.expires_in.map(Lifetime::read).transpose() {
            Ok(time) => time.map(|time| Timestamp::now().plus(time)),
            Err(why) => {
                fault("expires_in", why);
                None
            }
        };
        if !faults.is_empty() {
            return Err(Error::Invalid { code: "invalid_token", fields: faults });
        }
        let scopes: Option<Permissions> = self.scopes.map(|_| scopes.into_iter().collect());
        Ok(TokenInput { name: self.name, scopes, images, expires_at })
    }
}

impl Lifetime {
    fn read(self) -> std::result::Result<Duration, String> {
        let time = match self {
            Self::Seconds(seconds) => Duration::from_secs(seconds),
            Self::Text(text) => text.parse::<Span>()?.0,
        };
        if (Duration::from_secs(1)..=LONGEST).contains(&time) {
            Ok(time)
        } else {
            Err(format!("must be from 1s to {}d", LONGEST.as_secs() / 86_400))
        }
    }
}

/// Make a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "accounts", operation_id = "make_token", request_body = TokenForm,
    params(("owner" = Option<String>, Query, description = "For admins: for another account.")),
    responses((status = 201, body = NewTokenView, headers(("location" = String)))))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let mut query = Query::of(request.uri(), &["owner"]);
    let named = owner(&mut query);
    query.end()?;
    let owner = app.accounts.token_owner(&caller, named).await?;
    let (headers, bytes) = body::read(request).await?;
    let route = format!("POST tokens of {}", owner.name);
    replay::once(&app, &caller, &route, &headers, &bytes, |_| async {
        let input = body::parse::<TokenForm>(&bytes)?.read()?;
        let (token, text) = app.accounts.make_token(&caller, &owner, input).await?;
        let location = format!("/api/v1/tokens/{}", token.id);
        let view = NewTokenView { view: TokenView::of(token, None), token: text.expose_secret().to_owned() };
        let headers =
            [(header::LOCATION, location.parse().map_err(Error::internal)?), (header::CACHE_CONTROL, guard::no_store())];
        Ok((StatusCode::CREATED, headers, Json(view)).into_response())
    })
    .await
}

/// Revoke a token: it is worthless at once. A token revokes those that it sees.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "accounts", operation_id = "revoke_token", params(("id" = String, Path, format = "uuid")),
    responses((status = 204, description = "Revoked.")))]
pub(super) async fn revoke(State(app): State<App>, Extension(caller): Caller, Path(id): Path<String>) -> Result<StatusCode> {
    let id: TokenId = id.parse().map_err(|e: InvalidId| Error::invalid("invalid_id", "id", e.to_string()))?;
    app.accounts.revoke_token(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
