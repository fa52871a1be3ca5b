//! `/api/v1/session`: log in with a password, and out.

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::accounts::MeView;
use super::guard::{self, Client};
use super::{App, Caller, Problem, Told, body, is_refused_log_in};
use crate::auth::{Principal, log_in, session};
use crate::domain::{Proof, Session};
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/session", post(begin).delete(end))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    name: String,
    #[schema(value_type = String)]
    password: SecretString,
}

/// Begin a session: the answer sets its cookie.
#[utoipa::path(post, path = "/api/v1/session", tag = "accounts", operation_id = "begin_session", security(()), request_body = LogIn,
    responses((status = 200, body = MeView, headers(("set-cookie" = String)))))]
pub(super) async fn begin(State(app): State<App>, Extension(client): Extension<Client>, request: Request) -> Response {
    let told = Told::of(&request, &client, "session.begin");
    match try_begin(&app, &client, request).await {
        Ok((caller, response)) => {
            told.record(&app, Some(&caller), &response).await;
            response
        }
        Err(error) => {
            let tried = is_refused_log_in(&error);
            let response = Problem::from(error).into_response();
            if tried {
                told.record(&app, None, &response).await;
            }
            response
        }
    }
}

async fn try_begin(app: &App, client: &Client, request: Request) -> Result<(Principal, Response)> {
    // A page elsewhere must not log its reader in to an account of its own.
    if request.headers().contains_key(header::ORIGIN) {
        app.guard.check_browser(&request)?;
    }
    let (_, bytes) = body::read(request).await?;
    let LogIn { name, password } = body::parse(&bytes)?;
    // Before the password is looked at: without a cookie there is nothing to log in for.
    client.set_cookie("", 0)?;
    let user = log_in(app.accounts.store(), &name, password, client.address).await?;
    let cookie = session::begin(app.accounts.store(), &user, &client.address.to_string()).await?;
    let set = client.set_cookie(cookie.expose_secret(), Session::ABSOLUTE.as_secs())?;
    let caller = Principal::in_person(&user, Proof::Session);
    let me = MeView::of(app, &caller).await?;
    Ok((
        caller,
        (StatusCode::OK, [(header::SET_COOKIE, set), (header::CACHE_CONTROL, guard::no_store())], Json(me)).into_response(),
    ))
}

/// End the session that the cookie names.
#[utoipa::path(delete, path = "/api/v1/session", tag = "accounts", operation_id = "end_session",
    responses((status = 204, description = "Ended.")))]
pub(super) async fn end(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    _caller: Caller,
    headers: HeaderMap,
) -> Result<Response> {
    let Some(cookie) = guard::cookie(&headers) else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    session::end(app.accounts.store(), &cookie).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, client.set_cookie("", 0)?)]).into_response())
}
