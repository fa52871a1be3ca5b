//! How long builds are kept, and what is cleaned away.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use dockwright::builds::{Builds, Policy, RemoteRemoval, RemoteTags};
use dockwright::context::git::GitSettings;
use dockwright::context::storage::ContextStorage;
use dockwright::domain::{Base, BuildId, BuildRecord, Credentials, Digest, ImageRef, RetentionRule, Scope, Timestamp};
use dockwright::egress::Egress;
use dockwright::engine::Ledger;
use dockwright::engine::docker::Docker;
use dockwright::janitor::{Measure, Tidy, TidyNode};
use dockwright::store::{Guard, StoreError};
use dockwright::vault::Vault;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::{quiet, send};
use crate::support::service::{Backend, Running, dockerfile, has_local_tag, id, start_with};
use crate::support::{registry, unique};

/// An ended build of a project, made and ended in the store itself; `days` ago.
async fn ended(service: &Running, token: &str, project: &str, days: u64) -> String {
    let form = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app:1").text("project", project.to_owned());
    let build = service.submit_as(token, form).await;
    let rule = move |record: &mut BuildRecord, now: Timestamp, _| {
        let millis = i64::try_from(days * 24 * 3600 * 1000).expect("days");
        record.cancelled(&[], Timestamp::from_millis(now.as_millis() - millis)).map_err(|e| StoreError::Refused(e.to_string()))
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
    let policy = Policy {
        max_upload: c.max_upload,
        max_context: c.max_context,
        max_entries: c.max_entries,
        build_timeout: c.build_timeout,
        max_build_timeout: c.max_build_timeout,
        max_memory: c.max_memory,
        max_cpus: c.max_cpus,
        min_free_disk: c.min_free_disk,
        git: GitSettings { egress: Egress::default(), timeout: c.git_timeout.0, at_once: 1 },
        retention: RetentionRule { project: "*".into(), keep_builds: None, keep_days: None, keep_local_image: true },
    };
    let contexts = ContextStorage::open(&c.data_dir, 0).expect("opens");
    Arc::new(Builds::new(service.store.clone(), contexts, Arc::new(Vault::new([7; 32])), Arc::new(NoTags), policy))
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
    for bad in [json!({"keep_builds": 0}), json!({"project": ""}), json!({"keep_days": -1}), json!({"keep": 1})] {
        let (status, told) = send(service.request_as(&ada, Method::PUT, "/api/v1/retention").json(&bad)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{told}");
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
    ended(&service, &bob, "shop", 9).await;
    let delete =
        async |token: &str, query: &str| send(service.request_as(token, Method::DELETE, &format!("/api/v1/builds{query}"))).await;
    for bad in ["", "?state=cancelled", "?older_than=7d", "?state=queued&older_than=7d", "?state=cancelled&older_than=x"] {
        assert_eq!(delete(&ada, bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let none = delete(&ada, "?state=failed&older_than=7d").await.1;
    assert_eq!(none, json!({"deleted": 0, "ids": [], "more": false}));
    let (status, told) = delete(&ada, "?state=cancelled&older_than=7d&project=shop&image=127.0.0.1:1/team/app").await;
    let ids: BTreeSet<_> = told["ids"].as_array().expect("ids").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    assert_eq!((status, &told["deleted"], &told["more"], ids), (StatusCode::OK, &2.into(), &false.into(), BTreeSet::from(old)));
    assert_eq!(left(&service, &ada).await, BTreeSet::from(stay));
    assert_eq!(left(&service, &bob).await.len(), 1);
    assert_eq!(delete(&ada, "?state=cancelled&older_than=7d&owner=bob").await.0, StatusCode::NOT_FOUND);
    // An admin's own, unless it names somebody.
    assert_eq!(delete(&service.token, "?state=cancelled&older_than=0s").await.1["deleted"], 0);
    assert_eq!(delete(&service.token, "?state=cancelled&older_than=0s&owner=bob").await.1["deleted"], 1);
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

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_published_goes_from_the_engine_when_its_owner_does_not_keep_it() {
    let service = start_with(Backend::Sqlite, |_| {}).await;
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
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_cleaned_from_the_oldest_until_it_is_not_so_full() {
    let service = start_with(Backend::Sqlite, |_| {}).await;
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
    let looks = [91, 90, 85, 85, 90, 90, 85, 85];
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
