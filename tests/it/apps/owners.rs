//! Whose things they are: two accounts with the same names, accounts that go, keys that change, and strangers on the engine.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, web, word};
use crate::support::service::{Backend, docker, id};
use crate::support::{self, unique};

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_of_two_owners_are_two_things() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    for (token, word) in [(&ada, "hers"), (&bob, "his")] {
        harbor.app(token, "web", json!({"command": ["echo", word], "network": "none"})).await;
        let run = harbor.start_app(token, "web").await;
        harbor.over(token, &run).await;
        assert_eq!(harbor.output(token, &run).await, format!("{word}\n"));
    }
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/apps", json!({"name": "web", "image": "busybox"})).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"name_taken".into()), "{told}");
    // An admin says whose.
    let chief = harbor.token.clone();
    assert_eq!(harbor.call(&chief, Method::GET, "/api/v1/apps/web", Value::Null).await.0, StatusCode::NOT_FOUND);
    for owner in ["ada", "bob"] {
        assert_eq!(harbor.read(&chief, &format!("/api/v1/apps/web?owner={owner}")).await["owner"], owner);
        let listed = harbor.read(&chief, &format!("/api/v1/containers?owner={owner}&app=web")).await;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(
            harbor.call(&ada, Method::GET, &format!("/api/v1/apps/web?owner={owner}"), Value::Null).await.0.is_success(),
            owner == "ada"
        );
    }
    harbor.done(&ada, Method::DELETE, "/api/v1/apps/web?force=true", Value::Null).await;
    assert_eq!(harbor.read(&bob, "/api/v1/apps").await["items"].as_array().map(Vec::len), Some(1));
}

