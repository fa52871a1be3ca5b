//! `/api/v1/volumes`.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::{App, Caller, body, replay};
use crate::apps::{VolumeInfo, spec};
use crate::domain::{ObjectName, Timestamp};
use crate::error::{Error, Result};

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/volumes", get(list).post(make)).route("/api/v1/volumes/{volume}", get(one).delete(remove))
}

/// A volume, and who has it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Volume)]
pub struct VolumeView {
    name: String,
    owner: String,
    /// What the engine calls it.
    engine_name: String,
    /// With `?usage=true`, where the engine knows.
    bytes: Option<u64>,
    /// Names of containers, also of ended ones.
    used_by: Vec<String>,
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
}

impl From<VolumeInfo> for VolumeView {
    fn from(info: VolumeInfo) -> Self {
        Self {
            name: info.volume.name.to_string(),
            owner: info.volume.owner.to_string(),
            engine_name: info.volume.engine_name,
            bytes: info.bytes,
            used_by: info.used_by,
            created_at: info.volume.created_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct VolumePage {
    items: Vec<VolumeView>,
    next_cursor: Option<String>,
}

/// Volumes, newest first.
#[utoipa::path(get, path = "/api/v1/volumes", tag = "containers", operation_id = "list_volumes",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner."),
        ("usage" = Option<bool>, Query, description = "Also how large they are, which takes the engine a while.")),
    responses((status = 200, description = "A page of them.", body = VolumePage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<VolumePage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner", "usage"]);
    let (limit, before, owner, usage) = (query.limit(), query.order(), query.owner(), query.flag("usage"));
    query.end()?;
    let (volumes, more) = app.apps.volumes(&caller, owner, before, limit, usage).await?;
    let next_cursor = more.then(|| volumes.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(VolumePage { items: volumes.into_iter().map(VolumeView::from).collect(), next_cursor }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct VolumeForm {
    /// 1 to 63 of a-z 0-9 -
    #[schema(value_type = String)]
    name: ObjectName,
}

/// Make a volume. One that a container names is made by itself.
#[utoipa::path(post, path = "/api/v1/volumes", tag = "containers", operation_id = "make_volume", request_body = VolumeForm,
    responses((status = 201, description = "Made.", body = VolumeView, headers(("Location" = String, description = "The volume."))),
        (status = 409, description = "`name_taken`."), (status = 429, description = "`quota_exceeded`.")))]
pub(super) async fn make(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    replay::once(&app, &caller, "POST volumes", &headers, &bytes, |_| async {
        let mut form = spec::Form::of(&bytes, &["name"])?;
        let name = form.needed("name");
        let name: ObjectName = form.end(name)?;
        let made = app.apps.make_volume(&caller, &name).await?;
        let location = format!("/api/v1/volumes/{name}");
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(VolumeView::from(made))).into_response())
    })
    .await
}

/// A name that cannot be one belongs to nothing.
fn named(name: &str) -> Result<ObjectName> {
    name.parse().map_err(|_| Error::NotFound("volume"))
}

/// One volume.
#[utoipa::path(get, path = "/api/v1/volumes/{volume}", tag = "containers", operation_id = "get_volume",
    params(("volume" = String, Path, description = "Its name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 200, description = "The volume.", body = VolumeView), (status = 404, description = "There is no such volume.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<VolumeView>> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    Ok(Json(app.apps.volume(&caller, &named(&name)?, owner.as_ref()).await?.into()))
}

/// Remove a volume and what is in it.
#[utoipa::path(delete, path = "/api/v1/volumes/{volume}", tag = "containers", operation_id = "remove_volume",
    params(("volume" = String, Path, description = "Its name."), ("owner" = Option<String>, Query, description = "For admins: whose name it is.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such volume."),
        (status = 409, description = "`volume_in_use`: `detail` names the containers.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<StatusCode> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    app.apps.remove_volume(&caller, &named(&name)?, owner.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
