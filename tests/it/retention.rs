//! How long builds are kept, and what is cleaned away.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dockwright::builds::{Builds, RemoteRemoval, RemoteTags};
use dockwright::context::storage::ContextStorage;
use dockwright::domain::{
    Base, BuildError, BuildId, BuildRecord, BuildState, Credentials, Digest, ErrorKind, ImageRef, NodeId, Scope, StageName,
    Timestamp, WorkerId,
};
use dockwright::engine::docker::Docker;
use dockwright::engine::{Images as _, Ledger};
use dockwright::janitor::{Measure, Tidy, TidyNode};
use dockwright::store::{Guard, StoreError};
use dockwright::vault::Vault;
use dockwright::wiring::policy;
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::{quiet, send};
use crate::pipeline::on_both_stores;
use crate::support::engine::OwnEngine;
use crate::support::service::{Backend, Running, dockerfile, has_local_tag, id, start_with};
use crate::support::{own, private_registry, registry, unique};

on_both_stores!(
    an_image_that_was_published_goes_from_the_engine_when_its_owner_does_not_keep_it,
    a_full_disk_is_cleaned_from_the_oldest_until_it_is_not_so_full,
    builds_that_failed_do_not_push_out_the_last_good_one,
    failed_builds_are_deleted_a_hundred_at_once,
    a_queued_retry_keeps_its_image,
    caches_go_from_the_engine_by_how_long_nobody_has_used_them,
);

/// An ended build of a project, made and ended in the store itself; `days` ago.
async fn ended(service: &Running, token: &str, project: &str, days: u64) -> String {
    ended_as(service, token, project, days, BuildState::Cancelled).await
}

async fn ended_as(service: &Running, token: &str, project: &str, days: u64, state: BuildState) -> String {
    let form = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app:1").text("project", project.to_owned());
    let build = service.submit_as(token, form).await;
    let rule = move |record: &mut BuildRecord, now: Timestamp, _| {
        let millis = i64::try_from(days * 24 * 3600 * 1000).expect("days");
        let at = Timestamp::from_millis(now.as_millis() - millis);
        let (worker, node) = (WorkerId::unique(), NodeId::new("n"));
        let error = BuildError {
            stage: StageName::Build,
            kind: ErrorKind::User,
            code: "x".into(),
            message: "x".into(),
            dockerfile_line: None,
        };
        let ended = match state {
            BuildState::Published => record
                .start_attempt(&worker, &node, 1, at)
                .and_then(|_| record.image_built(format!("sha256:{}", "0".repeat(64)).parse().expect("a digest"), 1, &worker, at))
                .and_then(|()| record.published(at)),
            BuildState::Failed => record.failed(error, at),
            _ => record.cancelled(&[], at),
        };
        ended.map_err(|e| StoreError::Refused(e.to_string()))
    };
    let id: BuildId = id(&build).parse().expect("an id");
    service.store.update(id, &Guard::Scope(Scope::All), rule).await.expect("ends").expect("is there");
    id.to_string()
}

async fn left(service: &Running, token: &str) -> BTreeSet<String> {
    let (_, page) = send(service.request_as(token, Method::GET, "/api/v1/builds?limit=200")).await;
    page["items"].as_array().expect("a list").iter().map(|build| id(build).to_owned()).collect()
}

async fn put(service: &Running, token: &str, rule: Value) {
    let (status, told) = send(service.request_as(token, Method::PUT, "/api/v1/retention").json(&rule)).await;
    assert_eq!(status, StatusCode::OK, "{told}");
}

/// A registry and an engine that are not asked.
struct NoTags;

#[async_trait::async_trait]
impl RemoteTags for NoTags {
    async fn names(&self, image: &ImageRef, _: Option<&Credentials>) -> Option<Digest> {
        panic!("nobody has asked what {image} names")
    }

    async fn local(&self, name: &str) -> Option<Digest> {
        panic!("nobody has asked what {name} names")
    }

    async fn bases(&self, names: &[String], _: bool, _: &[Credentials]) -> Vec<Base> {
        panic!("nobody has asked what {names:?} name")
    }

    async fn remove(&self, image: &ImageRef, _: &Digest, _: Option<&Credentials>) -> RemoteRemoval {
        panic!("nobody has asked for {image} to be removed")
    }
}