async fn an_app_is_changed_by_who_has_seen_it(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    let made = json!({"name": "one", "image": "busybox", "env": {"KEY": {"secret": "first"}}, "command": ["sh", "-c", "echo $KEY"], "network": "none"});
    let sent = harbor.request_as(&ada, Method::POST, "/api/v1/apps").json(&made).send().await.expect("an answer");
    assert_eq!(sent.status(), StatusCode::CREATED);
    let (location, etag) = (sent.headers()["location"].clone(), sent.headers()["etag"].clone());
    let app: Value = sent.json().await.expect("JSON");
    assert_eq!(location.to_str().expect("text"), format!("/api/v1/apps/{}", id(&app)));
    let change = |body: Value| harbor.request_as(&ada, Method::PATCH, "/api/v1/apps/one").header("if-match", &etag).json(&body);
    assert_eq!(change(json!({"labels": {"a": "1"}})).send().await.expect("an answer").status(), StatusCode::OK);
    let stale = change(json!({"labels": {"a": "2"}})).send().await.expect("an answer");
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
    // What is shown can be sent back, and keeps its secret.
    let mut shown = harbor.read(&ada, "/api/v1/apps/one").await;
    for own in ["id", "owner", "generation", "state", "created_at", "updated_at", "links"] {
        shown.as_object_mut().expect("an object").remove(own);
    }
    assert_eq!(shown["env"], json!({"KEY": {"secret": true}}));
    shown["name"] = "two".into();
    harbor.done(&ada, Method::PUT, "/api/v1/apps/one", shown).await;
    assert_eq!(harbor.call(&ada, Method::GET, "/api/v1/apps/one", Value::Null).await.0, StatusCode::NOT_FOUND);
    let run = harbor.start_app(&ada, "two").await;
    harbor.over(&ada, &run).await;
    assert_eq!(harbor.output(&ada, &run).await, "first\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_changed_by_who_has_seen_it_with_the_embedded_store() {
    an_app_is_changed_by_who_has_seen_it(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_changed_by_who_has_seen_it_with_redis() {
    an_app_is_changed_by_who_has_seen_it(Backend::Redis).await;
}

/// An app that runs, and a volume with something in it.
async fn belongings(harbor: &Harbor, token: &str) -> Value {
    let mut fields = web("theirs");
    fields["env"] = json!({"KEY": {"secret": "kept"}});
    fields["volumes"] = json!([{"volume": "data", "path": "/data"}]);
    harbor.app(token, "web", fields).await;
    let run = harbor.start_app(token, "web").await;
    let run = harbor.runs(token, &run).await;
    docker(&["exec", word(&run["container"]), "sh", "-c", "echo word > /data/file"]);
    run
}

async fn things_go_with_their_account_or_to_an_heir(backend: Backend) {
    let harbor = harbor(backend).await;
    let (ada, heir) = (harbor.user("ada").await, harbor.user("heir").await);
    let run = belongings(&harbor, &ada).await;
    let chief = harbor.token.clone();
    let (status, told) = harbor.call(&chief, Method::DELETE, "/api/v1/users/ada", Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"owns_objects".into()), "{told}");
    let told = harbor.done(&chief, Method::DELETE, "/api/v1/users/ada?objects=transfer:heir", Value::Null).await;
    assert_eq!((&told["apps"], &told["volumes"], &told["runs"]), (&1.into(), &1.into(), &1.into()), "{told}");
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("id={}", word(&run["container"]))]), "");
    // The heir has the app, its secret, and what was in the volume.
    let check = json!({"command": ["sh", "-c", "cat /data/file; echo $KEY"], "ports": null, "network": "none"});
    harbor.done(&heir, Method::PATCH, "/api/v1/apps/web", check).await;
    let run = harbor.start_app(&heir, "web").await;
    let over = harbor.over(&heir, &run).await;
    assert_eq!(over["state"], "exited", "{over}");
    assert_eq!(harbor.output(&heir, &run).await, "word\nkept\n");

    let ada = harbor.user("ada").await;
    let run = belongings(&harbor, &ada).await;
    let volume = harbor.read(&ada, "/api/v1/volumes/data").await;
    harbor.done(&chief, Method::DELETE, "/api/v1/users/ada?objects=delete", Value::Null).await;
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("id={}", word(&run["container"]))]), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={}", word(&volume["engine_name"]))]), "");
    let ours = format!("label=dockwright.installation={}", harbor.installation);
    assert_eq!(docker(&["network", "ls", "-q", "--filter", &ours, "--filter", "label=dockwright.owner=ada"]), "");
    let again = harbor.user("ada").await;
    for list in ["apps", "runs", "containers", "volumes", "networks", "images"] {
        assert_eq!(harbor.read(&again, &format!("/api/v1/{list}")).await["items"], json!([]), "{list}");
    }
    assert_eq!(harbor.read(&heir, "/api/v1/volumes").await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn things_go_with_their_account_or_to_an_heir_with_the_embedded_store() {
    things_go_with_their_account_or_to_an_heir(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn things_go_with_their_account_or_to_an_heir_with_redis() {
    things_go_with_their_account_or_to_an_heir(Backend::Redis).await;
}

async fn secrets_of_apps_follow_a_change_of_keys(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    let fields =
        json!({"command": ["sh", "-c", "echo $KEY; exec sleep 600"], "env": {"KEY": {"secret": "sealed"}}, "network": "none"});
    harbor.app(&ada, "one", fields).await;
    let before = harbor.start_app(&ada, "one").await;
    harbor.runs(&ada, &before).await;
    let chief = harbor.token.clone();
    harbor.done(&chief, Method::POST, "/api/v1/keys/rotate", Value::Null).await;
    // The old key is really gone.
    let file = harbor.config.key_file.clone();
    let text = std::fs::read_to_string(&file).expect("a key file");
    let newest = text.lines().next().expect("a key").to_owned();
    let minutes_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
    std::fs::File::open(&file).and_then(|file| file.set_modified(minutes_ago)).expect("set back");
    let alone = || std::fs::read_to_string(&file).expect("a key file").lines().eq([newest.as_str()]);
    crate::support::watch("the old key is gone", alone).await;
    let after = harbor.start_app(&ada, "one").await;
    let after = harbor.runs(&ada, &after).await;
    let restarted = format!("/api/v1/containers/{}/restart?grace=0s", id(&before));
    harbor.done(&ada, Method::POST, &restarted, Value::Null).await;
    for (run, times) in [(&before, 2), (&after, 1)] {
        harbor.done(&ada, Method::POST, &format!("/api/v1/containers/{}/stop?grace=0s", id(run)), Value::Null).await;
        assert_eq!(harbor.output(&ada, run).await, "sealed\n".repeat(times));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_apps_follow_a_change_of_keys_with_the_embedded_store() {
    secrets_of_apps_follow_a_change_of_keys(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_apps_follow_a_change_of_keys_with_redis() {
    secrets_of_apps_follow_a_change_of_keys(Backend::Redis).await;
}

/// Taken away also when the test fails.
struct Foreign(String);

impl Drop for Foreign {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_others_on_the_engine_are_seen_by_admins_and_touched_by_nobody() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let name = unique("foreign");
    let foreign = Foreign(name.clone());
    let label = format!("dockwright.installation={}", harbor.installation);
    // One that claims to be ada's, by labels that anybody with the engine can write.
    docker(&[
        "run",
        "-d",
        "--name",
        &foreign.0,
        "--network",
        "none",
        "--label",
        "dockwright.owner=ada",
        // Our mark alone, as an image may bring it along, makes nothing ours.
        "--label",
        &label,
        "busybox",
        "sh",
        "-c",
        "echo word; sleep 600",
    ]);
    let orphan = Foreign(unique("orphan"));
    docker(&[
        "run",
        "-d",
        "--name",
        &orphan.0,
        "--network",
        "none",
        "--label",
        &label,
        "--label",
        &format!("dockwright.run={}", uuid::Uuid::now_v7()),
        "--label",
        "dockwright.owner=ada",
        "busybox",
        "sleep",
        "600",
    ]);
    let chief = harbor.token.clone();
    let seen = async |name: &str| {
        let path = format!("/api/v1/containers/{name}");
        support::seen(name, async || {
            let (status, told) = harbor.call(&chief, Method::GET, &path, Value::Null).await;
            (status == StatusCode::OK).then_some(told)
        })
        .await
    };
    let shown = seen(&foreign.0).await;
    assert_eq!(
        (&shown["managed"], &shown["orphan"], &shown["owner"], &shown["run"]),
        (&false.into(), &false.into(), &Value::Null, &Value::Null),
        "{shown}"
    );
    let shown = seen(&orphan.0).await;
    assert_eq!((&shown["managed"], &shown["orphan"]), (&false.into(), &true.into()), "{shown}");
    assert_eq!(harbor.read(&chief, &format!("/api/v1/containers/{name}/logs")).await, "word\n");
    for name in [&foreign.0, &orphan.0] {
        let path = format!("/api/v1/containers/{name}");
        assert_eq!(harbor.call(&ada, Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        for (method, path) in [
            (Method::POST, format!("{path}/stop")),
            (Method::POST, format!("{path}/start")),
            (Method::POST, format!("{path}/restart")),
            (Method::POST, format!("{path}/kill")),
            (Method::DELETE, format!("{path}?force=true")),
        ] {
            let (status, told) = harbor.call(&chief, method.clone(), &path, Value::Null).await;
            assert_eq!((status, &told["code"]), (StatusCode::FORBIDDEN, &"not_ours".into()), "{path}");
            assert_eq!(harbor.call(&ada, method, &path, Value::Null).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", name]), "true");
    }
    assert_eq!(harbor.read(&ada, "/api/v1/containers").await["items"], json!([]));
}
