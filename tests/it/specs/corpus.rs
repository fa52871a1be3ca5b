use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dockwright::apps::spec::Rights;
use dockwright::domain::{EnvValue, Protocol, RestartPolicy};
use dockwright::error::FieldError;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{accepted, read};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/container-specs")
}

/// Name, body and expected field of each.
fn cases(kind: &str, at_least: usize) -> Vec<(String, Vec<u8>, String)> {
    let bodies =
        std::fs::read_dir(folder().join(kind)).expect("the fixtures are there").map(|entry| entry.expect("an entry").path());
    let cases: Vec<_> = bodies
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let field = std::fs::read_to_string(path.with_extension("field")).unwrap_or_default();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a body"), field.trim_end_matches('\n').to_owned())
        })
        .collect();
    assert!(cases.len() >= at_least, "only {} bodies in {kind}", cases.len());
    cases
}

/// Whether `named` is `field` or inside of it.
fn is_at(named: &str, field: &str) -> bool {
    named.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What is wrong with the answer to a body that is to be refused.
fn misnamed(name: &str, body: &[u8], field: &str, rights: Rights) -> Option<String> {
    let Err(faults) = read(body, rights) else { return Some(format!("{name} is accepted for {rights:?}")) };
    if field.is_empty() || faults.iter().any(|fault| fault.message.is_empty()) {
        return Some(format!("{name}: {field:?} is to be named and explained: {faults:?}"));
    }
    // What is well beside it must not be refused too.
    let exact = faults.iter().all(|fault| is_at(&fault.field, field));
    (!exact).then(|| format!("{name} for {rights:?} is not refused for {field} alone: {faults:?}"))
}

#[test]
fn specs_that_would_escape_are_refused_by_the_field() {
    let cases = cases("refused", 300);
    let wrong: Vec<String> = [Rights::User, Rights::Admin]
        .into_iter()
        .flat_map(|rights| cases.iter().filter_map(move |(name, body, field)| misnamed(name, body, field, rights)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn specs_that_are_well_are_accepted_for_everybody() {
    for (name, body, _) in cases("accepted", 25) {
        for rights in [Rights::User, Rights::Admin] {
            if let Err(faults) = read(&body, rights) {
                panic!("{name} is refused for {rights:?}: {faults:?}");
            }
        }
    }
}

#[test]
fn specs_of_admins_are_for_admins_alone() {
    for (name, body, field) in cases("admin", 4) {
        assert!(read(&body, Rights::Admin).is_ok(), "{name}");
        let Err(faults) = read(&body, Rights::User) else { panic!("{name} is accepted for a user") };
        assert_eq!(faults, [FieldError::new(field.clone(), format!("only an admin may use `{field}`"))], "{name}");
    }
}

/// `cap_add` in every way that somebody writes it.
fn spellings(name: &str) -> BTreeSet<String> {
    let words: Vec<&str> = name.split('_').collect();
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let pascal: String = words.iter().map(|word| capital(word)).collect();
    let camel = pascal[..1].to_lowercase() + &pascal[1..];
    let kebab = words.join("-");
    let flag = format!("--{kebab}");
    let value = format!("--{kebab}=host");
    let short = format!("-{kebab}");
    let forms = [name.to_owned(), pascal, camel, kebab, flag, value, short, name.to_uppercase(), words.concat(), words.join(".")];
    forms.into_iter().collect()
}

#[test]
fn specs_have_no_never_field_in_any_spelling_at_any_depth() {
    let list = std::fs::read_to_string(folder().join("never.txt")).expect("the list is there");
    let names: Vec<&str> = list.lines().collect();
    assert!(names.len() > 100, "names are missing");
    for key in names.iter().flat_map(|name| spellings(name)) {
        for value in [json!(true), json!(null), json!("host"), json!(["ALL"]), json!({"a": 1}), json!(0)] {
            never_at_the_top(&key, &value);
            never_inside(&key, &value);
        }
    }
}

fn never_at_the_top(key: &str, value: &Value) {
    let body = json!({"image": "busybox", key: value}).to_string();
    for rights in [Rights::User, Rights::Admin] {
        let Err(faults) = read(body.as_bytes(), rights) else { panic!("{body} is accepted") };
        assert_eq!(faults.len(), 1, "{body}: {faults:?}");
        assert_eq!(faults[0].field, key);
        let told = &faults[0].message;
        assert!(told.starts_with(&format!("`{key}` is not available: ")), "{body}: {told}");
    }
}

fn never_inside(key: &str, value: &Value) {
    let places = [
        ("ports[0]", json!({"ports": [{"container": 80, key: value}]})),
        ("volumes[0]", json!({"volumes": [{"volume": "a", "path": "/a", key: value}]})),
        ("binds[0]", json!({"binds": [{"source": "/srv/data/x", "path": "/a", key: value}]})),
        ("healthcheck", json!({"healthcheck": {"test": "true", key: value}})),
        ("env.A", json!({"env": {"A": {"secret": "x", key: value}}})),
    ];
    for (place, mut body) in places {
        body["image"] = "busybox".into();
        let Err(faults) = read(body.to_string().as_bytes(), Rights::Admin) else { panic!("{body} is accepted") };
        assert_eq!((faults.len(), &faults[0].field), (1, &format!("{place}.{key}")), "{body}: {faults:?}");
    }
}

#[test]
fn specs_are_refused_with_all_faults_together_and_an_explanation() {
    let body = br#"{"command": "x", "ports": [{"container": 80, "host": 22}], "memory": "64g", "Privileged": true, "imgae": "a", "cpus": 0}"#;
    let Err(faults) = read(body, Rights::User) else { panic!("is accepted") };
    let told: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    for expected in [
        "Privileged: `Privileged` is not available: containers have the same short list of capabilities, whoever asks",
        "imgae: `imgae` is no field; did you mean `image`?",
        "image: is missing: name an image, or a build in `build`",
        "command: must be a list of texts: [\"sh\", \"-c\", \"…\"]",
        "ports[0].host: host port 22 is outside 20000–29999",
        "memory: `memory` is 64g; the most is 4g",
        "cpus: \"0\" is no number of CPUs; write for example 2 or 1.5",
    ] {
        assert!(told.iter().any(|line| line == expected), "{expected:?} is not among {told:#?}");
    }
    assert_eq!(told.len(), 7, "{told:#?}");
}

#[test]
fn specs_are_refused_without_quoting_what_may_be_secret() {
    for body in [
        r#"{"image": "a", "env": {"A": {"secret": 1234512345}}}"#,
        r#"{"image": "a", "env": {"A": 1234512345}}"#,
        r#"{"image": "a", "env": {"A": {"secret": ["1234512345"]}}}"#,
        r#"{"image": "a", "env": {"A": "1234512345\u0000"}}"#,
        r#"{"image": "a", "env": "A=1234512345"}"#,
        r#"{"image": "a", "command": ["1234512345\u0000"]}"#,
        r#"{"image": "a", "command": "1234512345"}"#,
        r#"{"image": "a", "password": "1234512345"}"#,
        r#"{"image": "a", "env": {"A": "1", "A": "1234512345"}}"#,
        r#"{"image": "a", "env": {"A": "1234512345"}"#,
    ] {
        let Err(faults) = read(body.as_bytes(), Rights::Admin) else { panic!("{body} is accepted") };
        assert!(!format!("{faults:?}").contains("1234512345"), "{body}: {faults:?}");
    }
}

#[test]
fn specs_with_thousands_of_faults_get_a_short_answer() {
    let many: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("x{i}"), Value::Null)).collect();
    let Err(faults) = read(Value::Object(many).to_string().as_bytes(), Rights::User) else { panic!("is accepted") };
    assert_eq!(faults.len(), 51);
    assert_eq!(faults[50].message, "and 4951 faults more");
}

#[test]
fn specs_that_no_process_could_start_with_are_refused() {
    let arguments = vec!["x".repeat(16_000); 60];
    let env = |count: usize| (0..count).map(|i| (format!("A{i}"), json!({"secret": "y".repeat(32_000)}))).collect::<Value>();
    let body = |count: usize| json!({"image": "a", "command": arguments, "env": env(count)}).to_string();
    assert!(read(body(2).as_bytes(), Rights::User).is_ok());
    let Err(faults) = read(body(3).as_bytes(), Rights::User) else { panic!("is accepted") };
    assert_eq!(faults, [FieldError::new("env", "has, together with command and entrypoint, more than 1m")]);
}

#[test]
fn specs_mean_what_they_say() {
    let body = std::fs::read(folder().join("accepted/everything.json")).expect("a body");
    let (spec, secrets) = read(&body, Rights::User).expect("is accepted");
    assert_eq!((spec.memory_bytes, spec.milli_cpus, spec.pids), (256 << 20, 500, 100));
    assert_eq!(spec.restart, RestartPolicy::OnFailure(3));
    assert_eq!((spec.env["MODE"].clone(), spec.env["TOKEN"].clone()), (EnvValue::Plain("production".into()), EnvValue::Secret));
    assert_eq!(secrets.names().collect::<Vec<_>>(), ["TOKEN"]);
    assert_eq!(secrets.get("TOKEN").expect("is there").expose_secret(), "s3cret");
    let ports: Vec<_> = spec.ports.iter().map(|port| (port.container, port.protocol, port.host)).collect();
    use Protocol::{Tcp, Udp};
    assert_eq!(ports, [(80, Tcp, Some(20080)), (443, Tcp, None), (53, Udp, None), (53, Tcp, Some(20053)), (8080, Tcp, None)]);
    assert_eq!((spec.volumes[1].path.as_str(), spec.volumes[1].read_only, spec.volumes[0].read_only), ("/conf", true, false));
    let check = spec.healthcheck.expect("there is one");
    assert_eq!(
        (check.test.len(), check.interval_ms, check.start_period_ms, check.retries),
        (4, Some(30_000), Some(90_000), Some(3))
    );
    let test =
        |value: Value| accepted(json!({"image": "a", "healthcheck": {"test": value}})).0.healthcheck.expect("there is one").test;
    assert_eq!(test(json!("exit 0")), ["CMD-SHELL", "exit 0"]);
    assert_eq!(test(json!(["curl", "x"])), ["CMD", "curl", "x"]);
    assert_eq!(test(json!(["NONE"])), ["NONE"]);
}

#[test]
fn specs_that_say_nothing_get_the_defaults() {
    let (spec, secrets) = accepted(json!({"image": "busybox"}));
    assert_eq!((spec.memory_bytes, spec.milli_cpus, spec.pids), (512 << 20, 1000, 256));
    assert_eq!(spec.restart, RestartPolicy::No);
    assert!(spec.ports.is_empty() && spec.volumes.is_empty() && spec.admin.binds.is_empty() && secrets.is_empty());
    assert!(!spec.read_only && !spec.tty && spec.healthcheck.is_none() && spec.user.is_none());
}
