//! `/api/v1/images`: those that the caller has pulled or named.

use std::collections::BTreeMap;

use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::Event as Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::logs::wants_events;
use super::output::streamed;
use super::problem::Problem;
use super::query::Query;
use super::{App, Caller, body, replay};
use crate::apps::{ImageInfo, spec};
use crate::auth::Principal;
use crate::domain::{ImageRef, ImageSource, RunImage, Timestamp};
use crate::error::{Error, Result};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/images", get(list))
        .route("/api/v1/images/pull", post(pull))
        .route("/api/v1/images/tag", post(tag))
        .route("/api/v1/images/push", post(push))
        .route("/api/v1/images/{*reference}", get(one).delete(remove))
}

/// An image, and who uses it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Image)]
pub struct ImageView {
    /// As it was named, in full.
    reference: String,
    owner: String,
    image_id: String,
    /// Null when the engine does not have it any more.
    size_bytes: Option<u64>,
    /// Whether credentials went with its pull: others may not use it without their own.
    private: bool,
    used_by: ImageUseView,
    #[schema(value_type = String, format = "date-time")]
    pulled_at: Timestamp,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ImageUse)]
struct ImageUseView {
    /// Names of containers that are made from it.
    containers: Vec<String>,
    /// The owner's build that has made it.
    build: Option<String>,
}

impl From<ImageInfo> for ImageView {
    fn from(info: ImageInfo) -> Self {
        Self {
            reference: info.reference,
            owner: info.owner.to_string(),
            image_id: info.image_id.to_string(),
            size_bytes: info.size_bytes,
            private: info.private,
            used_by: ImageUseView { containers: info.used_by.containers, build: info.used_by.build },
            pulled_at: info.pulled_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct ImagePage {
    items: Vec<ImageView>,
    next_cursor: Option<String>,
}

/// Images, newest first.
#[utoipa::path(get, path = "/api/v1/images", tag = "containers", operation_id = "list_images",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, description = "A page of them.", body = ImagePage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<ImagePage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, owner) = (query.limit(), query.order(), query.owner());
    query.end()?;
    let (images, more) = app.apps.images(&caller, owner, before, limit).await?;
    let next_cursor = more.then(|| images.last().map(|one| one.order.to_string())).flatten();
    Ok(Json(ImagePage { items: images.into_iter().map(ImageView::from).collect(), next_cursor }))
}

/// A name that cannot be one belongs to nothing.
fn named(reference: &str) -> Result<RunImage> {
    reference.parse().map_err(|_| Error::NotFound("image"))
}

/// One image, by its name.
#[utoipa::path(get, path = "/api/v1/images/{reference}", tag = "containers", operation_id = "get_image",
    params(("reference" = String, Path, description = "Its name, slashes and all."), ("owner" = Option<String>, Query, description = "For admins: whose it is.")),
    responses((status = 200, description = "The image.", body = ImageView), (status = 404, description = "There is no such image.")))]
pub(super) async fn one(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(reference): Path<String>,
    uri: Uri,
) -> Result<Json<ImageView>> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    Ok(Json(app.apps.image(&caller, &named(&reference)?, owner.as_ref()).await?.into()))
}

