//! Volumes and networks: an owner's own.

use dockwright::engine::containers::{INSTALLATION, OWNER, RUN};
use dockwright::store::objects::Kind;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::harbor::{harbor, harbor_with, web, word};
use crate::support::service::{Backend, docker, id};

async fn what_a_volume_holds_survives(backend: Backend) {
    let harbor = harbor(backend).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let mount = json!([{"volume": "data", "path": "/data"}]);
    let said = |script: &str| json!({"command": ["sh", "-c", script], "volumes": mount, "network": "none"});
    harbor.prints(&ada, said("echo kept > /data/file")).await;
    assert_eq!(harbor.prints(&ada, said("cat /data/file")).await, "kept\n");
    assert_eq!(harbor.prints(&bob, said("ls /data")).await, "", "another owner's volume of the same name is another");
    let volume = harbor.read(&ada, "/api/v1/volumes/data").await;
    let users = volume["used_by"].as_array().expect("a list");
    assert_eq!((users.len(), volume["owner"].clone()), (2, "ada".into()), "{volume}");
    assert_ne!(volume["engine_name"], harbor.read(&bob, "/api/v1/volumes/data").await["engine_name"]);
    let (status, told) = harbor.call(&ada, Method::DELETE, "/api/v1/volumes/data", Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"volume_in_use".into()));
    assert!(word(&told["detail"]).contains(word(&users[0])), "{told}");
    for run in harbor.read(&ada, "/api/v1/runs").await["items"].as_array().expect("a list") {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    harbor.done(&ada, Method::DELETE, "/api/v1/volumes/data", Value::Null).await;
    assert_eq!(harbor.read(&ada, "/api/v1/volumes").await["items"], json!([]));
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={}", word(&volume["engine_name"]))]), "");
    assert_eq!(harbor.read(&bob, "/api/v1/volumes").await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_volume_holds_survives_with_the_embedded_store() {
    what_a_volume_holds_survives(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_volume_holds_survives_with_redis() {
    what_a_volume_holds_survives(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_counted_and_taken_away() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let made = harbor.done(&ada, Method::POST, "/api/v1/volumes", json!({"name": "own"})).await;
    assert_eq!((&made["name"], &made["used_by"], &made["bytes"]), (&"own".into(), &json!([]), &Value::Null));
    let again = harbor.call(&ada, Method::POST, "/api/v1/volumes", json!({"name": "own"})).await;
    assert_eq!((again.0, &again.1["code"]), (StatusCode::CONFLICT, &"name_taken".into()));
    for bad in [json!({"name": "../x"}), json!({"name": "x", "driver": "local"}), json!({"name": ""}), json!({})] {
        assert_eq!(harbor.call(&ada, Method::POST, "/api/v1/volumes", bad.clone()).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let script = "dd if=/dev/zero of=/data/file bs=1k count=100";
    let fields = json!({"command": ["sh", "-c", script], "volumes": [{"volume": "own", "path": "/data"}], "network": "none"});
    harbor.prints(&ada, fields).await;
    let listed = harbor.read(&ada, "/api/v1/volumes?usage=true").await;
    assert!(listed["items"][0]["bytes"].as_u64().is_some_and(|bytes| bytes >= 100 * 1024), "{listed}");
}

/// Alone: while anybody makes a network, Engine 20.10 keeps none apart for a moment (`docs/security.md`).
#[tokio::test(flavor = "multi_thread")]
async fn alone_apps_of_one_owner_reach_each_other_and_nobody_elses() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    harbor.app(&ada, "web", web("hers")).await;
    let run = harbor.start_app(&ada, "web").await;
    let run = harbor.runs(&ada, &run).await;
    let shown = harbor.read(&ada, &format!("/api/v1/containers/{}", id(&run))).await;
    let address = word(&shown["addresses"]["default"]).to_owned();
    let fetch = |host: &str| {
        let script =
            format!("for i in 1 2 3; do timeout 2 wget -q -O - http://{host}:8080/ && exit 0; sleep 0.3; done; echo nothing");
        json!({"command": ["sh", "-c", script]})
    };
    assert_eq!(harbor.prints(&ada, fetch("web")).await, "hers\n", "by its app's name");
    assert_eq!(harbor.prints(&ada, fetch(&address)).await, "hers\n", "by its address");
    for host in ["web", &address, word(&run["container_name"])] {
        let told = harbor.prints(&bob, fetch(host)).await;
        assert!(told.contains("nothing") && !told.contains("hers"), "{host}: {told}");
    }
    // Both have an app of that name, and each reaches its own.
    harbor.app(&bob, "web", web("his")).await;
    let his = harbor.start_app(&bob, "web").await;
    harbor.runs(&bob, &his).await;
    assert_eq!(harbor.prints(&bob, fetch("web")).await, "his\n");
    assert_eq!(harbor.prints(&ada, fetch("web")).await, "hers\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_ones_own_keeps_its_containers_together() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let made = harbor.done(&ada, Method::POST, "/api/v1/networks", json!({"name": "back"})).await;
    assert_eq!((&made["name"], &made["used_by"]), (&"back".into(), &json!([])));
    let mut fields = web("behind");
    fields["network"] = "back".into();
    harbor.app(&ada, "db", fields).await;
    let db = harbor.start_app(&ada, "db").await;
    harbor.runs(&ada, &db).await;
    let ask = |network: &str| {
        let script = "for i in 1 2 3; do timeout 2 wget -q -O - http://db:8080/ && exit 0; sleep 0.3; done; echo nothing";
        json!({"command": ["sh", "-c", script], "network": network})
    };
    assert_eq!(harbor.prints(&ada, ask("back")).await, "behind\n");
    assert!(harbor.prints(&ada, ask("default")).await.contains("nothing"));
    let (status, told) = harbor.call(&ada, Method::DELETE, "/api/v1/networks/back", Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"network_in_use".into()));
    let nowhere = harbor.run(&ada, json!({"command": ["true"], "network": "nowhere"})).await;
    let nowhere = harbor.over(&ada, &nowhere).await;
    assert_eq!((&nowhere["state"], &nowhere["error"]["code"]), (&"failed".into(), &"no_such_network".into()), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_the_engine_does_not_make_is_not_there() {
    let gate = Gate::engine("/volumes/create", 0).await;
    let harbor = harbor_with(Backend::Sqlite, |settings| settings.engine = Some(format!("tcp://{}", gate.address))).await;
    let ada = harbor.user("ada").await;
    let making = harbor.call(&ada, Method::POST, "/api/v1/volumes", json!({"name": "own"}));
    let (made, ()) = tokio::join!(making, async {
        gate.reached().await;
        drop(gate);
    });
    assert!(!made.0.is_success(), "{made:?}");
    let scope = dockwright::domain::Scope::All;
    let left = harbor.store.all_objects::<Value>(&scope, Kind::Volume).await.expect("the store");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(harbor.read(&ada, "/api/v1/me").await["usage"]["volumes"], 0);
}

/// A keeper that lost its node may still be at work when the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_made_at_the_same_moment_is_the_runs_own() {
    let gate = Gate::engine("/containers/create", 0).await;
    let harbor = harbor_with(Backend::Sqlite, |settings| settings.engine = Some(format!("tcp://{}", gate.address))).await;
    let ada = harbor.user("ada").await;
    let run = harbor.run(&ada, json!({"command": ["true"], "network": "none"})).await;
    gate.reached().await;
    let labels = [(INSTALLATION, harbor.installation.clone()), (OWNER, "ada".to_owned()), (RUN, id(&run).to_owned())];
    let labels = labels.map(|(key, value)| format!("--label={key}={value}"));
    let name = format!("--name={}", word(&run["container_name"]));
    let mut create = vec!["create", &name, "--network=none"];
    create.extend(labels.iter().map(String::as_str));
    create.extend(["busybox", "sh", "-c", "echo already here"]);
    let made = docker(&create);
    gate.open();
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["state"], &over["container"]), (&"exited".into(), &made.into()), "{over}");
    assert_eq!(harbor.output(&ada, &run).await, "already here\n");
}
