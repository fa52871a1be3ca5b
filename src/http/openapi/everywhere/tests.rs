use serde_json::{Value, json};
use utoipa::OpenApi as _;

use super::super::Api;
use crate::http::access::{Need, RULES};

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
    // Of several schemas together, as if they were one.
    if let Some(parts) = schema["allOf"].as_array() {
        let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
        for part in parts {
            let part = part["$ref"].as_str().and_then(|name| api.pointer(name.trim_start_matches('#'))).unwrap_or(part);
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        let whole = json!({"type": "object", "properties": properties, "required": required});
        return misfits(api, &whole, value, at, faults);
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

/// Each route of the document: its method, its path, itself.
fn operations(api: &Value) -> Vec<(String, String, &Value)> {
    let paths = api["paths"].as_object().expect("paths");
    let routes = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    routes.collect()
}

#[test]
fn every_route_tells_its_refusals() {
    let api = serde_json::to_value(Api::openapi()).expect("serialises");
    for (method, path, operation) in operations(&api) {
        let responses = operation["responses"].as_object().expect("responses");
        let rule = RULES.iter().find(|rule| rule.method == method && rule.path == path).expect("a rule");
        assert_eq!(responses.contains_key("401"), rule.need != Need::Nothing, "{method} {path}");
        assert_eq!(responses.contains_key("403"), matches!(rule.need, Need::Scope(_) | Need::Either(..)), "{method} {path}");
        assert_eq!(operation["security"] == json!([{}]), rule.need == Need::Nothing, "{method} {path}");
        for (status, response) in responses {
            assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            assert_ne!(response["description"], "", "{method} {path} {status}");
            let refusal = status.starts_with(['4', '5']);
            assert!(!refusal || response["content"].is_object(), "{method} {path} {status}");
        }
    }
}

#[test]
fn document_and_rules_know_the_same_routes() {
    let api = serde_json::to_value(Api::openapi()).expect("serialises");
    let told: std::collections::BTreeSet<String> =
        operations(&api).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    // The document does not describe itself.
    let ruled = RULES.iter().filter(|rule| !["/api/openapi.json", "/api/docs"].contains(&rule.path));
    assert_eq!(told, ruled.map(|rule| format!("{} {}", rule.method, rule.path)).collect());
}

#[test]
fn every_parameter_is_told_once_and_every_post_may_have_a_key() {
    let api = serde_json::to_value(Api::openapi()).expect("serialises");
    for (method, path, operation) in operations(&api) {
        let parameters = operation["parameters"].as_array().expect("parameters");
        let mut names: Vec<String> = parameters.iter().map(|p| format!("{} {}", p["in"], p["name"])).collect();
        let many = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), many, "{method} {path}: {names:?}");
        let keyed = parameters.iter().any(|p| p["name"] == "Idempotency-Key");
        assert_eq!(
            keyed,
            method == "POST" && !["/api/v1/session", "/api/v1/contexts/{id}/blobs"].contains(&&*path),
            "{method} {path}"
        );
        assert!(!operation["description"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
    }
}
