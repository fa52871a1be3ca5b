//! Several destinations: each has a fate of its own.

use serde_json::Value;

use super::{keep_registry, on_both_stores};
use crate::support::gate::{Behind, Gate};
use crate::support::service::{self, Backend, dockerfile, tag_digest};
use crate::support::{private_registry, registry, unique};

on_both_stores!(hosts_are_pushed_to_at_the_same_time_and_each_tells_what_became_of_it);

fn state(build: &Value, index: usize) -> &str {
    build["destinations"][index]["state"].as_str().expect("a state")
}

async fn hosts_are_pushed_to_at_the_same_time_and_each_tells_what_became_of_it(backend: Backend) {
    let slow = Gate::before(Behind::Tcp(registry()), "PATCH /", 1000).await;
    let (private, user, password) = private_registry();
    // The same one behind another name is another registry for all who look.
    let other = Gate::before(Behind::Tcp(private.clone()), "nothing is held", 0).await;
    let service = service::start(backend).await;
    keep_registry(&service, "private", (&private, &user, &password)).await;
    keep_registry(&service, "other", (&other.address.to_string(), &user, "wrong")).await;
    let path = unique("hosts");
    let images = [
        format!("{}/{path}:1", slow.address),
        format!("{private}/{path}:1"),
        "127.0.0.1:1/x:1".to_owned(),
        format!("{}/{path}-other:1", other.address),
    ];
    let text = format!("FROM busybox\nRUN echo {path} && head -c 3000000 /dev/urandom > /x\n");
    let form = images.iter().fold(dockerfile(&text), |form, image| form.text("image", image.clone()));
    let build = service.submit(form.text("registry", "private").text("registry", "other")).await;
    slow.reached().await;
    let settled = |build: &Value| [1, 2, 3].map(|index| state(build, index)) == ["pushed", "failed", "failed"];
    let sent = |build: &Value| build["destinations"][0]["bytes"]["done"].as_u64().is_some_and(|bytes| bytes > 0);
    // How far the slow one is, is told while it is under way.
    let held = service.until(&build, |build| settled(build) && sent(build)).await;
    assert!(held["destinations"][0]["bytes"]["total"].as_u64().is_some_and(|bytes| bytes >= 2_900_000), "{held}");
    assert_eq!((state(&held, 0), &held["state"]), ("pushing", &"pushing".into()), "the slow one holds up nobody: {held}");
    slow.open();
    let ended = service.ended(&build).await;
    assert_eq!([0, 1, 2, 3].map(|index| state(&ended, index)), ["pushed", "pushed", "failed", "failed"], "{ended}");
    assert_eq!(ended["state"], "failed");
    let error = ended["error"]["message"].as_str().expect("a message");
    let named: Vec<&str> = error.lines().filter_map(|line| line.split_once(": ")).map(|(image, _)| image).collect();
    assert_eq!(named, [&images[2], &images[3]], "those that failed, and no other: {error}");
    // Each is shown its own credentials. Of two errors the one counts that trying again does not help.
    assert_eq!((&ended["destinations"][3]["error"]["code"], &ended["error"]["kind"]), (&"registry_auth".into(), &"auth".into()));
    assert_eq!(ended["destinations"][2]["error"]["kind"], "registry");
    for (index, login) in [(0, None), (1, Some((user.as_str(), password.as_str())))] {
        let destination = &ended["destinations"][index];
        let digest = tag_digest(&images[index], login).await;
        assert!(digest.is_some() && destination["digest"].as_str() == digest.as_deref(), "{destination}");
        assert_eq!((&destination["attempts"], &destination["error"]), (&1.into(), &Value::Null), "{destination}");
        let (total, done) = (destination["bytes"]["total"].as_u64(), destination["bytes"]["done"].as_u64());
        assert!(total.is_some_and(|bytes| bytes >= 2_900_000) && total == done, "{destination}");
        assert!(destination["started_at"].as_str() < destination["finished_at"].as_str(), "{destination}");
    }
    assert!(ended["destinations"][2]["attempts"].as_u64().is_some_and(|tries| tries >= 1), "{ended}");
    service.delete(&build).await;
}
