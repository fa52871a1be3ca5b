use dockwright::apps::spec::{needs_restart, patch, replace, show};
use dockwright::domain::{ContainerSpec, EnvValue, Healthcheck, SecretEnv};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Rights, accepted, faults, object, rules};

fn web() -> (ContainerSpec, SecretEnv) {
    accepted(json!({
        "image": "busybox", "command": ["httpd", "-f"], "env": {"MODE": "production", "TOKEN": {"secret": "old"}, "KEY": {"secret": "key"}},
        "ports": [80], "memory": "64m", "user": "1000", "labels": {"team": "blue"},
        "healthcheck": {"test": "true", "interval": "5s", "retries": 2},
    }))
}

fn patched(change: Value) -> (ContainerSpec, SecretEnv) {
    patch(&web().0, &object(change), &rules(), Rights::User).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(change: Value) -> Vec<String> {
    let error = patch(&web().0, &object(change), &rules(), Rights::User).err().expect("is refused");
    faults(error).into_iter().map(|fault| fault.field).collect()
}

#[test]
fn specs_are_patched_field_by_field() {
    let before = web().0;
    assert_eq!(patched(json!({})).0, before, "nothing said, nothing changed");
    let after = patched(json!({"memory": "128m", "user": null, "env": {"MODE": "test", "EXTRA": "1"}, "command": ["sh"]})).0;
    assert_eq!((after.memory_bytes, after.user.as_deref()), (128 << 20, None));
    assert_eq!(after.command, ["sh"], "a list is replaced");
    assert_eq!(after.env.len(), 4, "variables are merged");
    assert_eq!(after.env["MODE"], EnvValue::Plain("test".into()));
    assert_eq!((&after.image, &after.ports, &after.healthcheck), (&before.image, &before.ports, &before.healthcheck));
    let after = patched(json!({"memory": null, "env": {"MODE": null, "NEVER_WAS": null}, "labels": null, "ports": null})).0;
    assert_eq!((after.memory_bytes, after.ports.len(), after.labels.len()), (512 << 20, 0, 0), "back to the defaults");
    assert_eq!(after.env.keys().collect::<Vec<_>>(), ["KEY", "TOKEN"]);
}

#[test]
fn specs_are_patched_from_image_to_build_and_back() {
    let id = "01a1fcc6-00db-778f-aa50-18c1c74c2480";
    let built = patched(json!({"build": id})).0;
    assert_eq!(show(&built)["build"], id);
    let back = patch(&built, &object(json!({"image": "alpine"})), &rules(), Rights::User).expect("is accepted").0;
    assert_eq!(show(&back)["image"], "docker.io/library/alpine:latest");
    assert_eq!(refused(json!({"build": id, "image": "alpine"})), ["build"]);
    assert_eq!(refused(json!({"image": null})), ["image"]);
}

#[test]
fn specs_have_their_healthcheck_patched() {
    let check = |change: Value| patched(json!({"healthcheck": change})).0.healthcheck;
    let slower = check(json!({"interval": "1m", "retries": null})).expect("there is one");
    assert_eq!((slower.test[1].as_str(), slower.interval_ms, slower.retries), ("true", Some(60_000), None));
    assert_eq!(check(Value::Null), None);
    let disabled = check(json!({"disable": true}));
    let none =
        Healthcheck { test: vec!["NONE".into()], interval_ms: None, timeout_ms: None, start_period_ms: None, retries: None };
    assert_eq!(disabled, Some(none));
    let spec = patched(json!({"healthcheck": {"disable": true}})).0;
    let again = patch(&spec, &object(json!({"healthcheck": {"test": "false"}})), &rules(), Rights::User).expect("is accepted").0;
    assert_eq!(again.healthcheck.expect("there is one").test, ["CMD-SHELL", "false"]);
}

#[test]
fn specs_are_not_patched_with_what_could_not_be_asked_for() {
    for (change, field) in [
        (json!({"privileged": null}), "privileged"),
        (json!({"HostConfig": {"Binds": null}}), "HostConfig"),
        (json!({"healthcheck": {"privileged": null}}), "healthcheck.privileged"),
        (json!({"env": {"TOKEN": {"file": null}}}), "env.TOKEN.file"),
        (json!({"env": {"NEW": {"secret": true}}}), "env.NEW.secret"),
        (json!({"env": {"MODE": {"secret": true}}}), "env.MODE.secret"),
        (json!({"env": ["A=1"]}), "env"),
        (json!({"ports": {"0": {"host": 22}}}), "ports"),
        (json!({"memory": "64g"}), "memory"),
        (json!({"labels": {"dockwright.owner": "root"}}), "labels.dockwright.owner"),
        (json!({"binds": [{"source": "/srv/data/x", "path": "/x"}]}), "binds"),
    ] {
        assert_eq!(refused(change.clone()), [field], "{change}");
    }
}

#[test]
fn specs_with_what_an_admin_gave_are_changed_by_admins_alone() {
    let (given, _) = accepted(json!({"image": "a", "binds": [{"source": "/srv/data/x", "path": "/x"}], "publish_on": "0.0.0.0"}));
    let change = object(json!({"command": ["cat", "/x/secret"]}));
    let error = patch(&given, &change, &rules(), Rights::User).err().expect("is refused");
    assert_eq!(faults(error).into_iter().map(|fault| fault.field).collect::<Vec<_>>(), ["binds", "publish_on"]);
    assert!(patch(&given, &change, &rules(), Rights::Admin).is_ok());
    let without = object(json!({"command": ["sh"], "binds": null, "publish_on": null}));
    let without = patch(&given, &without, &rules(), Rights::User).expect("anybody may go without").0;
    assert!(without.admin.binds.is_empty() && without.admin.publish_on.is_none());
}

#[test]
fn specs_keep_the_secrets_that_are_given_back_as_they_are_shown() {
    let (before, old) = web();
    let mut input = show(&before);
    assert_eq!(input["env"]["TOKEN"], json!({"secret": true}));
    let (same, new) = replace(&before, &input, &rules(), Rights::User).expect("what is shown is accepted");
    assert!(new.is_empty() && same == before);
    let kept = new.completed(&same, &old);
    assert_eq!(kept.get("TOKEN").expect("is kept").expose_secret(), "old");

    input["env"] = json!({"TOKEN": {"secret": "new"}, "KEY": "open now"});
    let (after, new) = replace(&before, &input, &rules(), Rights::User).expect("is accepted");
    let kept = new.completed(&after, &old);
    assert_eq!(kept.names().collect::<Vec<_>>(), ["TOKEN"], "what is no secret any more is forgotten");
    assert_eq!(kept.get("TOKEN").expect("is new").expose_secret(), "new");
    let (after, new) = patched(json!({"env": {"TOKEN": {"secret": "newer"}}}));
    assert_eq!(new.completed(&after, &old).get("TOKEN").expect("is new").expose_secret(), "newer");
}

#[test]
fn specs_tell_what_a_running_container_does_not_follow() {
    let before = web().0;
    let told = |change: Value| {
        let (after, new) = patched(change);
        needs_restart(&before, &after, &new)
    };
    assert!(told(json!({})).is_empty());
    assert!(
        told(json!({"memory": "65536k", "healthcheck": {"test": ["CMD-SHELL", "true"]}})).is_empty(),
        "the same otherwise written"
    );
    assert_eq!(told(json!({"memory": "65m", "restart": "always", "env": {"A": "1"}})), ["env", "memory", "restart"]);
    assert_eq!(told(json!({"env": {"TOKEN": {"secret": "new"}}})), ["env"], "another value of a secret");
}
