//! Cache mounts and `cache_from`.

use reqwest::Method;
use reqwest::multipart::Form;
use serde_json::Value;

use super::{built, file_in};
use crate::credentials::login;
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, docker, dockerfile, id};
use crate::support::{private_registry, seen, unique};

/// In one step: an id, the same as if it led elsewhere, and none, which is the target.
const MOUNTS: &str = "--mount=type=cache,id=shared,target=/a --mount=type=cache,id=../shared,target=/b,sharing=locked \
    --mount=type=cache,target=/c,sharing=private";

/// Leaves a name in each mount; what stood there before.
async fn visit(service: &Running, token: &str, name: &str, form: impl Fn(Form) -> Form) -> String {
    let text = format!(
        "FROM busybox\nRUN {MOUNTS} for m in a b c; do echo seen:$m:$(cat /$m/visits 2>/dev/null); echo {name} >>/$m/visits; done\n"
    );
    let build = built(service, token, form(dockerfile(&text))).await;
    let log = service.log(&build).await;
    service.delete(&build).await;
    let seen = |mount: &str| {
        let mut lines = log.lines().filter_map(|line| line.strip_prefix(&format!("seen:{mount}:")));
        lines.next().unwrap_or_else(|| panic!("{mount} was not looked at: {log}")).trim().to_owned()
    };
    assert!(["b", "c"].iter().all(|mount| seen(mount) == seen("a")), "{log}");
    seen("a")
}

on_both_stores!(
    alone_cache_mounts_are_of_one_owner_and_project,
    alone_a_later_account_of_the_same_name_inherits_no_cache,
    layers_of_an_image_at_a_registry_are_a_cache_for_whoever_may_read_it,
);

/// Alone: whoever asks the engine for its disk use takes a mount away for a moment, and the step gets a new one.
async fn alone_cache_mounts_are_of_one_owner_and_project(backend: Backend) {
    let service = service::start(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let project = |name: &'static str| move |form: Form| form.text("project", name);
    let cold = |form: Form| form.text("project", "one").text("cold", "true");
    for (token, form, name, seen) in [
        (&ada, &project("one") as &(dyn Fn(Form) -> Form + Sync), "first", ""),
        (&bob, &project("one"), "bobs", ""),
        (&ada, &project("two"), "other-project", ""),
        (&ada, &cold, "cold", ""),
        (&ada, &project("one"), "second", "first"),
        (&bob, &project("one"), "again", "bobs"),
    ] {
        assert_eq!(visit(&service, token, name, form).await, seen, "{name}");
    }
    // Without a name, the project is the repository of the first destination.
    for (image, name, seen) in
        [("h.example/team/app:1", "x", ""), ("h.example/team/app:2", "y", "x"), ("h.example/team/apps", "z", "")]
    {
        assert_eq!(visit(&service, &ada, name, |form| form.text("image", image)).await, seen, "{image}");
    }
    // Another service, with the same names, on the same engine.
    let other = service::start(backend).await;
    let token = other.user("ada").await;
    assert_eq!(visit(&other, &token, "elsewhere", project("one")).await, "");
}

/// Makes way for another account of this name.
pub(super) async fn remove_account(service: &Running, name: &str) {
    let removed = service.request(Method::DELETE, &format!("/api/v1/users/{name}?objects=delete")).send().await;
    assert!(removed.expect("an answer").status().is_success(), "{name}");
}

/// Alone for the same reason.
async fn alone_a_later_account_of_the_same_name_inherits_no_cache(backend: Backend) {
    let service = service::start(backend).await;
    let project = |form: Form| form.text("project", "one");
    let first = service.user("ada").await;
    assert_eq!(visit(&service, &first, "first", project).await, "");
    assert_eq!(visit(&service, &first, "again", project).await, "first");
    remove_account(&service, "ada").await;
    let second = service.user("ada").await;
    assert_eq!(visit(&service, &second, "another", project).await, "");
    assert_eq!(visit(&service, &second, "hers", project).await, "another");
}

/// Takes out of the engine's cache what steps with this mark have made.
async fn prune(mark: &str) {
    // The engine makes one such list at a time, and refuses a second.
    let list = async || serde_json::from_str(&docker(&["system", "df", "-v", "--format", "{{json .BuildCache}}"])).ok();
    let listed: Vec<Value> = seen("the engine lists its cache", list).await;
    let ours: Vec<&str> = listed
        .iter()
        .filter(|one| one["Description"].as_str().is_some_and(|text| text.contains(mark)))
        .filter_map(|one| one["ID"].as_str())
        .collect();
    assert!(!ours.is_empty(), "nothing in the cache was made by {mark}");
    for one in ours {
        docker(&["builder", "prune", "-a", "-f", "--filter", &format!("id={one}")]);
    }
}

async fn layers_of_an_image_at_a_registry_are_a_cache_for_whoever_may_read_it(backend: Backend) {
    let service = service::start(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let (host, user, password) = private_registry();
    let image = format!("{host}/{}:1", unique("inline"));
    let mark = unique("mark");
    let text = format!("FROM busybox\nRUN head -c 32 /dev/urandom | md5sum >/made && echo {mark}\n");
    let upload = || login(dockerfile(&text), &user, &password).text("image", image.clone());
    let first = service.ended(&service.submit_as(&ada, upload().text("inline_cache", "true")).await).await;
    assert_eq!((&first["state"], &first["options"]["inline_cache"]), (&"published".into(), &true.into()), "{first}");
    let made = file_in(&first, "/made");
    service.delete(&first).await;
    prune(&mark).await;
    // Whoever may not read it gets nothing of it, and the build goes on.
    let his = built(&service, &bob, dockerfile(&text).text("cache_from", image.clone())).await;
    let log = service.log(&his).await;
    assert!(log.contains(&format!("{image} is not used as a cache: ")) && log.contains(&host), "{log}");
    assert_ne!(file_in(&his, "/made"), made);
    service.delete(&his).await;
    prune(&mark).await;
    let cold = built(&service, &ada, upload().text("cache_from", image.clone()).text("cold", "true")).await;
    assert_ne!(file_in(&cold, "/made"), made, "no cache of any kind");
    service.delete(&cold).await;
    prune(&mark).await;
    let hers = built(&service, &ada, upload().text("cache_from", image.clone())).await;
    let log = service.log(&hers).await;
    assert!(log.contains("CACHED"), "{}: {log}", id(&hers));
    assert_eq!(file_in(&hers, "/made"), made, "the very layer of the registry");
    service.delete(&hers).await;
}
