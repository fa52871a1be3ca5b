//! The contract as OpenAPI, made from the handlers' own annotations, and a page to browse it that needs nothing from outside.

use axum::Router;
use serde::Serialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::SwaggerUi;

use super::App;
use super::legacy::LegacyBuild;

#[derive(OpenApi)]
#[openapi(
    info(title = "Dockwright", description = "A Dockerfile in, a published image out."),
    paths(
        super::builds::submit, super::builds::list, super::builds::one, super::builds::dockerfile, super::builds::cancel, super::builds::remove,
        super::session::begin, super::session::end, super::accounts::me, super::accounts::change_password, super::accounts::list,
        super::accounts::make, super::accounts::one, super::accounts::change, super::accounts::remove, super::accounts::rotate,
        super::tokens::list, super::tokens::make, super::tokens::revoke, super::audit::list,
        super::registries::list, super::registries::one, super::registries::put, super::registries::remove, super::registries::check,
        super::logs::logs, super::legacy::submit, super::legacy::read, super::legacy::remove,
        super::system::healthz, super::system::readyz, super::system::system, super::system::events,
    ),
    modifiers(&Authentication),
    security(("bearer" = []), ("basic" = []))
)]
struct Api;

struct Authentication;

impl Modify for Authentication {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [("bearer", HttpAuthScheme::Bearer), ("basic", HttpAuthScheme::Basic)] {
            components.add_security_scheme(name, SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build()));
        }
    }
}

/// `/api/openapi.json`, and `/api/docs` to browse it.
pub fn routes() -> Router<App> {
    Router::new().merge(SwaggerUi::new("/api/docs").url("/api/openapi.json", Api::openapi()))
}

/// The parts of an upload, in any order.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct Upload {
    /// A Dockerfile alone; beside a context it stands in for the Dockerfile inside.
    #[schema(value_type = Option<String>, format = Binary)]
    file: Option<Vec<u8>>,
    /// tar, tar.gz, tar.zst or zip, told by content.
    #[schema(value_type = Option<String>, format = Binary)]
    context: Option<Vec<u8>>,
    /// The Dockerfile's path inside the context.
    dockerfile: Option<String>,
    /// Destinations, `[host[:port]/]path[:tag]`.
    image: Option<Vec<String>>,
    /// For the registry host of the images.
    username: Option<String>,
    password: Option<String>,
    /// `KEY=VALUE`.
    build_arg: Option<Vec<String>>,
    /// `KEY=VALUE`.
    label: Option<Vec<String>>,
    target: Option<String>,
    platform: Option<String>,
    no_cache: Option<bool>,
    pull: Option<bool>,
    push: Option<bool>,
    /// `default` or `none`.
    network: Option<String>,
    /// `512m`
    memory: Option<String>,
    /// `1.5`
    cpus: Option<String>,
    /// `15m`
    timeout: Option<String>,
    #[schema(minimum = -10, maximum = 10)]
    priority: Option<i8>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyUploadForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    docker_username: Option<String>,
    docker_password: Option<String>,
    docker_repo: Option<String>,
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
