//! A superseded build is told as such, and never as a published or a cancelled one.

use dockwright::domain::{BuildId, ImageRef, Owner};
use dockwright::store::tag_push::TagPush;
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::{make, open};
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, Running, dockerfile, id, start_with};
use crate::support::{registry, unique, watch};

on_both_stores!(
    who_is_replaced_is_told_as_superseded,
    who_is_overtaken_by_another_account_is_told_as_superseded,
    of_a_build_that_is_overtaken_in_part_each_hears_of_its_own_tags,
);

/// A receiver of all that ends, or of what ends of one image.
async fn hook(service: &Running, image: Option<&str>) -> Receiver {
    let receiver = Receiver::willing().await;
    make(service, &service.token, json!({"url": receiver.url(), "image": image})).await;
    receiver
}

/// What was told of this build.
async fn told(receiver: &Receiver, build: &Value) -> String {
    let find = || receiver.heard().into_iter().find(|heard| heard.json()["build"]["id"] == build["id"]);
    watch("it is told", || find().is_some()).await;
    find().expect("it was seen").event().to_owned()
}

/// A younger build of this account has pushed the tag.
async fn pushed(service: &Running, image: &str, owner: &str) {
    let (tag, owner): (ImageRef, Owner) = (image.parse().expect("an image"), owner.parse().expect("a name"));
    let push = TagPush { order: 1 << 40, build: BuildId::new(), owner, digest: None };
    service.store.enter_tag_push(&tag, &push).await.expect("entered");
}

async fn who_is_replaced_is_told_as_superseded(backend: Backend) {
    let service = start_with(backend, |settings| {
        settings.workers = Some(1);
        open(settings);
    })
    .await;
    let receiver = hook(&service, None).await;
    let image = format!("{}/{}:latest", registry(), unique("replaced"));
    let slow = || dockerfile(&format!("FROM busybox\nRUN echo {image} && sleep 300\n")).text("image", image.clone());
    let running = service.submit(slow()).await;
    service.until(&running, |build| build["state"] == "building").await;
    let waiting = service.submit(slow()).await;
    let by_hand = service.submit(slow()).await;
    service.cancel(&by_hand).await;
    let form = dockerfile(&format!("FROM busybox\nLABEL a={image}\n")).text("image", image.clone()).text("supersede", "true");
    let younger = service.submit(form).await;
    for (build, event) in [
        (&waiting, "build.superseded"),
        (&running, "build.superseded"),
        (&by_hand, "build.cancelled"),
        (&younger, "build.published"),
    ] {
        assert_eq!(told(&receiver, build).await, event);
    }
}

async fn who_is_overtaken_by_another_account_is_told_as_superseded(backend: Backend) {
    let service = start_with(backend, open).await;
    let receiver = hook(&service, None).await;
    let image = format!("{}/{}:latest", registry(), unique("overtaken"));
    pushed(&service, &image, "stranger").await;
    let build = service.submit(dockerfile("FROM busybox\nLABEL a=b\n").text("image", image)).await;
    assert_eq!(told(&receiver, &build).await, "build.superseded");
    assert_eq!(service.ended(&build).await["superseded_by"], Value::Null, "by whom is not told");
}

async fn of_a_build_that_is_overtaken_in_part_each_hears_of_its_own_tags(backend: Backend) {
    let service = start_with(backend, open).await;
    let name = format!("{}/{}", registry(), unique("partly"));
    let [latest, free] = ["latest", "1"].map(|tag| format!("{name}:{tag}"));
    let receivers = [
        (hook(&service, None).await, "build.published"),
        (hook(&service, Some(&name)).await, "build.published"),
        (hook(&service, Some(&free)).await, "build.published"),
        (hook(&service, Some(&latest)).await, "build.superseded"),
    ];
    let owner = service.submit(dockerfile("FROM busybox\n").text("push", "false")).await["owner"].clone();
    pushed(&service, &latest, owner.as_str().expect("a name")).await;
    let form = dockerfile("FROM busybox\nLABEL a=b\n").text("image", latest).text("image", free);
    let build = service.submit(form).await;
    for (receiver, event) in &receivers {
        assert_eq!(told(receiver, &build).await, *event, "{}", id(&build));
    }
}
