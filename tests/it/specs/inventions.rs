//! For any input: the reader does not panic, and what it accepts is well and reads back as it is shown.

use std::collections::BTreeSet;

use dockwright::apps::spec::{self, FIELDS, Rights, object, replace, show};
use dockwright::domain::{ContainerSpec, EnvValue, NetworkChoice, SecretEnv, limits};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::rules;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9./:_-]{0,12}",
        prop::sample::select(vec![
            "busybox",
            "/data",
            "/proc",
            "..",
            "/",
            "512m",
            "1.5",
            "default",
            "none",
            "host",
            "always",
            "on-failure:3",
            "30s",
            "tcp",
            "udp",
            "CMD",
            "CMD-SHELL",
            "NONE",
            "dockwright.x",
            "/srv/data/x",
            "/srv/data/dockwright",
            "0.0.0.0",
            "root",
            "1000:1000",
            "data",
            "01a1fcc6-00db-778f-aa50-18c1c74c2480",
            "\0",
            "-1",
            "1e3",
            "a:b",
        ])
        .prop_map(str::to_owned),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let inner = [
        "container",
        "host",
        "protocol",
        "volume",
        "path",
        "read_only",
        "secret",
        "test",
        "interval",
        "disable",
        "source",
        "A",
        "PATH",
    ];
    let known: Vec<&str> = FIELDS.iter().copied().chain(inner).collect();
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => text()]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u64..70_000).prop_map(Value::from),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number(), text().prop_map(Value::from)];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let map = hash_map(key(), inner.clone(), 0..6).prop_map(|entries| Value::Object(entries.into_iter().collect()));
        prop_oneof![vec(inner, 0..6).prop_map(Value::from), map]
    })
}

fn port() -> impl Strategy<Value = Value> {
    let host = prop::option::of(prop_oneof![19_990u16..20_010, 29_990u16..30_010]);
    let protocol = prop::option::of(prop::sample::select(vec!["tcp", "udp", "TCP"]));
    prop_oneof![
        any::<u16>().prop_map(Value::from),
        (any::<u16>(), host, protocol)
            .prop_map(|(container, host, protocol)| json!({"container": container, "host": host, "protocol": protocol})),
    ]
}

fn mount(from: &'static str) -> impl Strategy<Value = Value> {
    ("[a-z0-9/.-]{1,10}", "/?[a-z/.]{0,8}", prop::option::of(any::<bool>())).prop_map(move |(source, path, read_only)| {
        let source = if from == "source" { format!("/srv/data/{source}") } else { source };
        json!({from: source, "path": path, "read_only": read_only})
    })
}

fn health() -> impl Strategy<Value = Value> {
    let test = prop_oneof![any::<String>().prop_map(Value::from), vec(text(), 0..4).prop_map(Value::from)];
    (test, prop::option::of("[0-9]{1,5}(ms|s|m|h)"), prop::option::of(0u64..200))
        .prop_map(|(test, time, retries)| json!({"test": test, "interval": time, "start_period": time, "retries": retries}))
}

fn named(name: &'static str) -> impl Strategy<Value = (String, Value)> {
    likely(name).prop_map(move |value| (name.to_owned(), value))
}

