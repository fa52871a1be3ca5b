//! Of two builds of one tag the younger has it in the end.

use dockwright::domain::{BuildId, ImageRef, Owner};
use dockwright::store::tag_push::TagPush;
use futures::future::join_all;
use reqwest::multipart::Form;
use serde_json::Value;

use super::on_both_stores;
use crate::support::cluster::Cluster;
use crate::support::gate::Gate;
use crate::support::service::{self, Backend, Running, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{registry, unique};

on_both_stores!(
    the_tag_ends_on_the_younger_twenty_times_of_twenty,
    a_tag_that_a_younger_build_has_is_left_alone,
    only_what_was_pushed_counts,
);

const PAIRS: usize = 20;
/// Stands in the request of a build that is to be held at its gate.
const GATED: &str = "held-at-the-gate";

async fn submit(service: &Running, step: &str, image: &str) -> Value {
    let text = format!("FROM busybox\nRUN echo {} > /x && {step}\n", unique("pair"));
    service.submit(dockerfile(&text).text("image", image.to_owned())).await
}

/// One whose build the engine is not asked for before its gate is opened ([`GATED`]).
fn gated(image: &str) -> Form {
    let text = format!("FROM busybox\nLABEL a={}\n", unique("older"));
    dockerfile(&text).text("image", image.to_owned()).text("label", format!("speed={GATED}"))
}

async fn assert_overtaken(service: &Running, older: &Value, younger: &Value, image: &str) {
    let older = service.ended(older).await;
    assert_eq!((&older["state"], &older["superseded_by"]), (&"cancelled".into(), &younger["id"]), "{older}");
    assert_eq!(older["message"], format!("Superseded by build {}", id(younger)));
    let destination = &older["destinations"][0];
    assert_eq!((&destination["state"], &destination["superseded_by"]), (&"superseded".into(), &younger["id"]), "{older}");
    assert!(older["error"].is_null() && older["cancel_requested"] == false && !has_local_tag(&older), "{older}");
    assert_eq!(tag_digest(image, None).await.as_deref(), younger["destinations"][0]["digest"].as_str(), "{older}\n{younger}");
}

async fn the_tag_ends_on_the_younger_twenty_times_of_twenty(backend: Backend) {
    let gate = Gate::engine(GATED, 0).await;
    let service = service::start_with(backend, |s| {
        s.workers = Some(PAIRS as u32 + 4);
        s.engine = Some(format!("tcp://{}", gate.address));
    })
    .await;
    let name = format!("{}/{}", registry(), unique("moving"));
    let images: Vec<String> = (0..PAIRS).map(|n| format!("{name}-{n}:latest")).collect();
    let olders = join_all(images.iter().map(|image| service.submit(gated(image)))).await;
    for older in &olders {
        service.until(older, |build| build["state"] == "building").await;
    }
    let plain = |image: &str| dockerfile(&format!("FROM busybox\nLABEL a={image}\n")).text("image", image.to_owned());
    let youngers = join_all(images.iter().map(|image| service.submit(plain(image)))).await;
    let youngers = join_all(youngers.iter().map(|younger| service.ended(younger))).await;
    assert!(youngers.iter().all(|younger| younger["state"] == "published"), "{youngers:?}");
    gate.open();
    for ((older, younger), image) in olders.iter().zip(&youngers).zip(&images) {
        assert_overtaken(&service, older, younger, image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_ends_on_the_younger_also_when_another_process_has_it() {
    let gate = Gate::engine(GATED, 0).await;
    let cluster = Cluster::new();
    let engine = format!("tcp://{}", gate.address);
    let one = ["--workers", "1"];
    let mut slow = cluster.start("all", &[&one[..], &["--engine", &engine]].concat());
    let client = cluster.client(&mut slow);
    let image = format!("{}/{}:latest", registry(), unique("processes"));
    let older = client.submit(gated(&image)).await;
    gate.reached().await;
    let mut quick = cluster.start("worker", &one);
    tokio::task::block_in_place(|| quick.wait_for("the engine answers"));
    let text = format!("FROM busybox\nLABEL a={image}\n");
    let younger = client.ended_at_last(&client.submit(dockerfile(&text).text("image", image.clone())).await).await;
    assert_eq!(younger["state"], "published", "{younger}");
    gate.open();
    let older = client.ended_at_last(&older).await;
    assert_eq!((&older["state"], &older["superseded_by"]), (&"cancelled".into(), &younger["id"]), "{older}");
    assert_ne!(older["stages"][0]["worker"], younger["stages"][0]["worker"], "each is another process's");
    assert_eq!(tag_digest(&image, None).await.as_deref(), younger["destinations"][0]["digest"].as_str());
}

async fn entered(service: &Running, image: &str, owner: &str) -> BuildId {
    let (tag, owner): (ImageRef, Owner) = (image.parse().expect("an image"), owner.parse().expect("a name"));
    let push = TagPush { order: 1 << 40, build: BuildId::new(), owner, digest: None };
    assert_eq!(service.store.enter_tag_push(&tag, &push).await.expect("entered"), None);
    // An older one, entered late, changes nothing, and is told so.
    let late = TagPush { order: 1, ..push.clone() };
    assert_eq!(service.store.enter_tag_push(&tag, &late).await.expect("entered"), Some(push.clone()));
    assert_eq!(service.store.tag_push(&tag).await.expect("read"), Some(push.clone()));
    push.build
}

async fn a_tag_that_a_younger_build_has_is_left_alone(backend: Backend) {
    let service = service::start(backend).await;
    let name = format!("{}/{}", registry(), unique("left"));
    let own = service.submit(dockerfile("FROM busybox\n").text("push", "false")).await["owner"].clone();
    let [latest, free, foreign] = ["latest", "1", "theirs"].map(|tag| format!("{name}:{tag}"));
    let younger = entered(&service, &latest, own.as_str().expect("a name")).await;
    let stranger = entered(&service, &foreign, "stranger").await;

    let form = dockerfile("FROM busybox\nLABEL a=b\n").text("image", latest.clone()).text("image", free.clone());
    let partly = service.ended(&service.submit(form).await).await;
    assert_eq!((&partly["state"], &partly["superseded_by"]), (&"published".into(), &Value::Null), "{partly}");
    let message = partly["message"].as_str().expect("a message");
    assert!(message.ends_with(&format!("; {latest} was superseded by build {younger}")), "{message}");
    assert_eq!((tag_digest(&latest, None).await, tag_digest(&free, None).await.is_some()), (None, true));

    let build = service.ended(&submit(&service, "true", &foreign).await).await;
    assert_eq!((&build["state"], &build["superseded_by"]), (&"cancelled".into(), &Value::Null), "{build}");
    assert_eq!(build["message"], "Superseded by a younger build of another account");
    assert!(!build.to_string().contains(&stranger.to_string()), "another's build does not exist here: {build}");
}

async fn only_what_was_pushed_counts(backend: Backend) {
    let service = service::start(backend).await;
    let image = format!("{}/{}:latest", registry(), unique("fails"));
    let older = submit(&service, "sleep 1", &image).await;
    let younger = submit(&service, "exit 7", &image).await;
    assert_eq!(service.ended(&younger).await["state"], "failed");
    let older = service.ended(&older).await;
    assert_eq!(older["state"], "published", "a younger one that fails holds up nobody: {older}");
    assert_eq!(tag_digest(&image, None).await.as_deref(), older["destinations"][0]["digest"].as_str());
}
