//! The contract as OpenAPI, made from the handlers' own annotations, and a page to browse it that needs nothing from outside.
//!
//! What holds of every route (the request's id, how to sign in, the form of a refusal) is said once, in [`everywhere`].

mod everywhere;
pub mod spec;

use axum::Router;
use everywhere::{Authentication, EveryRoute, Examples};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use utoipa_swagger_ui::SwaggerUi;

use super::App;
use super::legacy::LegacyBuild;
use super::problem::Problem;
use super::view::NetworkView;

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
        super::session::begin, super::session::end, super::accounts::me, super::accounts::change_password, super::accounts::list,
        super::accounts::make, super::accounts::one, super::accounts::change, super::accounts::remove, super::accounts::rotate,
        super::tokens::list, super::tokens::make, super::tokens::revoke, super::audit::list,
        super::registries::list, super::registries::one, super::registries::put, super::registries::remove, super::registries::check,
        super::terminal::exec,
        super::logs::logs, super::legacy::submit, super::legacy::read, super::legacy::remove,
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
        (name = "system", description = "The service itself."),
        (name = "older path", description = "The same builds for clients of the earlier publisher."),
    ),
    modifiers(&Authentication, &EveryRoute, &Examples),
    security(("bearer" = []), ("basic" = []), ("session" = []))
)]
struct Api;

/// `/api/openapi.json`, and `/api/docs` to browse it.
pub fn routes() -> Router<App> {
    Router::new().merge(SwaggerUi::new("/api/docs").url("/api/openapi.json", Api::openapi()))
}

/// The path of a route about one build.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct BuildPath {
    /// The build's id.
    #[param(example = "01a1fcc6-00db-778f-aa50-18c1c74c2480")]
    id: uuid::Uuid,
}

/// The parts of an upload, in any order.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct Upload {
    /// A Dockerfile alone; beside a context it stands in for the Dockerfile inside.
    #[schema(value_type = String, format = Binary, required = false)]
    file: Vec<u8>,
    /// tar, tar.gz, tar.zst or zip, told by content.
    #[schema(value_type = String, format = Binary, required = false)]
    context: Vec<u8>,
    /// The Dockerfile's path inside the context; `Dockerfile` if absent.
    #[schema(required = false)]
    dockerfile: String,
    /// Destinations, `[host[:port]/]path[:tag]`. At least one is needed, unless `push` is `false`.
    #[schema(required = false)]
    image: Vec<String>,
    /// For the registry host of the images, which must then be one; needs `password`.
    #[schema(required = false)]
    username: String,
    /// Sealed until the build ends, then erased.
    #[schema(format = Password, required = false)]
    password: String,
    /// The name of credentials that you keep, see `/api/v1/registries`; one for each host.
    #[schema(required = false)]
    registry: Vec<String>,
    /// `KEY=VALUE`. They stay readable in the image's history: names that look like a secret's are refused.
    #[schema(required = false)]
    build_arg: Vec<String>,
    /// `KEY=VALUE`.
    #[schema(required = false)]
    label: Vec<String>,
    /// The stage to build, by its name or number.
    #[schema(required = false)]
    target: String,
    /// `os/arch[/variant]`.
    #[schema(required = false)]
    platform: String,
    /// Build every step anew.
    #[schema(default = false, required = false)]
    no_cache: bool,
    /// Ask the registry for newer base images.
    #[schema(default = false, required = false)]
    pull: bool,
    /// Publish what was built.
    #[schema(default = true, required = false)]
    push: bool,
    /// The network of the `RUN` steps.
    #[schema(value_type = NetworkView, inline, required = false)]
    network: String,
    /// Of the `RUN` steps, like `512m`. A limit chooses the classic builder, because BuildKit ignores it.
    #[schema(required = false)]
    memory: String,
    /// For the `RUN` steps, like `1.5`. A limit chooses the classic builder, because BuildKit ignores it.
    #[schema(required = false)]
    cpus: String,
    /// For the whole build, like `15m`.
    #[schema(required = false)]
    timeout: String,
    /// Among the builds of the same owner that wait.
    #[schema(minimum = -10, maximum = 10, default = 0, required = false)]
    priority: i8,
}

/// The parts of an upload over the older path.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyUploadForm {
    /// A Dockerfile.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Also taken as `username`.
    #[schema(required = false)]
    docker_username: String,
    /// Also taken as `password`.
    #[schema(format = Password, required = false)]
    docker_password: String,
    /// `USERNAME/<file's name>` if absent; the tag is the time.
    #[schema(required = false)]
    docker_repo: String,
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    pub status: &'static str,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyOne {
    data: LegacyBuild,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyMessage {
    message: String,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum LegacyAnswer {
    One { data: LegacyBuild },
    Many { data: Vec<LegacyBuild> },
}
