//! What a worker that was killed in a push has left: an image that is gone from the engine is fetched back from where it was pushed, and
//! never made twice; a younger build's tag is put back.

use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use super::on_both_stores;
use crate::registry::proxy::{Act, Proxy};
use crate::support::client::Client;
use crate::support::gate::{Behind, Gate};
use crate::support::process::Process;
use crate::support::service::{Backend, docker, dockerfile, has_local_tag, tag_digest};
use crate::support::{redis_url, registry, unique};

on_both_stores!(
    an_image_that_was_pushed_is_fetched_when_its_worker_is_lost_and_it_is_gone,
    a_build_that_has_pushed_an_image_which_is_lost_makes_no_other,
    what_came_late_of_a_killed_push_is_put_back,
);

/// A service as a process, which can be killed and started again on what it has left.
struct Restarted {
    data: tempfile::TempDir,
    store: Vec<String>,
}

impl Restarted {
    fn new(backend: Backend) -> Self {
        let store = match backend {
            Backend::Sqlite => Vec::new(),
            Backend::Redis => ["--store", &redis_url(), "--store-prefix", &unique("fetched")].map(str::to_owned).to_vec(),
        };
        Self { data: tempfile::tempdir().expect("a folder"), store }
    }

    fn start(&self) -> (Process, Client) {
        self.start_with(&[])
    }

    /// With this gate in front of its engine.
    fn start_behind(&self, gate: &Gate) -> (Process, Client) {
        self.start_with(&["--engine", &format!("tcp://{}", gate.address)])
    }

    fn start_with(&self, more: &[&str]) -> (Process, Client) {
        let mut args = [&["serve", "--listen", "127.0.0.1:0", "--lease", "2s"], more].concat();
        args.extend(self.store.iter().map(String::as_str));
        let path: &Path = self.data.path();
        let mut process = Process::start(&args, path);
        let client = Client::new(&tokio::task::block_in_place(|| process.address()), path);
        (process, client)
    }
}

/// A build that is not the same when it is made again, to two registries.
async fn submit(client: &Client, images: [&str; 2]) -> String {
    // With a name of its own: BuildKit does a step once for all builds that have it at the same time.
    let text = format!("FROM busybox\nRUN : {} && head -c 99 /dev/urandom >/once\n", unique("step"));
    let form = dockerfile(&text).text("no_cache", "true");
    client.submit(images.into_iter().fold(form, |form, image| form.text("image", image.to_owned()))).await
}

/// Waits until the first destination has the image, while the second is held.
async fn half_pushed(client: &Client, gate: &Gate, id: &str) -> Value {
    gate.reached().await;
    let mut now = client.get(id).await;
    while now["destinations"][0]["state"] != "pushed" {
        now = client.moves(id, 30).await.unwrap_or_else(|| panic!("nothing moves: {now}"));
    }
    now
}

async fn an_image_that_was_pushed_is_fetched_when_its_worker_is_lost_and_it_is_gone(backend: Backend) {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/uploads/", 0).await;
    let (service, path) = (Restarted::new(backend), unique("fetched"));
    let images = [format!("{}/{path}/a:1", registry()), format!("{}/{path}/b:1", gate.address)];
    let (doomed, client) = service.start();
    let id = submit(&client, [&images[0], &images[1]]).await;
    let before = half_pushed(&client, &gate, &id).await;
    doomed.kill();
    docker(&["rmi", "-f", before["image_id"].as_str().expect("an image")]);
    gate.open();
    let (_process, client) = service.start();
    let ended = client.ended(&id).await;
    let log = client.text(&format!("{id}/logs")).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"published".into(), &2.into()), "{ended}\n{log}");
    assert!(log.contains(&format!("fetching it from {}/{path}/a@sha256:", registry())), "{log}");
    assert_eq!(ended["image_id"], before["image_id"]);
    let digest = before["destinations"][0]["digest"].as_str().expect("a digest");
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        assert_eq!(ended["destinations"][index]["digest"], digest, "{ended}");
        assert_eq!(tag_digest(&format!("{}/{path}/{name}:1", registry()), None).await.as_deref(), Some(digest));
    }
    let names =
        docker(&["image", "inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", ended["image_id"].as_str().expect("an image")]);
    assert_eq!(names, format!("[dockwright.local/build:{id}] []"), "it bears no name that others could read it by");
    client.delete(&id).await;
    assert!(!has_local_tag(&ended));
}

