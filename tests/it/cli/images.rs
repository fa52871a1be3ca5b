//! Images from the command line.

use super::person::Person;
use crate::support::harbor::{harbor, word};
use crate::support::service::{Backend, docker, tag_digest};
use crate::support::{private_registry, published_image, registry, unique};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_named_pushed_listed_and_removed() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = Person::of(&harbor, &harbor.user("ada").await);
    let (image, other) = (published_image("cli"), format!("{}/team/{}:2", registry(), unique("cli")));
    let pulled = ada.run(&format!("image pull {image}")).well();
    assert!(pulled.out.contains(&image) && pulled.err.contains("Pull complete"), "{}{}", pulled.out, pulled.err);
    assert!(!pulled.out.contains("Pull complete"), "how far it is is no answer");
    let again = ada.run(&format!("image pull {image} --json")).well();
    assert_eq!(again.err, "");
    assert_eq!(again.json()["reference"], image.as_str());
    ada.run(&format!("image tag {image} {other}")).well();
    let pushed = ada.run(&format!("image push {other} --json")).json();
    assert_eq!(tag_digest(&other, None).await.as_deref(), Some(word(&pushed["digest"])));
    let shown = ada.run(&format!("image push {other}")).well().out;
    assert!(shown.contains(word(&pushed["digest"])) && shown.contains(&other), "{shown}");
    let table = ada.shows("image list");
    assert!(table.contains(&image) && table.contains(&other) && table.lines().count() == 3, "{table}");
    let run = ada.run(&format!("run once --image {image} --network none --wait --json -- sleep 100000")).json();
    assert!(ada.shows("image list").contains(word(&run["container_name"])), "who uses it");
    ada.run(&format!("image rm {image}")).refused("image_in_use, 409");
    ada.run(&format!("run rm {}", word(&run["id"]))).well();
    for name in [&image, &other] {
        ada.run(&format!("image rm {name}")).well();
        assert_eq!(docker(&["images", "-q", name]), "");
        ada.run(&format!("image rm {name}")).refused("there is no such image (not_found, 404)");
    }
    assert_eq!(ada.run("image list").well().out.lines().count(), 1, "the head alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_told_in_its_words() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = Person::of(&harbor, &harbor.user("ada").await);
    let (host, user, password) = private_registry();
    let image = published_image("plain");
    let private = format!("{host}/{}:1", unique("cli"));
    ada.run(&format!("image pull {}/{}", registry(), unique("missing"))).refused("(image_not_found)");
    ada.run(&format!("image pull {private}")).refused("registry_auth");
    ada.run("image pull UPPER/case").refused("has upper-case letters in its repository");
    ada.run(&format!("image pull {image}")).well();
    ada.run(&format!("image tag {image} {private}")).well();
    ada.run(&format!("image push {private}")).refused("registry_auth");
    ada.run(&format!("image push {private} --registry nothing")).refused("nothing");
    ada.say(&password, &format!("registry put own --server {host} --username {user}")).well();
    let pushed = ada.run(&format!("image push {private} --registry own --json")).json();
    assert_eq!(tag_digest(&private, Some((&user, &password))).await.as_deref(), Some(word(&pushed["digest"])));
    ada.run(&format!("image pull {private}")).well();
    for name in [&image, &private] {
        ada.run(&format!("image rm {name}")).well();
    }
}
