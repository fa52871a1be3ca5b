//! Of two builds of one tag the younger has it in the end.

use dockwright::domain::{BuildId, ImageRef, Owner};
use dockwright::store::tag_push::TagPush;
use futures::StreamExt;
use serde_json::Value;

use super::on_both_stores;
use crate::support::service::{self, Backend, Running, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{registry, unique};

on_both_stores!(
    the_tag_ends_on_the_younger_twenty_times_of_twenty,
    a_tag_that_a_younger_build_has_is_left_alone,
    only_what_was_pushed_counts,
);

/// Pairs in all, and at once.
const PAIRS: usize = 20;
const AT_ONCE: usize = 5;

async fn submit(service: &Running, step: &str, image: &str) -> Value {
    let text = format!("FROM busybox\nRUN echo {} > /x && {step}\n", unique("pair"));
    service.submit(dockerfile(&text).text("image", image.to_owned())).await
}

/// Whether the older of two was overtaken.
async fn pair(service: &Running, image: String) -> bool {
    let older = submit(service, "sleep 2", &image).await;
    let younger = submit(service, "true", &image).await;
    let (older, younger) = (service.ended(&older).await, service.ended(&younger).await);
    assert_eq!(younger["state"], "published", "{younger}");
    assert_eq!(tag_digest(&image, None).await.as_deref(), younger["destinations"][0]["digest"].as_str(), "{older}\n{younger}");
    if older["state"] == "published" {
        return false;
    }
    assert_eq!((&older["state"], &older["superseded_by"]), (&"cancelled".into(), &younger["id"]), "{older}");
    assert_eq!(older["message"], format!("Superseded by build {}", id(&younger)));
    let destination = &older["destinations"][0];
    assert_eq!((&destination["state"], &destination["superseded_by"]), (&"superseded".into(), &younger["id"]), "{older}");
    assert!(older["error"].is_null() && older["cancel_requested"] == false && !has_local_tag(&older), "{older}");
    true
}

async fn the_tag_ends_on_the_younger_twenty_times_of_twenty(backend: Backend) {
    let service = service::start_with(backend, |s| s.workers = Some(2 * AT_ONCE as u32)).await;
    let name = format!("{}/{}", registry(), unique("moving"));
    let pairs = (0..PAIRS).map(|n| pair(&service, format!("{name}-{n}:latest")));
    let overtaken: Vec<bool> = futures::stream::iter(pairs).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(overtaken.len(), PAIRS);
    assert!(overtaken.iter().any(|overtaken| *overtaken), "the slow one has never come second: nothing was tried");
}

async fn entered(service: &Running, image: &str, owner: &str) -> BuildId {
    let (tag, owner): (ImageRef, Owner) = (image.parse().expect("an image"), owner.parse().expect("a name"));
    let push = TagPush { order: 1 << 40, build: BuildId::new(), owner };
    service.store.enter_tag_push(&tag, &push).await.expect("entered");
    // An older one, entered late, changes nothing.
    service.store.enter_tag_push(&tag, &TagPush { order: 1, ..push.clone() }).await.expect("entered");
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
