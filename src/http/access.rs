//! What each route asks of its caller, and what it is called in the audit: one table, which the OpenAPI and the tests read too.

use axum::http::Method;

use crate::auth::Principal;
use crate::domain::Permission;
use crate::error::Result;

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: answers without an account.
    Nothing,
    /// Any account.
    Account,
    Scope(Permission),
    /// Either of two scopes; each shows its own part.
    Either(Permission, Permission),
}

impl Need {
    /// # Errors
    /// [`Error::Forbidden`] that names what is missing.
    pub fn of(self, caller: &Principal) -> Result<()> {
        match self {
            Self::Nothing | Self::Account => Ok(()),
            Self::Scope(scope) => caller.must_have(scope),
            Self::Either(one, other) => caller.must_have(one).or_else(|_| caller.must_have(other)),
        }
    }
}

/// A route of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub method: &'static str,
    pub path: &'static str,
    pub need: Need,
    /// Its name in the audit; every route that changes something has one.
    pub deed: Option<&'static str>,
}

const fn read(path: &'static str, need: Need) -> Rule {
    Rule { method: "GET", path, need, deed: None }
}

const fn change(method: &'static str, path: &'static str, need: Need, deed: &'static str) -> Rule {
    Rule { method, path, need, deed: Some(deed) }
}

const BUILDS_READ: Need = Need::Scope(Permission::BuildsRead);
const BUILDS_WRITE: Need = Need::Scope(Permission::BuildsWrite);
const APPS_READ: Need = Need::Scope(Permission::AppsRead);
const APPS_WRITE: Need = Need::Scope(Permission::AppsWrite);
const ADMIN: Need = Need::Scope(Permission::Admin);

