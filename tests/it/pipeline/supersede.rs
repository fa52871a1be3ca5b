//! `supersede=true`: a build takes the place of older ones.

use dockwright::auth::{NewToken, issue_token};
use dockwright::domain::{BuildId, BuildRecord, Permissions, Role, Timestamp};
use dockwright::store::NewBuild;
use reqwest::multipart::Form;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{now, on_both_stores};
use crate::accounts::people::quiet;
use crate::support::service::{self, Backend, dockerfile, id};
use crate::support::{registry, unique};

on_both_stores!(
    older_builds_of_the_same_image_and_project_end,
    a_process_that_dies_in_between_leaves_nothing_undone,
    who_is_limited_to_destinations_ends_no_build_that_has_others,
);

fn slow(image: &str) -> Form {
    dockerfile(&format!("FROM busybox\nRUN echo {} && sleep 300\n", unique("slow"))).text("image", image.to_owned())
}

fn assert_superseded(older: &Value, younger: &str) {
    assert_eq!((&older["state"], older["superseded_by"].as_str()), (&"cancelled".into(), Some(younger)), "{older}");
    assert_eq!(older["message"], format!("Superseded by build {younger}"));
}

async fn older_builds_of_the_same_image_and_project_end(backend: Backend) {
    let service = service::start_with(backend, |s| s.workers = Some(1)).await;
    let image = format!("{}/{}:pr", registry(), unique("super"));
    let running = service.submit(slow(&image)).await;
    service.until(&running, |build| build["state"] == "building").await;
    let waiting = service.submit(slow(&image)).await;
    let others = [
        service.submit(slow(&image).text("project", "another")).await,
        service.submit(slow(&format!("{image}-2"))).await,
        service.submit_as(&service.user("bob").await, slow(&image)).await,
    ];
    let form = dockerfile(&format!("FROM busybox\nLABEL a={image}\n")).text("image", image.clone()).text("priority", "10");
    let younger = service.submit(form.text("supersede", "true")).await;
    assert_eq!(younger["options"]["supersede"], true);
    assert_superseded(&now(&service, id(&waiting)).await, id(&younger));
    assert_superseded(&service.ended(&running).await, id(&younger));
    for other in &others {
        assert_eq!(now(&service, id(other)).await["superseded_by"], Value::Null, "it is none of its business");
        service.cancel(other).await;
    }
    assert_eq!(service.ended(&younger).await["state"], "published");
}

async fn a_process_that_dies_in_between_leaves_nothing_undone(backend: Backend) {
    let service = service::start_with(backend, |s| s.workers = Some(2)).await;
    let image = format!("{}/{}:pr", registry(), unique("super"));
    let older = service.submit(slow(&image)).await;
    service.until(&older, |build| build["state"] == "building").await;
    // Accepted, and then nothing more: as if the process had died at that moment.
    let first = service.store.get(&dockwright::domain::Scope::All, id(&older).parse().expect("an id")).await;
    let first = first.expect("read").expect("there").record;
    let mut spec = first.spec.clone();
    spec.supersede = true;
    let record = BuildRecord::new(BuildId::new(), first.owner.clone(), spec, first.context.clone(), None, Timestamp::now());
    let younger = record.id.to_string();
    let dockerfile = format!("FROM busybox\nLABEL a={image}\n").into_bytes();
    let new = NewBuild { record, dockerfile, sealed: None, quota: dockwright::domain::Quota::default() };
    service.store.submit(&new).await.expect("accepted");
    assert_superseded(&service.ended(&older).await, &younger);
    assert_eq!(service.ended(&now(&service, &younger).await).await["state"], "published");
}

async fn who_is_limited_to_destinations_ends_no_build_that_has_others(backend: Backend) {
    let service = quiet(backend).await;
    let name = format!("127.0.0.1:1/{}", unique("limited"));
    let ada = service.user("ada").await;
    let form = || dockerfile("FROM busybox\n").text("image", format!("{name}:1"));
    let wide = service.submit_as(&ada, form().text("image", "127.0.0.1:1/other:1")).await;
    let narrow = service.submit_as(&ada, form()).await;
    let images = vec![name.parse().expect("a pattern")];
    let new = NewToken { name: "ci".into(), scopes: Permissions::of_role(Role::User), images, expires_at: None };
    let limited = issue_token(&service.store, &"ada".parse().expect("a name"), &new).await.expect("a token").1;
    let younger = service.submit_as(limited.expose_secret(), form().text("supersede", "true")).await;
    assert_superseded(&now(&service, id(&narrow)).await, id(&younger));
    assert_eq!(now(&service, id(&wide)).await["state"], "queued", "it goes where this token may not");
    let third = service.submit_as(&ada, form().text("supersede", "true")).await;
    for older in [&wide, &younger] {
        assert_superseded(&now(&service, id(older)).await, id(&third));
    }
}
