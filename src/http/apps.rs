//! `/api/v1/apps`.

mod view;

use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::builds::names;
use super::query::Query;
use super::{App, Caller, body, replay};
use crate::apps::{NamedApp, spec};
use crate::auth::Principal;
use crate::domain::{self, AppId};
use crate::error::{Error, Result};
use crate::store::objects::Object;
pub use view::{AppForm, AppPage, AppView, ContainerFields, SecretField};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/apps", get(list).post(make))
        .route("/api/v1/apps/{app}", get(one).put(replace).patch(patch).delete(remove))
}

/// Apps, newest first.
#[utoipa::path(get, path = "/api/v1/apps", tag = "apps", operation_id = "list_apps",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, description = "A page of them.", body = AppPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<AppPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, owner) = (query.limit(), query.order(), query.owner());
    query.end()?;
    let (apps, more) = app.apps.apps(&caller, owner, before, limit).await?;
    let next_cursor = more.then(|| apps.last().map(|one| one.order.to_string())).flatten();
    let mut items = Vec::with_capacity(apps.len());
    for one in apps {
        items.push(AppView::of(&app, &one.body).await?);
    }
    Ok(Json(AppPage { items, next_cursor }))
}

/// Make an app. Nothing runs yet.
#[utoipa::path(post, path = "/api/v1/apps", tag = "apps", operation_id = "make_app", request_body = AppForm,
    responses((status = 201, description = "Made.", body = AppView, headers(("Location" = String, description = "The app."), ("ETag" = String, description = "Names this description."))),
        (status = 400, description = "All that is wrong with it, told together in `errors`."),
        (status = 409, description = "`name_taken`: you have an app of that name.")))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read_spec(request).await?;
    let (app, caller, sent) = (&app, &*caller, &bytes);
    replay::once(app, caller, "POST apps", &headers, &bytes, |id| async move {
        let input = NamedApp::of(spec::object(sent)?);
        let made = app.apps.make_app(caller, AppId::from(id), input).await?;
        let location = format!("/api/v1/apps/{}", made.id);
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], shown(app, &made).await?).into_response())
    })
    .await
}

/// The app with its `ETag`.
async fn shown(app: &App, one: &domain::App) -> Result<Response> {
    Ok(([(header::ETAG, etag(one))], Json(AppView::of(app, one).await?)).into_response())
}

/// Names the description; what the app does at the moment is no part of it.
fn etag(app: &domain::App) -> String {
    format!("\"{}\"", app.generation)
}

/// The app of a path, by its id, or by its name among the caller's, or among those of `?owner=` for an admin.
pub(super) async fn named(app: &App, caller: &Principal, key: &str, query: &mut Query) -> Result<Object<domain::App>> {
    let owner = query.owner();
    app.apps.app(caller, key, owner.as_ref()).await
}

/// One app, by its id or name.
#[utoipa::path(get, path = "/api/v1/apps/{app}", tag = "apps", operation_id = "get_app",
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 200, description = "The app.", body = AppView, headers(("ETag" = String, description = "Names this description."))),
        (status = 404, description = "There is no such app.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
) -> Result<Response> {
    let mut query = Query::of(&uri, &["owner"]);
    let found = named(&app, &caller, &key, &mut query).await;
    query.end()?;
    shown(&app, &found?.body).await
}

/// Another description in the app's place. Variables given as `{"secret": true}` keep their values.
#[utoipa::path(put, path = "/api/v1/apps/{app}", tag = "apps", operation_id = "replace_app", request_body = AppForm,
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is."),
        ("If-Match" = Option<String>, Header, example = "\"3\"", description = "An `ETag` seen before; with another one now it is 412.")),
    responses((status = 200, description = "As it is now; `state.restart_needed` says whether a run is still of an older description, `state.restart_fields` in what it differs.", body = AppView),
        (status = 412, description = "`changed_meanwhile`: it is not as `If-Match` says.")))]
pub(super) async fn replace(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Response> {
    let (current, input) = change(&app, &caller, &key, &uri, request).await?;
    shown(&app, &app.apps.replace_app(&caller, current, input).await?).await
}

/// Change some fields (RFC 7396): absent ones stay, `null` ones go back to their default.
#[utoipa::path(patch, path = "/api/v1/apps/{app}", tag = "apps", operation_id = "change_app", request_body = AppForm,
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is."),
        ("If-Match" = Option<String>, Header, example = "\"3\"", description = "An `ETag` seen before; with another one now it is 412.")),
    responses((status = 200, description = "As it is now; `state.restart_needed` says whether a run is still of an older description, `state.restart_fields` in what it differs.", body = AppView),
        (status = 412, description = "`changed_meanwhile`: it is not as `If-Match` says.")))]
pub(super) async fn patch(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Response> {
    let (current, input) = change(&app, &caller, &key, &uri, request).await?;
    shown(&app, &app.apps.patch_app(&caller, current, input).await?).await
}

/// The app that is to be changed, and to what.
async fn change(
    app: &App,
    caller: &Principal,
    key: &str,
    uri: &Uri,
    request: Request,
) -> Result<(Object<domain::App>, NamedApp)> {
    let mut query = Query::of(uri, &["owner"]);
    let found = named(app, caller, key, &mut query).await;
    query.end()?;
    let (headers, bytes) = body::read_spec(request).await?;
    let current = found?;
    must_match(&headers, &current.body)?;
    Ok((current, NamedApp::of(spec::object(&bytes)?)))
}

fn must_match(headers: &HeaderMap, app: &domain::App) -> Result<()> {
    match headers.get(header::IF_MATCH) {
        Some(seen) if !names(seen, &etag(app)) => {
            Err(Error::Changed(format!("the app {} is not as If-Match says: it was changed meanwhile", app.name)))
        }
        _ => Ok(()),
    }
}

/// Remove an app with its history, logs and containers.
#[utoipa::path(delete, path = "/api/v1/apps/{app}", tag = "apps", operation_id = "remove_app",
    params(("app" = String, Path, description = "Its id or name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is."),
        ("force" = Option<bool>, Query, description = "Stops what of it runs.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such app."),
        (status = 409, description = "`app_runs`: something of it runs.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(key): Path<String>,
    uri: Uri,
) -> Result<StatusCode> {
    let mut query = Query::of(&uri, &["owner", "force"]);
    let (owner, force) = (query.owner(), query.flag("force"));
    query.end()?;
    app.apps.remove_app(&caller, &key, owner.as_ref(), force).await?;
    Ok(StatusCode::NO_CONTENT)
}
