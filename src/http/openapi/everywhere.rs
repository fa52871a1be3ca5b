//! What holds of every route, added to the OpenAPI once.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::Modify;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, Schema};

use super::super::access::{Need, RULES};

/// How to sign in.
pub struct Authentication;

impl Modify for Authentication {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, scheme, how) in [
            ("bearer", HttpAuthScheme::Bearer, "`Authorization: Bearer TOKEN`"),
            (
                "basic",
                HttpAuthScheme::Basic,
                "Any user name and a token as the password (`curl -u me:TOKEN`), or an account and its own",
            ),
        ] {
            let scheme = HttpBuilder::new().scheme(scheme).description(Some(how)).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        let how = "A session's cookie, from `POST /api/v1/session`; without TLS, on loopback alone, its name is `dockwright`. Changes \
                   are taken from the service's own pages alone (`Origin`)";
        let cookie = ApiKey::Cookie(ApiKeyValue::with_description("__Host-dockwright", how));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    }
}

/// The request's id, and the form of refusals.
pub struct EveryRoute;

impl Modify for EveryRoute {
    fn modify(&self, api: &mut OpenApi) {
        for (path, item) in &mut api.paths.paths {
            let methods = [
                ("GET", &mut item.get),
                ("POST", &mut item.post),
                ("PUT", &mut item.put),
                ("PATCH", &mut item.patch),
                ("DELETE", &mut item.delete),
            ];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                let rule = RULES.iter().find(|rule| rule.method == method && rule.path == path);
                complete(method, rule.expect("has a rule, because a test looks for it").need, operation);
            }
        }
    }
}

fn complete(method: &str, need: Need, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    // A path's parameter is found by its handler too.
    let mut known: Vec<String> = Vec::new();
    parameters.retain(|parameter| match parameter {
        RefOr::T(Parameter { name, .. }) => {
            !known.contains(name) && {
                known.push(name.clone());
                true
            }
        }
        RefOr::Ref(_) => true,
    });
    parameters.push(RefOr::T(own_header("X-Request-Id", "An id of your own for this request; one is made if absent.")));
    // Whose key it is must be known: a log-in is not repeated by one.
    // What can be repeated by its nature, and is too long to be compared, needs no key.
    let repeatable = operation.operation_id.as_deref().is_some_and(|id| id == "send_blobs");
    if method == "POST" && need != Need::Nothing && !repeatable {
        let told = "With the same key and request within 24 h, the first answer comes again and nothing is done twice; with another \
                    request 422, while the first one runs 409.";
        parameters.push(RefOr::T(own_header("Idempotency-Key", told)));
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response
                    .headers
                    .insert("Idempotent-Replayed".into(), header("`true` when it is the first answer again.", text()));
            }
        }
    }
    tell_need(need, operation);
    let responses = &mut operation.responses.responses;
    if need != Need::Nothing {
        let mut unauthenticated = Response::new("A valid token is needed.");
        unauthenticated.headers.insert("WWW-Authenticate".into(), header("How to sign in.", text()));
        responses.insert("401".into(), RefOr::T(unauthenticated));
    }
    for (statuses, why) in [("4XX", "Refused; `code` says why."), ("5XX", "A fault of the service, or a part of it is away.")] {
        responses.entry(statuses.into()).or_insert_with(|| RefOr::T(Response::new(why)));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            complete_response(status, response);
        }
    }
}

/// What a caller needs, in the words of a route's description.
fn tell_need(need: Need, operation: &mut Operation) {
    let told = match need {
        Need::Nothing => "Needs no account.".to_owned(),
        Need::Account => "Needs an account, whatever the scopes.".to_owned(),
        Need::Either(one, other) => {
            let why = format!("The token or account has neither of the scopes `{one}` and `{other}` (`missing_scope`).");
            operation.responses.responses.insert("403".into(), RefOr::T(Response::new(why)));
            format!("Needs the scope `{one}` or `{other}`.")
        }
        Need::Scope(scope) => {
            let why = format!("The token or account has not the scope `{scope}` (`missing_scope`).");
            operation.responses.responses.insert("403".into(), RefOr::T(Response::new(why)));
            format!("Needs the scope `{scope}`.")
        }
    };
    let description = operation.description.take().filter(|text| !text.is_empty());
    operation.description = Some(description.map_or_else(|| told.clone(), |text| format!("{text}\n\n{told}")));
}

fn complete_response(status: &str, response: &mut Response) {
    response.headers.insert("X-Request-Id".into(), header("The request's id, which the service's log has too.", text()));
    let when = match status {
        "4XX" => Some("With 429: the seconds after which to try again."),
        _ if status.starts_with('5') => Some("With 503: the seconds after which to try again."),
        _ => None,
    };
    if let Some(when) = when {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
        response.headers.insert("Retry-After".into(), header(when, seconds));
    }
    if response.content.is_empty() && status.starts_with(['4', '5']) {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert("application/problem+json".into(), RefOr::T(problem));
    }
}

fn own_header(name: &str, told: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(told))
        .schema(Some(text()))
        .build()
}

fn text() -> Object {
    Object::with_type(Type::String)
}

fn header(description: &str, schema: Object) -> RefOr<Header> {
    RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build())
}

/// An example of each body, by the name of its schema.
pub struct Examples;

/// See [`Examples`].
const EXAMPLES: &str = include_str!("examples.json");

fn examples() -> BTreeMap<String, Value> {
    serde_json::from_str(EXAMPLES).expect("valid, because a test reads it")
}

impl Modify for Examples {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, example) in examples() {
            match components.schemas.get_mut(&name) {
                Some(RefOr::T(Schema::Object(schema))) => schema.example = Some(example),
                Some(RefOr::T(Schema::OneOf(schema))) => schema.example = Some(example),
                Some(RefOr::T(Schema::AllOf(schema))) => schema.example = Some(example),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