/// The use-cases of builds of another process, on the service's store and folder.
fn builds_of(service: &Running) -> Arc<Builds> {
    let c = &service.config;
    let contexts = ContextStorage::open(&c.data_dir, 0).expect("opens");
    Arc::new(Builds::new(service.store.clone(), contexts, Arc::new(Vault::new([7; 32])), Arc::new(NoTags), policy(c)))
}

async fn rules_are_gone_by(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let mut shop = Vec::new();
    for days in [9, 5, 4, 3] {
        shop.push(ended(&service, &ada, "shop", days).await);
    }
    let others = [ended(&service, &ada, "other", 9).await, ended(&service, &ada, "other", 2).await];
    let kept = [ended(&service, &ada, "kept", 99).await, ended(&service, &bob, "shop", 99).await];
    let form = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app:1").text("project", "shop");
    let live = service.submit_as(&ada, form).await;
    let app = json!({"name": unique("app"), "build": shop[0], "network": "none"});
    let (made, told) = send(service.request_as(&ada, Method::POST, "/api/v1/apps").json(&app)).await;
    assert!(made.is_success(), "{told}");

    put(&service, &ada, json!({"project": "shop", "keep_builds": 2})).await;
    put(&service, &ada, json!({"keep_days": 7})).await;
    put(&service, &ada, json!({"project": "kept"})).await;
    let builds = builds_of(&service);
    assert_eq!(builds.retention_once().await.expect("passes").len(), 3);
    // Of the shop the live one and the newest that has ended, and the one of which an app is made.
    let expected = [id(&live), &shop[3], &shop[0], &others[1], &kept[0]].map(str::to_owned);
    assert_eq!(left(&service, &ada).await, BTreeSet::from(expected));
    assert_eq!(left(&service, &bob).await, BTreeSet::from([kept[1].clone()]), "no rule of its own, and the service has none");
    assert_eq!(builds.retention_once().await.expect("passes"), [], "nothing more");

    let page = send(service.request_as(&ada, Method::GET, "/api/v1/retention")).await.1;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(3), "{page}");
    assert_eq!((&page["items"][2]["project"], &page["items"][2]["keep_builds"]), (&"shop".into(), &2.into()), "{page}");
    assert_eq!(send(service.request_as(&bob, Method::GET, "/api/v1/retention")).await.1["items"], json!([]));
    let gone = send(service.request_as(&ada, Method::DELETE, "/api/v1/retention?project=shop")).await.0;
    assert_eq!(gone, StatusCode::NO_CONTENT);
    for (bad, field) in [
        (json!({"keep_builds": 0}), "keep_builds"),
        (json!({"project": ""}), "project"),
        (json!({"keep_days": -1}), "keep_days"),
        (json!({"keep_local_image": "no"}), "keep_local_image"),
        (json!({"keep": 1}), "keep"),
    ] {
        let (status, told) = send(service.request_as(&ada, Method::PUT, "/api/v1/retention").json(&bad)).await;
        assert_eq!((status, &told["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &field.into()), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_kept_as_their_owners_rules_say_with_the_embedded_store() {
    rules_are_gone_by(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_kept_as_their_owners_rules_say_with_redis() {
    rules_are_gone_by(Backend::Redis).await;
}

async fn many_are_deleted(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let old = [ended(&service, &ada, "shop", 8).await, ended(&service, &ada, "shop", 9).await];
    let stay = [ended(&service, &ada, "shop", 6).await, ended(&service, &ada, "other", 9).await];
    let used = ended(&service, &ada, "shop", 9).await;
    let app = json!({"name": unique("app"), "build": used, "network": "none"});
    let (made, told) = send(service.request_as(&ada, Method::POST, "/api/v1/apps").json(&app)).await;
    assert!(made.is_success(), "{told}");
    ended(&service, &bob, "shop", 9).await;
    let delete =
        async |token: &str, query: &str| send(service.request_as(token, Method::DELETE, &format!("/api/v1/builds{query}"))).await;
    for bad in ["", "?state=cancelled", "?older_than=7d", "?state=queued&older_than=7d", "?state=cancelled&older_than=x"] {
        assert_eq!(delete(&ada, bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let none = delete(&ada, "?state=failed&older_than=7d").await.1;
    assert_eq!(none, json!({"deleted": 0, "ids": [], "in_use": 0, "more": false}));
    let (status, told) = delete(&ada, "?state=cancelled&older_than=7d&project=shop&image=127.0.0.1:1/team/app").await;
    let ids: BTreeSet<_> = told["ids"].as_array().expect("ids").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    assert_eq!((status, &told["deleted"], &told["more"], ids), (StatusCode::OK, &2.into(), &false.into(), BTreeSet::from(old)));
    assert_eq!(told["in_use"], 1, "an app is made of one: {told}");
    let [six_days, other] = stay;
    assert_eq!(left(&service, &ada).await, BTreeSet::from([six_days, other, used]));
    assert_eq!(left(&service, &bob).await.len(), 1);
    assert_eq!(delete(&ada, "?state=cancelled&older_than=7d&owner=bob").await.0, StatusCode::NOT_FOUND);
    // An admin's own, unless it names somebody.
    assert_eq!(delete(&service.token, "?state=cancelled&older_than=0s").await.1["deleted"], 0);
    assert_eq!(delete(&service.token, "?state=cancelled&older_than=0s&owner=bob").await.1["deleted"], 1);
    assert_eq!(delete(&service.token, "?state=cancelled&older_than=0s&owner=bobs").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_builds_are_deleted_at_once_with_the_embedded_store() {
    many_are_deleted(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_builds_are_deleted_at_once_with_redis() {
    many_are_deleted(Backend::Redis).await;
}

/// Builds an image of its own and publishes it.
async fn published(service: &Running) -> Value {
    let name = unique("kept");
    let text = format!("FROM busybox\nRUN echo {name} >/made-of\n");
    let build = service.submit(dockerfile(&text).text("image", format!("{}/{name}:1", registry()))).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}");
    ended
}

async fn an_image_that_was_published_goes_from_the_engine_when_its_owner_does_not_keep_it(backend: Backend) {
    let service = start_with(backend, |_| {}).await;
    let kept = published(&service).await;
    put(&service, &service.token, json!({"project": "x", "keep_local_image": false})).await;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
    put(&service, &service.token, json!({"project": kept["options"]["project"], "keep_local_image": true})).await;
    put(&service, &service.token, json!({"keep_local_image": false})).await;
    let gone = published(&service).await;
    for _ in 0..400 {
        if !has_local_tag(&gone) {
            break;
        }
        look.tick().await;
    }
    assert!(!has_local_tag(&gone), "it was published, and went");
    assert!(has_local_tag(&kept), "its project has a rule of its own");
    assert_eq!(service.get(&format!("/api/v1/builds/{}", id(&gone))).await["state"], "published", "its record stays");
    for build in [&kept, &gone] {
        service.delete(build).await;
    }
}

/// How full a disk is at each look: the engine's, or that of the data folder; the other one has room.
fn scripted(service: &Running, engine: bool, looks: &[u8]) -> Measure {
    let looks = Mutex::new(VecDeque::from(looks.to_vec()));
    let data = service.config.data_dir.clone();
    Arc::new(move |folder: &Path| {
        let asked = (folder != data) == engine;
        Ok(if asked { looks.lock().expect("not poisoned").pop_front().expect("no more looks than these") } else { 1 })
    })
}

/// A disk that is as full as the test says, on the real engine: what goes first, and what stays.
async fn a_full_disk_is_cleaned_from_the_oldest_until_it_is_not_so_full(backend: Backend) {
    let service = start_with(backend, |_| {}).await;
    let builds = [published(&service).await, published(&service).await, published(&service).await];
    let archive = crate::support::service::tar(&[("Dockerfile", "FROM busybox\n")]);
    let form = || crate::support::service::context(archive.clone()).text("push", "false");
    let uploads = [service.ended(&service.submit(form()).await).await, service.ended(&service.submit(form()).await).await];
    // The oldest is what a container is made of.
    let app = json!({"name": unique("app"), "build": builds[0]["id"], "network": "none"});
    let (made, told) = send(service.request(Method::POST, "/api/v1/apps").json(&app)).await;
    assert!(made.is_success(), "{told}");

    let ledger = Ledger::open(service.config.data_dir.join("ledger")).expect("opens");
    let node = TidyNode { ledger, engine: Arc::new(Docker::connect(None).expect("an engine")) };
    let cases = builds_of(&service);
    // Caches that nobody has used for a week do not free enough; one image does.
    let looks = [91, 90, 85, 85, 85, 90, 90, 85, 85];
    let tidy = Tidy::new(Arc::clone(&cases), Some(node), 85, 85).measured_by(scripted(&service, true, &looks));
    tidy.disk_once().await.expect("cleans");
    assert!(has_local_tag(&builds[0]), "an app uses it");
    assert!(!has_local_tag(&builds[1]), "the oldest that nobody uses went first");
    assert!(has_local_tag(&builds[2]), "the disk was not too full any more");
    let told = service.get("/api/v1/system").await["disk"]["cleaned"].clone();
    assert_eq!(
        (&told[0]["disk"], &told[0]["images"], &told[0]["used_percent"]),
        (&"engine".into(), &1.into(), &91.into()),
        "{told}"
    );

    let upload = |build: &Value| service.config.data_dir.join("contexts").join(id(build));
    assert!(uploads.iter().all(|build| upload(build).exists()));
    // The published ones have no upload.
    let looks = [91, 90, 85, 85];
    let tidy = Tidy::new(cases, None, 85, 85).measured_by(scripted(&service, false, &looks));
    tidy.disk_once().await.expect("cleans");
    assert!(!upload(&uploads[0]).exists() && upload(&uploads[1]).exists(), "the older one went");
    assert!(!service.log(&uploads[0]).await.is_empty(), "its log stays");
    for build in builds.iter().chain(&uploads) {
        service.delete(build).await;
    }
}

async fn builds_that_failed_do_not_push_out_the_last_good_one(backend: Backend) {
    let service = quiet(backend).await;
    let good = [
        ended_as(&service, &service.token, "shop", 9, BuildState::Published).await,
        ended_as(&service, &service.token, "shop", 8, BuildState::Published).await,
    ];
    let mut failed = Vec::new();
    for days in [5, 4, 3] {
        failed.push(ended_as(&service, &service.token, "shop", days, BuildState::Failed).await);
    }
    put(&service, &service.token, json!({"project": "shop", "keep_builds": 2})).await;
    let builds = builds_of(&service);
    assert_eq!(builds.retention_once().await.expect("passes").len(), 2);
    assert_eq!(left(&service, &service.token).await, BTreeSet::from([&good[1], &failed[1], &failed[2]].map(Clone::clone)));
    // The days count for it, too.
    put(&service, &service.token, json!({"project": "shop", "keep_builds": 2, "keep_days": 7})).await;
    assert_eq!(builds.retention_once().await.expect("passes").len(), 1);
    assert_eq!(left(&service, &service.token).await, BTreeSet::from([&failed[1], &failed[2]].map(Clone::clone)));
}

async fn failed_builds_are_deleted_a_hundred_at_once(backend: Backend) {
    let service = quiet(backend).await;
    // Of one address no more connections than these are taken at once.
    let one = |_| ended_as(&service, &service.token, "shop", 8, BuildState::Failed);
    let all: BTreeSet<String> = futures::stream::iter(0..103).map(one).buffer_unordered(16).collect().await;
    let stays = ended(&service, &service.token, "shop", 8).await;
    let mut gone = BTreeSet::new();
    for (deleted, more) in [(100, true), (3, false), (0, false)] {
        let request = service.request(Method::DELETE, "/api/v1/builds?state=failed&older_than=7d");
        let (status, told) = send(request).await;
        assert_eq!((status, &told["deleted"], &told["more"]), (StatusCode::OK, &deleted.into(), &more.into()), "{told}");
        gone.extend(told["ids"].as_array().expect("ids").iter().filter_map(Value::as_str).map(str::to_owned));
    }
    assert_eq!((gone, left(&service, &service.token).await), (all, BTreeSet::from([stays])));
}

/// The only slot is taken: a retry waits, and what it is to push must still be there when its turn comes.
async fn a_queued_retry_keeps_its_image(backend: Backend) {
    let service = start_with(backend, |settings| settings.workers = Some(1)).await;
    let name = unique("queued");
    let form = dockerfile(&format!("FROM busybox\nRUN echo {name} >/made-of\n"));
    let images = [format!("{}/{name}:1", registry()), format!("{}/{name}:1", private_registry().0)];
    let form = images.iter().fold(form, |form, image| form.text("image", image.clone()));
    let first = service.ended(&service.submit(form).await).await;
    assert_eq!((&first["state"], has_local_tag(&first)), (&"failed".into(), true), "{first}");
    let blocker = service.submit(dockerfile(&own("RUN echo on && sleep 600\n")).text("push", "false")).await;
    service.logged(&blocker, "sleep 600").await;
    let retry = service.request(Method::POST, &format!("/api/v1/builds/{}/retry", id(&first)));
    let (status, again) = send(retry).await;
    assert_eq!((status, &again["state"]), (StatusCode::ACCEPTED, &"queued".into()), "{again}");

    let ledger = Ledger::open(service.config.data_dir.join("ledger")).expect("opens");
    let node = TidyNode { ledger, engine: Arc::new(Docker::connect(None).expect("an engine")) };
    // Full enough for images alone.
    let looks = [91, 85, 85, 85, 85, 90, 90, 90, 90, 90, 90];
    let tidy = Tidy::new(builds_of(&service), Some(node), 85, 85).measured_by(scripted(&service, true, &looks));
    tidy.disk_once().await.expect("cleans");
    assert!(has_local_tag(&first), "the disk is too full, and the image is needed");
    let (_, many) = send(service.request(Method::DELETE, "/api/v1/builds?state=failed&older_than=0s")).await;
    assert_eq!((&many["deleted"], &many["in_use"]), (&0.into(), &1.into()), "{many}");

    let (status, deleted) = send(service.request(Method::DELETE, &format!("/api/v1/builds/{}", id(&first)))).await;
    assert_eq!((status, &deleted["image"]), (StatusCode::OK, &"in_use".into()), "{deleted}");
    assert!(!has_local_tag(&first) && has_local_tag(&again), "the retry has it");
    service.cancel(&blocker).await;
    let ended = service.ended(&again).await;
    let log = service.log(&again).await;
    assert_eq!(ended["image_id"], first["image_id"], "{ended}\n{log}");
    assert!(log.contains("is still here") && !log.contains("RUN echo"), "it was not built again: {log}");
    assert_eq!((&ended["destinations"][0]["state"], &ended["destinations"][1]["state"]), (&"pushed".into(), &"failed".into()));
    for build in [&blocker, &again] {
        service.delete(build).await;
    }
}

/// On an engine of the test's own: what is cached on the shared one may be another test's.
async fn caches_go_from_the_engine_by_how_long_nobody_has_used_them(backend: Backend) {
    let engine = OwnEngine::start().await;
    let service = start_with(backend, |settings| settings.engine = Some(engine.address())).await;
    let text = "FROM busybox\nRUN head -c 3000000 /dev/urandom >/cached\n";
    let build = service.submit(dockerfile(text).text("push", "false").text("network", "none")).await;
    assert_eq!(service.ended(&build).await["state"], "built");
    service.delete(&build).await;
    let docker = Docker::connect(Some(&engine.address())).expect("an address");
    assert_eq!(docker.prune_cache(Duration::from_secs(3600)).await.expect("prunes"), 0, "it was used just now");
    let freed = docker.prune_cache(Duration::ZERO).await.expect("prunes");
    assert!(freed >= 3_000_000, "{freed} bytes");
    assert_eq!(docker.prune_cache(Duration::ZERO).await.expect("prunes"), 0, "there is nothing more");
    // Before an image goes, its layers do that stand in a fresh cache: else there would be as much on the disk as before.
    let build = service.ended(&service.submit(dockerfile(text).text("push", "false").text("network", "none")).await).await;
    let ledger = Ledger::open(service.config.data_dir.join("ledger")).expect("opens");
    let node = TidyNode { ledger, engine: Arc::new(docker) };
    let looks = [91, 90, 90, 90, 90, 85, 85];
    let tidy = Tidy::new(builds_of(&service), Some(node), 85, 85).measured_by(scripted(&service, true, &looks));
    tidy.disk_once().await.expect("cleans");
    let told = service.get("/api/v1/system").await["disk"]["cleaned"][0].clone();
    assert_eq!((&build["state"], &told["images"]), (&"built".into(), &0.into()), "{told}");
    assert!(told["cache_bytes"].as_u64().is_some_and(|bytes| bytes >= 3_000_000), "{told}");
}
