//! `/api/v1/retention`: how long the caller's builds are kept; and DELETE of many builds at once.

use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::builds::{image, state};
use super::query::Query;
use super::view::BuildStateView;
use super::{App, Caller, body};
use crate::builds::{ManyDeleted, Selection};
use crate::domain::quantity::Span;
use crate::domain::{Owner, RetentionRule};
use crate::error::{Error, FieldError, Result};

pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/retention", get(list).put(put).delete(remove))
}

/// A rule of how long ended builds are kept.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RetentionRule)]
pub struct RuleView {
    #[schema(value_type = String)]
    owner: Owner,
    #[serde(flatten)]
    #[schema(inline)]
    rule: RuleFields,
}

#[derive(Serialize, utoipa::ToSchema)]
struct RuleFields {
    /// `*`: every project that has no rule of its own.
    project: String,
    /// So many of the newest builds of each project, and always the newest that was published or built; null: all.
    keep_builds: Option<u64>,
    /// Those that ended in so many last days; null: all.
    keep_days: Option<u64>,
    /// Whether the engine keeps the image of a build that was published.
    keep_local_image: bool,
}

impl From<RetentionRule> for RuleFields {
    fn from(rule: RetentionRule) -> Self {
        let RetentionRule { project, keep_builds, keep_days, keep_local_image } = rule;
        Self { project, keep_builds, keep_days, keep_local_image }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct RetentionPage {
    items: Vec<RuleView>,
    next_cursor: Option<String>,
    /// What holds where there is no rule.
    #[schema(inline)]
    defaults: RuleFields,
}

/// The caller's rules, newest first; an admin's answer has everybody's.
#[utoipa::path(get, path = "/api/v1/retention", tag = "builds", operation_id = "list_retention",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 200), ("cursor" = Option<String>, Query),
        ("owner" = Option<String>, Query, description = "Narrows an admin's list to one owner.")),
    responses((status = 200, body = RetentionPage)))]
pub(super) async fn list(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<RetentionPage>> {
    let mut query = Query::of(&uri, &["limit", "cursor", "owner"]);
    let (limit, before, owner) = (query.limit(), query.order(), query.owner());
    query.end()?;
    let (rules, more) = app.builds.retention(&caller, owner, before, limit).await?;
    let next_cursor = more.then(|| rules.last().map(|one| one.order.to_string())).flatten();
    let items = rules.into_iter().map(|one| RuleView { owner: one.owner, rule: one.body.into() }).collect();
    Ok(Json(RetentionPage { items, next_cursor, defaults: app.builds.policy.retention.clone().into() }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionForm {
    /// `*` when absent: every project that has no rule of its own.
    project: Option<String>,
    /// So many of the newest builds of each project, from 1, and always the newest that was published or built; all when absent.
    #[schema(minimum = 1, maximum = 1_000_000)]
    keep_builds: Option<u64>,
    /// Those that ended in so many last days, from 1; all when absent.
    #[schema(minimum = 1, maximum = 1_000_000)]
    keep_days: Option<u64>,
    /// Whether the engine keeps the image of a build that was published; `true` when absent.
    keep_local_image: Option<bool>,
}

/// Say how long your builds are kept. Ended ones beyond the rule are deleted soon, as DELETE does; live ones, and those whose image an
/// app or a container uses, stay.
#[utoipa::path(put, path = "/api/v1/retention", tag = "builds", operation_id = "put_retention", request_body = RetentionForm,
    responses((status = 200, body = RuleView)))]
pub(super) async fn put(State(app): State<App>, Extension(caller): Caller, request: Request) -> Result<Json<RuleView>> {
    let (_, bytes) = body::read(request).await?;
    let RetentionForm { project, keep_builds, keep_days, keep_local_image } = body::parse(&bytes)?;
    let project = project.unwrap_or_else(|| RetentionRule::ANY.into());
    let rule = RetentionRule { project, keep_builds, keep_days, keep_local_image: keep_local_image.unwrap_or(true) };
    app.builds.put_retention(&caller, &rule).await?;
    Ok(Json(RuleView { owner: caller.owner.clone(), rule: rule.into() }))
}

/// Take your rule for a project away.
#[utoipa::path(delete, path = "/api/v1/retention", tag = "builds", operation_id = "remove_retention",
    params(("project" = Option<String>, Query, description = "`*` when absent.")),
    responses((status = 204, description = "There is none now.")))]
pub(super) async fn remove(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<StatusCode> {
    let query = Query::of(&uri, &["project"]);
    let project = query.text("project").unwrap_or(RetentionRule::ANY).to_owned();
    query.end()?;
    app.builds.remove_retention(&caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove your ended builds of one state that ended long enough ago: at most 100 at once, each as if it were removed by itself, but
/// without waiting for its image. Those are left that apps or containers are made of, and those that a build under way repeats.
#[utoipa::path(delete, path = "/api/v1/builds", tag = "builds", operation_id = "delete_builds",
    params(("state" = inline(BuildStateView), Query, description = "One in which builds have ended."),
        ("older_than" = String, Query, example = "7d", description = "How long ago they ended, at least."),
        ("project" = Option<String>, Query), ("image" = Option<String>, Query, description = "A destination; without a tag, any tag."),
        ("owner" = Option<String>, Query, description = "For admins: another account's.")),
    responses((status = 200, description = "Which were removed, and whether there may be more.", body = ManyDeleted),
        (status = 400, description = "A state in which builds have not ended, or no time."),
        (status = 404, description = "There is no such account.")))]
pub(super) async fn remove_many(State(app): State<App>, Extension(caller): Caller, uri: Uri) -> Result<Json<ManyDeleted>> {
    let mut query = Query::of(&uri, &["state", "older_than", "project", "image", "owner"]);
    let (state, image, owner) = (query.read("state", state), query.read("image", image), query.owner());
    let older_than: Option<Duration> = query.read("older_than", |text| text.parse::<Span>().map(|span| span.0));
    let project = query.text("project").map(str::to_owned);
    let missing = ["state", "older_than"].into_iter().filter(|name| query.text(name).is_none());
    let fields: Vec<FieldError> = missing.map(|name| FieldError::new(name, "is needed")).collect();
    query.end()?;
    let (Some(state), Some(older_than)) = (state, older_than) else {
        return Err(Error::Invalid { code: "invalid_query", fields });
    };
    let owner = owner.unwrap_or_else(|| caller.owner.clone());
    Ok(Json(app.builds.delete_many(&caller, Selection { owner, state, older_than, project, image }).await?))
}
