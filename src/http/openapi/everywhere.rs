//! What holds of every route, added to the OpenAPI once.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::Modify;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, Schema};

/// How to sign in.
pub struct Authentication;

impl Modify for Authentication {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, scheme, how) in [
            ("bearer", HttpAuthScheme::Bearer, "`Authorization: Bearer TOKEN`"),
            ("basic", HttpAuthScheme::Basic, "Any user name, and the token as the password: `curl -u me:TOKEN`"),
        ] {
            let scheme = HttpBuilder::new().scheme(scheme).description(Some(how)).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// The request's id, and the form of refusals.
pub struct EveryRoute;

impl Modify for EveryRoute {
    fn modify(&self, api: &mut OpenApi) {
        for item in api.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                complete(operation);
            }
        }
    }
}

fn complete(operation: &mut Operation) {
    operation.parameters.get_or_insert_default().push(RefOr::T(request_id()));
    let responses = &mut operation.responses.responses;
    // Routes without an account say so by a requirement that requires nothing.
    if operation.security.is_none() {
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

fn complete_response(status: &str, response: &mut Response) {
    response.headers.insert("X-Request-Id".into(), header("The request's id, which the service's log has too.", text()));
    if status.starts_with('5') {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
        response.headers.insert("Retry-After".into(), header("With 503: the seconds after which to try again.", seconds));
    }
    if response.content.is_empty() && status.starts_with(['4', '5']) {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert("application/problem+json".into(), RefOr::T(problem));
    }
}

fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("An id of your own for this request; one is made if absent."))
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
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::OpenApi as _;

    use super::super::Api;

    /// What of an example is not as its schema says; only what the schemas of this API use.
    fn misfits(api: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let pointer = name.trim_start_matches('#');
            let schema = api.pointer(pointer).unwrap_or_else(|| panic!("{name} leads nowhere"));
            return misfits(api, schema, value, at, faults);
        }
        if let Some(options) = schema["oneOf"].as_array() {
            let fits = |option: &Value| {
                let mut faults = Vec::new();
                misfits(api, option, value, at, &mut faults);
                faults.is_empty()
            };
            if !options.iter().any(fits) {
                faults.push(format!("{at}: {value} fits no form"));
            }
            return;
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = &schema["type"];
        if kinds != kind && !kinds.as_array().is_some_and(|kinds| kinds.contains(&json!(kind))) {
            faults.push(format!("{at}: {value} is no {kinds}"));
        }
        if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
            faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
        }
        for item in value.as_array().into_iter().flatten() {
            misfits(api, &schema["items"], item, &format!("{at}[]"), faults);
        }
        for (key, item) in value.as_object().into_iter().flatten() {
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) => faults.push(format!("{at}.{key}: is not in the schema")),
                (Value::Null, others) => misfits(api, others, item, &format!("{at}.{key}"), faults),
                (known, _) => misfits(api, known, item, &format!("{at}.{key}"), faults),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                faults.push(format!("{at}.{name}: is missing"));
            }
        }
    }

    #[test]
    fn every_example_is_one() {
        let api = serde_json::to_value(Api::openapi()).expect("serialises");
        let mut faults = Vec::new();
        for (name, example) in super::examples() {
            let schema = &api["components"]["schemas"][&name];
            assert_eq!(schema["example"], example, "{name} has its example");
            misfits(&api, schema, &example, &name, &mut faults);
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// The names of the schemas under `content`, which stand at the top of a body.
    fn bodies(value: &Value, found: &mut Vec<String>) {
        if let Some(name) = value["schema"]["$ref"].as_str() {
            found.extend(name.rsplit('/').next().map(str::to_owned));
        }
        for child in value.as_object().into_iter().flat_map(|map| map.values()) {
            bodies(child, found);
        }
    }

    #[test]
    fn every_body_has_an_example() {
        let api = serde_json::to_value(Api::openapi()).expect("serialises");
        let mut names = Vec::new();
        bodies(&api["paths"], &mut names);
        assert!(names.iter().any(|name| name == "Build") && names.iter().any(|name| name == "Problem"), "{names:?}");
        for name in names {
            let schema = &api["components"]["schemas"][&name];
            assert!(!schema["example"].is_null(), "{name} has no example");
        }
    }

    #[test]
    fn every_route_tells_its_refusals() {
        let api = serde_json::to_value(Api::openapi()).expect("serialises");
        for (path, item) in api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let responses = operation["responses"].as_object().expect("responses");
                let open = ["/healthz", "/readyz"].contains(&path.as_str());
                assert_eq!(responses.contains_key("401"), !open, "{method} {path}");
                for (status, response) in responses {
                    assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
                    assert_ne!(response["description"], "", "{method} {path} {status}");
                    let refusal = status.starts_with(['4', '5']);
                    assert!(!refusal || response["content"].is_object(), "{method} {path} {status}");
                }
            }
        }
    }
}
