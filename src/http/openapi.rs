//! The contract as OpenAPI, made from the handlers' own annotations, and a page to browse it that needs nothing from outside.
//!
//! What holds of every route (the request's id, how to sign in, the form of a refusal) is said once, in [`everywhere`].

mod everywhere;
pub mod forms;
pub mod spec;

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use everywhere::{Authentication, EveryRoute, Examples};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::App;
use super::problem::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dockwright",
        description = "A Dockerfile in, a published image out, and the truth about every stage on the way.\n\n\
            Times are RFC 3339 in UTC with milliseconds, ids are UUIDv7. Lists answer `items`, newest first, and a `next_cursor`. \
            A refusal is `application/problem+json` (RFC 9457) with a stable `code`. What belongs to another account is 404."
    ),
    paths(
        super::builds::submit, super::builds::list, super::builds::one, super::builds::dockerfile, super::builds::cancel, super::builds::remove,
        super::contexts::declare, super::contexts::one, super::contexts::send,
        super::session::begin, super::session::end, super::accounts::me, super::accounts::change_password, super::accounts::list,
        super::accounts::make, super::accounts::one, super::accounts::change, super::accounts::remove, super::accounts::rotate,
        super::tokens::list, super::tokens::make, super::tokens::revoke, super::audit::list, super::audit::kept_head,
        super::registries::list, super::registries::one, super::registries::put, super::registries::remove, super::registries::check,
        super::retention::list, super::retention::put, super::retention::remove, super::retention::remove_many,
        super::webhooks::list, super::webhooks::make, super::webhooks::one, super::webhooks::change, super::webhooks::remove,
        super::webhooks::test, super::webhooks::deliveries, super::webhooks::redeliver,
        super::terminal::exec, super::retry::retry,
        super::logs::logs, super::steps::list, super::legacy::submit, super::legacy::read, super::legacy::remove,
        super::system::healthz, super::system::readyz, super::system::system, super::events::events,
        super::apps::list, super::apps::make, super::apps::one, super::apps::replace, super::apps::patch, super::apps::remove,
        super::runs::start, super::runs::of_app, super::runs::list, super::runs::one, super::runs::logs, super::runs::stop, super::runs::remove,
        super::containers::list, super::containers::from::run, super::containers::one, super::containers::deeds::remove,
        super::containers::deeds::start, super::containers::deeds::stop, super::containers::deeds::restart, super::containers::deeds::kill,
        super::containers::logs, super::containers::stats, super::containers::top, super::containers::changes,
        super::volumes::list, super::volumes::make, super::volumes::one, super::volumes::remove,
        super::networks::list, super::networks::make, super::networks::one, super::networks::remove,
        super::images::list, super::images::one, super::images::pull, super::images::tag, super::images::push, super::images::remove,
    ),
    components(schemas(Problem)),
    tags(
        (name = "builds", description = "Send what is to be built, follow it, end it, remove it."),
        (name = "apps", description = "Containers that are described once and run many times, and each of their runs."),
        (name = "containers", description = "What runs now, terminals in it, its volumes, networks and images."),
        (name = "accounts", description = "Who you are, your tokens and sessions; for admins: accounts and the audit."),
        (name = "registries", description = "Credentials that you keep for registries."),
        (name = "webhooks", description = "Be told of the ends of your builds."),
        (name = "system", description = "The service itself."),
        (name = "older path", description = "The same builds for clients of the earlier publisher."),
    ),
    modifiers(&Authentication, &EveryRoute, &Examples),
    security(("bearer" = []), ("basic" = []), ("session" = []))
)]
struct Api;

const PATH: &str = "/api/openapi.json";

/// `/api/openapi.json`, and `/api/docs` to browse it.
pub fn routes() -> Router<App> {
    let page = SwaggerUi::new("/api/docs").config(Config::from(PATH));
    Router::new().route(PATH, get(contract)).merge(page)
}

/// Made when it is asked for the first time, and kept as text: as a tree it takes megabytes, which a service that nobody asks need not hold.
async fn contract() -> impl IntoResponse {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        serde_json::to_vec(&Api::openapi()).expect("serialises, because it holds only text, numbers and lists").into()
    });
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}