pub const RULES: &[Rule] = &[
    read("/healthz", Need::Nothing),
    read("/readyz", Need::Nothing),
    change("POST", "/api/v1/session", Need::Nothing, "session.begin"),
    change("DELETE", "/api/v1/session", Need::Account, "session.end"),
    read("/api/v1/me", Need::Account),
    change("PUT", "/api/v1/me/password", Need::Account, "password.change"),
    read("/api/v1/tokens", Need::Account),
    change("POST", "/api/v1/tokens", Need::Account, "token.make"),
    change("DELETE", "/api/v1/tokens/{id}", Need::Account, "token.revoke"),
    read("/api/v1/users", ADMIN),
    change("POST", "/api/v1/users", ADMIN, "user.make"),
    read("/api/v1/users/{name}", ADMIN),
    change("PATCH", "/api/v1/users/{name}", ADMIN, "user.change"),
    change("DELETE", "/api/v1/users/{name}", ADMIN, "user.remove"),
    read("/api/v1/audit", ADMIN),
    read("/api/v1/audit/head", ADMIN),
    change("POST", "/api/v1/keys/rotate", ADMIN, "keys.rotate"),
    read("/api/v1/registries", BUILDS_READ),
    read("/api/v1/registries/{name}", BUILDS_READ),
    change("PUT", "/api/v1/registries/{name}", BUILDS_WRITE, "registry.put"),
    change("DELETE", "/api/v1/registries/{name}", BUILDS_WRITE, "registry.remove"),
    change("POST", "/api/v1/registries/{name}/check", BUILDS_WRITE, "registry.check"),
    read("/api/v1/builds", BUILDS_READ),
    change("POST", "/api/v1/builds", BUILDS_WRITE, "build.submit"),
    read("/api/v1/builds/{id}", BUILDS_READ),
    change("DELETE", "/api/v1/builds/{id}", BUILDS_WRITE, "build.delete"),
    read("/api/v1/builds/{id}/dockerfile", BUILDS_READ),
    read("/api/v1/builds/{id}/logs", BUILDS_READ),
    read("/api/v1/builds/{id}/steps", BUILDS_READ),
    change("POST", "/api/v1/builds/{id}/cancel", BUILDS_WRITE, "build.cancel"),
    change("POST", "/api/v1/builds/{id}/retry", BUILDS_WRITE, "build.retry"),
    change("GET", "/api/v1/containers/{container}/exec", APPS_WRITE, "container.exec"),
    read("/api/dockerfile-build/", BUILDS_READ),
    change("POST", "/api/dockerfile-build/", BUILDS_WRITE, "build.submit"),
    change("DELETE", "/api/dockerfile-build/", BUILDS_WRITE, "build.delete"),
    read("/api/v1/system", Need::Account),
    read("/api/v1/events", Need::Either(Permission::BuildsRead, Permission::AppsRead)),
    read("/api/v1/apps", APPS_READ),
    change("POST", "/api/v1/apps", APPS_WRITE, "app.make"),
    read("/api/v1/apps/{app}", APPS_READ),
    change("PUT", "/api/v1/apps/{app}", APPS_WRITE, "app.replace"),
    change("PATCH", "/api/v1/apps/{app}", APPS_WRITE, "app.change"),
    change("DELETE", "/api/v1/apps/{app}", APPS_WRITE, "app.remove"),
    read("/api/v1/apps/{app}/runs", APPS_READ),
    change("POST", "/api/v1/apps/{app}/runs", APPS_WRITE, "app.run"),
    read("/api/v1/runs", APPS_READ),
    read("/api/v1/runs/{run}", APPS_READ),
    change("DELETE", "/api/v1/runs/{run}", APPS_WRITE, "run.remove"),
    read("/api/v1/runs/{run}/logs", APPS_READ),
    change("POST", "/api/v1/runs/{run}/stop", APPS_WRITE, "run.stop"),
    read("/api/v1/containers", APPS_READ),
    // With a Dockerfile it is a build too, and needs `builds:write` beside.
    change("POST", "/api/v1/containers", APPS_WRITE, "container.run"),
    read("/api/v1/containers/{container}", APPS_READ),
    change("DELETE", "/api/v1/containers/{container}", APPS_WRITE, "container.remove"),
    change("POST", "/api/v1/containers/{container}/start", APPS_WRITE, "container.start"),
    change("POST", "/api/v1/containers/{container}/stop", APPS_WRITE, "container.stop"),
    change("POST", "/api/v1/containers/{container}/restart", APPS_WRITE, "container.restart"),
    change("POST", "/api/v1/containers/{container}/kill", APPS_WRITE, "container.kill"),
    read("/api/v1/containers/{container}/logs", APPS_READ),
    read("/api/v1/containers/{container}/stats", APPS_READ),
    read("/api/v1/containers/{container}/top", APPS_READ),
    read("/api/v1/containers/{container}/changes", APPS_READ),
    read("/api/v1/volumes", APPS_READ),
    change("POST", "/api/v1/volumes", APPS_WRITE, "volume.make"),
    read("/api/v1/volumes/{volume}", APPS_READ),
    change("DELETE", "/api/v1/volumes/{volume}", APPS_WRITE, "volume.remove"),
    read("/api/v1/networks", APPS_READ),
    change("POST", "/api/v1/networks", APPS_WRITE, "network.make"),
    read("/api/v1/networks/{network}", APPS_READ),
    change("DELETE", "/api/v1/networks/{network}", APPS_WRITE, "network.remove"),
    read("/api/v1/images", APPS_READ),
    change("POST", "/api/v1/images/pull", APPS_WRITE, "image.pull"),
    change("POST", "/api/v1/images/tag", APPS_WRITE, "image.tag"),
    change("POST", "/api/v1/images/push", APPS_WRITE, "image.push"),
    read("/api/v1/images/{reference}", APPS_READ),
    change("DELETE", "/api/v1/images/{reference}", APPS_WRITE, "image.remove"),
    read("/api/openapi.json", Need::Account),
    read("/api/docs", Need::Account),
];

/// The rule of a route that was matched; `None` for a method that the path does not know, which is answered as such.
///
/// A path that the table does not know at all is for admins alone, so that a route which was forgotten here is not open.
pub fn rule(method: &Method, path: &str) -> Option<Rule> {
    let path = if path == "/api/dockerfile-build" { "/api/dockerfile-build/" } else { path };
    let path = if path.starts_with("/api/docs") { "/api/docs" } else { path };
    // The router's own sign for a parameter that may hold slashes.
    let path = &*path.replace("{*", "{");
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut known = false;
    for rule in RULES.iter().filter(|rule| rule.path == path) {
        if rule.method == method {
            return Some(*rule);
        }
        known = true;
    }
    (!known).then_some(Rule { method: "", path: "", need: ADMIN, deed: Some("unknown") })
}