fn env() -> impl Strategy<Value = Value> {
    let value = prop_oneof![any::<String>().prop_map(Value::from), any::<String>().prop_map(|secret| json!({"secret": secret}))];
    hash_map("[A-Za-z_0-9.]{1,8}", value, 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

/// Mostly well, so that much of it is accepted.
fn likely(name: &'static str) -> BoxedStrategy<Value> {
    let of = |values: &[Value]| prop::sample::select(values.to_vec()).boxed();
    match name {
        "image" => of(&[json!("busybox"), json!("h:1/a:2"), json!(format!("a:3@sha256:{}", "a".repeat(64))), json!("A")]),
        "build" => of(&[json!("01a1fcc6-00db-778f-aa50-18c1c74c2480"), json!("x")]),
        "command" | "entrypoint" => vec(any::<String>(), 0..4).prop_map(Value::from).boxed(),
        "env" => env().boxed(),
        "labels" => hash_map("[a-zA-Z_./-]{1,16}", any::<String>().prop_map(Value::from), 0..5)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
            .boxed(),
        "ports" => vec(port(), 0..4).prop_map(Value::from).boxed(),
        "volumes" => vec(mount("volume"), 0..3).prop_map(Value::from).boxed(),
        "binds" => vec(mount("source"), 0..2).prop_map(Value::from).boxed(),
        "network" => "[a-z0-9-]{1,6}".prop_map(Value::from).boxed(),
        "memory" => prop_oneof![(0u64..6 << 30).prop_map(Value::from), "[0-9]{1,4}[kmgKMG]?[ib]?".prop_map(Value::from)].boxed(),
        "cpus" => prop_oneof![
            (0.0f64..6.0).prop_map(Value::from),
            "[0-5](\\.[0-9]{1,3})?".prop_map(Value::from),
            (0u8..6).prop_map(Value::from)
        ]
        .boxed(),
        "pids" => (0u64..5000).prop_map(Value::from).boxed(),
        "restart" => of(&[json!("no"), json!("always"), json!("on-failure:007"), json!("unless-stopped"), json!("on-failure")]),
        "user" => "[a-z0-9_.-]{1,5}(:[a-z0-9]{0,3})?".prop_map(Value::from).boxed(),
        "workdir" => "/?[a-z/.]{0,8}".prop_map(Value::from).boxed(),
        "healthcheck" => health().boxed(),
        "publish_on" => of(&[json!("0.0.0.0"), json!("::1"), json!("localhost")]),
        _ => any::<bool>().prop_map(Value::from).boxed(),
    }
}

/// An image, and some of the other fields.
fn nearly_well() -> impl Strategy<Value = Map<String, Value>> {
    let fields = prop::sample::subsequence(FIELDS[2..].to_vec(), 0..6);
    let values = fields.prop_flat_map(|names| names.into_iter().map(named).collect::<Vec<_>>());
    let image = prop::sample::select(vec!["image", "image", "image", "build"]).prop_flat_map(named);
    (image, values).prop_map(|(image, values)| values.into_iter().chain([image]).collect())
}

/// What holds of each spec that is accepted with the rules of these tests.
fn assert_well(spec: &ContainerSpec, secrets: &SecretEnv, rights: Rights) {
    assert!((limits::LEAST_MEMORY_BYTES..=4 << 30).contains(&spec.memory_bytes) && (10..=4000).contains(&spec.milli_cpus));
    assert!((1..=4096).contains(&spec.pids));
    let mut free = BTreeSet::new();
    for port in &spec.ports {
        assert!(port.container > 0 && free.insert((port.container, port.protocol)));
        assert!(port.host.is_none_or(|host| (20_000..=29_999).contains(&host)));
    }
    assert!(spec.network != NetworkChoice::None || spec.ports.is_empty());
    let texts = spec.command.iter().chain(&spec.entrypoint).chain(&spec.user).chain(&spec.workdir).chain(spec.labels.values());
    assert!(texts.chain(spec.env.keys()).all(|text| !text.contains('\0')));
    let secret: Vec<&str> =
        spec.env.iter().filter(|(_, value)| **value == EnvValue::Secret).map(|(name, _)| name.as_str()).collect();
    assert_eq!(secrets.names().collect::<Vec<_>>(), secret, "each secret has its value, and there is no other");
    assert!(spec.env.keys().all(|name| !name.contains('=') && !name.is_empty()));
    assert!(spec.labels.keys().all(|key| !key.to_ascii_lowercase().starts_with("dockwright.") && key.is_ascii()));
    let inside = spec.volumes.iter().map(|mount| &mount.path).chain(spec.admin.binds.iter().map(|bind| &bind.path));
    let mut paths = BTreeSet::new();
    for path in inside {
        assert!(path.len() > 1 && is_plain(path) && paths.insert(path), "{path}");
        assert!(["proc", "sys", "dev"].iter().all(|kernel| path[1..].split('/').next() != Some(kernel)), "{path}");
    }
    assert!(spec.workdir.as_ref().is_none_or(|path| path == "/" || is_plain(path)));
    assert!(spec.volumes.iter().all(|mount| !mount.volume.as_str().contains(['/', '.', ':'])));
    let binds = &spec.admin.binds;
    assert!(rights == Rights::Admin || binds.is_empty() && spec.admin.publish_on.is_none());
    for bind in binds {
        assert!(bind.source.starts_with("/srv/data/") && is_plain(&bind.source), "{}", bind.source);
        assert!(!bind.source.starts_with("/srv/data/dockwright/") && bind.source != "/srv/data/dockwright");
    }
    let test = spec.healthcheck.as_ref().map(|check| check.test[0].as_str());
    assert!(test.is_none_or(|word| ["CMD", "CMD-SHELL", "NONE"].contains(&word)));
}

fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|inside| inside.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// Whether it was accepted.
fn check(input: &Map<String, Value>, rights: Rights) -> bool {
    let bytes = serde_json::to_vec(input).expect("serialises");
    let input = match object(&bytes) {
        Ok(input) => input,
        Err(error) => {
            super::faults(error);
            return false;
        }
    };
    let (spec, secrets) = match spec::read(&input, &rules(), rights) {
        Ok(accepted) => accepted,
        Err(error) => {
            super::faults(error);
            return false;
        }
    };
    assert_well(&spec, &secrets, rights);
    let shown = show(&spec);
    let secret_values: Vec<String> = secrets.names().map(|name| shown["env"][name].to_string()).collect();
    assert!(secret_values.iter().all(|shown| shown == r#"{"secret":true}"#), "{secret_values:?}");
    let (again, new) =
        replace(&spec, &shown, &rules(), rights).unwrap_or_else(|error| panic!("{shown:?} is shown and refused: {error}"));
    assert_eq!(again, spec);
    assert!(new.is_empty());
    let kept = serde_json::to_string(&spec).expect("serialises");
    assert_eq!(serde_json::from_str::<ContainerSpec>(&kept).expect("reads"), spec, "as the store keeps it");
    true
}

proptest! {
    #[test]
    fn specs_from_any_json_get_an_answer(input in hash_map(key(), anything(), 0..8), admin in any::<bool>()) {
        check(&input.into_iter().collect(), if admin { Rights::Admin } else { Rights::User });
    }

    #[test]
    fn specs_from_any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..200)) {
        let _ = object(&bytes);
    }

    #[test]
    fn specs_are_shown_as_they_can_be_read(input in nearly_well(), admin in any::<bool>()) {
        check(&input, if admin { Rights::Admin } else { Rights::User });
    }
}

#[test]
fn specs_that_are_invented_are_often_well() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut inventions = std::iter::repeat_with(|| nearly_well().new_tree(&mut runner).expect("an invention").current());
    let well = inventions.by_ref().take(300).filter(|input| check(input, Rights::Admin)).count();
    assert!(well > 30, "only {well} of 300 are accepted: the inventions try nothing");
}
