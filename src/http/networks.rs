//! `/api/v1/networks`.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::{App, Caller, body, replay};
use crate::apps::{NetworkInfo, spec};
use crate::domain::{ObjectName, Timestamp};
use crate::error::{Error, Result};

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/networks", get(list).post(make)).route("/api/v1/networks/{network}", get(one).delete(remove))
}

/// A network, and who is in it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = OwnNetwork)]
pub struct NetworkView {
    name: String,
    owner: String,
    /// What the engine calls it.
    engine_name: String,
    /// Names of containers, also of ended ones.
    used_by: Vec<String>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
}

impl From<NetworkInfo> for NetworkView {
    fn from(info: NetworkInfo) -> Self {
        Self {
            name: info.network.name.to_string(),
            owner: info.network.owner.to_string(),
            engine_name: info.network.engine_name,
            used_by: info.used_by,
            created_at: info.network.created_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct NetworkPage {
    items: Vec<NetworkView>,
    next_cursor: Option<String>,
}

/// Networks, newest first.
#[utoipa::path(get, path = "/api/v1/networks", tag = "containers", operation_id = "list_networks",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, description = "A page of them.", body = NetworkPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<NetworkPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, owner) = (query.limit(), query.order(), query.owner());
    query.end()?;
    let (networks, more) = app.apps.networks(&caller, owner, before, limit).await?;
    let next_cursor = more.then(|| networks.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(NetworkPage { items: networks.into_iter().map(NetworkView::from).collect(), next_cursor }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct NetworkForm {
    /// 1 to 63 of a-z 0-9 -
    #[schema(value_type = String)]
    name: ObjectName,
}

/// Make a network. The one called `default`, which everybody has, is made by itself.
#[utoipa::path(post, path = "/api/v1/networks", tag = "containers", operation_id = "make_network", request_body = NetworkForm,
    responses((status = 201, description = "Made.", body = NetworkView, headers(("Location" = String, description = "The network."))),
        (status = 409, description = "`name_taken`."), (status = 429, description = "`quota_exceeded`.")))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    replay::once(&app, &caller, "POST networks", &headers, &bytes, |_| async {
        let mut form = spec::Form::of(&bytes, &["name"])?;
        let name = form.needed("name");
        let name: ObjectName = form.end(name)?;
        let made = app.apps.make_network(&caller, &name).await?;
        let location = format!("/api/v1/networks/{name}");
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(NetworkView::from(made))).into_response())
    })
    .await
}

/// A name that cannot be one belongs to nothing.
fn named(name: &str) -> Result<ObjectName> {
    name.parse().map_err(|_| Error::NotFound("network"))
}

/// One network.
#[utoipa::path(get, path = "/api/v1/networks/{network}", tag = "containers", operation_id = "get_network",
    params(("network" = String, Path, description = "Its name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 200, description = "The network.", body = NetworkView), (status = 404, description = "There is no such network.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<NetworkView>> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    Ok(Json(app.apps.network(&caller, &named(&name)?, owner.as_ref()).await?.into()))
}

/// Remove a network that no container is in.
#[utoipa::path(delete, path = "/api/v1/networks/{network}", tag = "containers", operation_id = "remove_network",
    params(("network" = String, Path, description = "Its name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such network."),
        (status = 409, description = "`network_in_use`: `detail` names the containers.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<StatusCode> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    app.apps.remove_network(&caller, &named(&name)?, owner.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
