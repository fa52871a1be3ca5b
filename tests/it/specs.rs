//! What a container may be asked for: the escape corpus, and whatever else a client may think of.

mod corpus;
mod editing;
mod inventions;

use dockwright::apps::spec::{self, Rights, SpecRules};
use dockwright::domain::{ContainerSpec, SecretEnv};
use dockwright::error::{Error, FieldError};
use serde_json::{Map, Value};

/// As the corpus supposes them.
fn rules() -> SpecRules {
    SpecRules {
        bind_roots: vec!["/srv/data".into()],
        forbidden_sources: vec!["/srv/data/dockwright".into(), "/srv/data/engine.sock".into()],
        ..SpecRules::default()
    }
}

/// As a request goes: from its bytes.
fn read(body: &[u8], rights: Rights) -> Result<(ContainerSpec, SecretEnv), Vec<FieldError>> {
    let read = spec::object(body).and_then(|input| spec::read(&input, &rules(), rights));
    read.map_err(faults)
}

fn faults(error: Error) -> Vec<FieldError> {
    match error {
        Error::Invalid { fields, .. } if !fields.is_empty() => fields,
        other => panic!("is no answer for a client: {other:?}"),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn accepted(value: Value) -> (ContainerSpec, SecretEnv) {
    spec::read(&object(value), &rules(), Rights::Admin).unwrap_or_else(|error| panic!("{error}"))
}