async fn a_build_that_has_pushed_an_image_which_is_lost_makes_no_other(backend: Backend) {
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/uploads/", 0).await;
    let gone = Proxy::before(&registry(), |_, _| Act::Pass).await;
    let (service, path) = (Restarted::new(backend), unique("lost"));
    let images = [format!("{}/{path}/a:1", gone.host), format!("{}/{path}/b:1", gate.address)];
    let (doomed, client) = service.start();
    let id = submit(&client, [&images[0], &images[1]]).await;
    let before = half_pushed(&client, &gate, &id).await;
    doomed.kill();
    docker(&["rmi", "-f", before["image_id"].as_str().expect("an image")]);
    drop(gone);
    gate.open();
    let (_process, client) = service.start();
    let ended = client.ended(&id).await;
    let error = &ended["error"];
    assert_eq!((&error["kind"], &error["code"]), (&"infra".into(), &"image_lost".into()), "{ended}");
    assert!(error["message"].as_str().is_some_and(|told| told.contains(&format!("{path}/a@sha256:"))), "{error}");
    assert_eq!(ended["destinations"][0]["digest"], before["destinations"][0]["digest"], "what was pushed stays true");
    assert_eq!((&ended["destinations"][0]["state"], &ended["destinations"][1]["state"]), (&"pushed".into(), &"waiting".into()));
    assert_eq!(tag_digest(&format!("{}/{path}/b:1", registry()), None).await, None, "nothing else is published under its id");
    // Another build may.
    let again = client.request(Method::POST, &format!("/{id}/retry")).send().await.expect("an answer");
    assert_eq!(again.status(), 202);
    let again: Value = again.json().await.expect("JSON");
    let again = client.ended(again["id"].as_str().expect("an id")).await;
    assert_eq!((&again["state"], &again["destinations"][1]["state"]), (&"failed".into(), &"pushed".into()), "{again}");
    assert_ne!(again["image_id"], before["image_id"]);
    for build in [&ended, &again] {
        client.delete(build["id"].as_str().expect("an id")).await;
    }
}

async fn what_came_late_of_a_killed_push_is_put_back(backend: Backend) {
    let (service, tag) = (Restarted::new(backend), format!("{}/{}:latest", registry(), unique("late")));
    let submit = async |client: &Client, what: &str| {
        client.submit(dockerfile(&format!("FROM busybox\nLABEL a={what}\n")).text("image", tag.clone())).await
    };
    let gate = Gate::engine("/push?", 0).await;
    let (doomed, client) = service.start_behind(&gate);
    let older = submit(&client, "older").await;
    gate.reached().await;
    doomed.kill();
    // Its next attempt is held at its first word about this build to the engine.
    let gate = Gate::engine(Box::leak(older.clone().into_boxed_str()), 0).await;
    let (_process, client) = service.start_behind(&gate);
    let younger = client.ended(&submit(&client, "younger").await).await;
    assert_eq!(younger["state"], "published", "{younger}");
    let pushed = tag_digest(&tag, None).await;
    assert_eq!(younger["destinations"][0]["digest"].as_str(), pushed.as_deref());
    gate.reached().await;
    for command in [&["tag", &format!("dockwright.local/build:{older}"), &tag][..], &["push", &tag], &["rmi", &tag]] {
        docker(command);
    }
    assert_ne!(tag_digest(&tag, None).await, pushed, "the older one's has come there");
    gate.open();
    let ended = client.ended(&older).await;
    let log = client.text(&format!("{older}/logs")).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"cancelled".into(), &2.into()), "{ended}\n{log}");
    assert_eq!((&ended["superseded_by"], &ended["destinations"][0]["state"]), (&younger["id"], &"superseded".into()), "{ended}");
    assert_eq!(tag_digest(&tag, None).await, pushed, "{log}");
    for build in [&ended, &younger] {
        client.delete(build["id"].as_str().expect("an id")).await;
        assert!(!has_local_tag(build));
    }
}
