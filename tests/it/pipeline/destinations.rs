//! Several destinations: each has a fate of its own.

use serde_json::Value;

use super::keep_registry;
use crate::support::gate::{Behind, Gate};
use crate::support::service::{self, Backend, dockerfile, tag_digest};
use crate::support::{private_registry, registry, unique};

fn state(build: &Value, index: usize) -> &str {
    build["destinations"][index]["state"].as_str().expect("a state")
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_pushed_to_at_the_same_time_and_each_tells_what_became_of_it() {
    let slow = Gate::before(Behind::Tcp(registry()), "/blobs/uploads/", 0).await;
    let (private, user, password) = private_registry();
    let service = service::start(Backend::Sqlite).await;
    keep_registry(&service, "private", (&private, &user, &password)).await;
    let path = unique("hosts");
    let images = [format!("{}/{path}:1", slow.address), format!("{private}/{path}:1"), "127.0.0.1:1/x:1".to_owned()];
    let text = format!("FROM busybox\nRUN echo {path} && head -c 3000000 /dev/urandom > /x\n");
    let form = images.iter().fold(dockerfile(&text), |form, image| form.text("image", image.clone()));
    let build = service.submit(form.text("registry", "private")).await;
    let held = service.until(&build, |build| state(build, 1) == "pushed" && state(build, 2) == "failed").await;
    assert_eq!((state(&held, 0), &held["state"]), ("pushing", &"pushing".into()), "the slow one holds up nobody: {held}");
    slow.open();
    let ended = service.ended(&build).await;
    assert_eq!([0, 1, 2].map(|index| state(&ended, index)), ["pushed", "pushed", "failed"], "{ended}");
    assert_eq!(ended["state"], "failed");
    let error = ended["error"]["message"].as_str().expect("a message");
    assert!(error.starts_with("127.0.0.1:1/x:1: ") && !error.contains(&path), "it names the one that failed: {error}");
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