/// Remove an image: yours no more, and taken from the engine when nobody else has it.
#[utoipa::path(delete, path = "/api/v1/images/{reference}", tag = "containers", operation_id = "remove_image",
    params(("reference" = String, Path, description = "Its name, slashes and all."), ("owner" = Option<String>, Query, description = "For admins: whose it is.")),
    responses((status = 204, description = "Removed."), (status = 404, description = "There is no such image."),
        (status = 409, description = "`image_in_use`: `detail` names the containers.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Caller,
    Path(reference): Path<String>,
    uri: Uri,
) -> Result<StatusCode> {
    let mut query = Query::of(&uri, &["owner"]);
    let owner = query.owner();
    query.end()?;
    app.apps.remove_image(&caller, &named(&reference)?, owner.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ImageForm {
    /// By name, or by name and digest.
    image: String,
    /// Name of kept credentials; those for the image's host if absent.
    registry: Option<String>,
}

/// The image, and the name of kept credentials for it.
fn image_and_registry(bytes: &[u8]) -> Result<(RunImage, Option<String>)> {
    let mut form = spec::Form::of(bytes, &["image", "registry"])?;
    let (image, registry) = (form.needed("image"), form.text("registry"));
    Ok((form.end(image)?, registry))
}

/// Pull an image, also one that is there. Answers when it is here; with `Accept: text/event-stream` it tells how far it is in events `progress` and, at the
/// end, `done` with the image, or `error`. Going away stops it, unless somebody else waits for the same.
#[utoipa::path(post, path = "/api/v1/images/pull", tag = "containers", operation_id = "pull_image", request_body = ImageForm,
    responses((status = 200, description = "The image.", content((ImageView = "application/json"), (String = "text/event-stream"))),
        (status = 409, description = "The engine's or the registry's reason.")))]
pub(super) async fn pull(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    let (image, registry) = image_and_registry(&bytes)?;
    if wants_events(&headers) {
        return told_pull(app, caller, image, registry, &headers).await;
    }
    replay::once(&app, &caller, "POST images/pull", &headers, &bytes, |_| async {
        app.apps.pull(&caller, &image, registry.as_deref()).await?.finish().await?;
        Ok(Json(ImageView::from(app.apps.image(&caller, &image, None).await?)).into_response())
    })
    .await
}

async fn told_pull(
    app: App,
    caller: std::sync::Arc<Principal>,
    image: RunImage,
    registry: Option<String>,
    headers: &HeaderMap,
) -> Result<Response> {
    if headers.contains_key("idempotency-key") {
        let told = "goes with an answer in JSON: a stream cannot be given again";
        return Err(Error::invalid("invalid_idempotency_key", "Idempotency-Key", told));
    }
    let mut pull = app.apps.pull(&caller, &image, registry.as_deref()).await?;
    Ok(streamed(async_stream::stream! {
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        let mut lines = 0;
        loop {
            let state = pull.progress();
            for text in state.told.iter().skip(lines) {
                yield Ok(Sse::default().event("progress").data(json!({"layer": null, "status": text}).to_string()));
            }
            lines = state.told.len();
            for (layer, progress) in &state.layers {
                let (done, all) = progress.bytes.unzip();
                let data = json!({"layer": layer, "status": progress.status, "done_bytes": done, "all_bytes": all}).to_string();
                if told.insert(layer.clone(), data.clone()).as_ref() != Some(&data) {
                    yield Ok(Sse::default().event("progress").data(data));
                }
            }
            if state.ended.is_some() {
                break;
            }
            tokio::select! { () = pull.moved() => {} () = app.stop.cancelled() => return }
        }
        let done = match pull.finish().await {
            Ok(_) => app.apps.image(&caller, &image, None).await.map(ImageView::from),
            Err(fault) => Err(fault.into()),
        };
        yield Ok(match done {
            Ok(view) => Sse::default().event("done").json_data(view).expect("serialises, because it holds only text and numbers"),
            Err(error) => {
                let Problem { code, detail, .. } = Problem::from(error);
                Sse::default().event("error").data(json!({"code": code, "detail": detail}).to_string())
            }
        });
    }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct TagForm {
    /// By name: this or `build`.
    image: Option<String>,
    /// The id of a build of yours that is done: this or `image`.
    #[schema(value_type = Option<uuid::Uuid>)]
    build: Option<String>,
    /// Its new name, `[host[:port]/]path[:tag]`.
    tag: String,
}

/// Give an image of yours, or of a build of yours, another name. It is yours alone: others do not see it, and it means nothing in builds.
#[utoipa::path(post, path = "/api/v1/images/tag", tag = "containers", operation_id = "tag_image", request_body = TagForm,
    responses((status = 201, description = "The image under its new name.", body = ImageView), (status = 404, description = "You have no such image."),
        (status = 409, description = "The engine's reason.")))]
pub(super) async fn tag(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    replay::once(&app, &caller, "POST images/tag", &headers, &bytes, |_| async {
        let mut form = spec::Form::of(&bytes, &["image", "build", "tag"])?;
        let (image, build) = (form.text("image").map(ImageSource::Reference), form.text("build").map(ImageSource::Build));
        if form.has("image") == form.has("build") {
            form.fault("image", "name an image, or the id of a build as `build`; one of them");
        }
        let named = image.or(build).zip(form.needed::<ImageRef>("tag"));
        let (source, to) = form.end(named)?;
        Ok((StatusCode::CREATED, Json(ImageView::from(app.apps.tag(&caller, &source, &to).await?))).into_response())
    })
    .await
}

/// What the registry took.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PushedView {
    reference: String,
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: String,
}

/// Push an image of yours by its name, which has no digest. Answers when the registry has it.
#[utoipa::path(post, path = "/api/v1/images/push", tag = "containers", operation_id = "push_image", request_body = ImageForm,
    responses((status = 200, description = "The digest under which the registry has it.", body = PushedView),
        (status = 403, description = "`image_not_allowed`: the token is limited to other destinations."), (status = 404, description = "You have no such image."),
        (status = 409, description = "The registry's reason.")))]
pub(super) async fn push(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Response> {
    let (headers, bytes) = body::read(request).await?;
    replay::once(&app, &caller, "POST images/push", &headers, &bytes, |_| async {
        let (image, registry) = image_and_registry(&bytes)?;
        let digest = app.apps.push(&caller, &image, registry.as_deref()).await?;
        Ok(Json(PushedView { reference: image.reference(), digest: digest.to_string() }).into_response())
    })
    .await
}
