//! What an app was given, looked at with the rights and the rules of the day that it runs.

use dockwright::domain::{App, Permission, Permissions, Role, Scope};
use dockwright::store::objects::{Expect, Kind, Object, Write};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::people::{person, token, without};
use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, id};

/// Refused, and only for this field.
async fn refused(harbor: &Harbor, token: &str, path: &str, field: &str) {
    let (status, told) = harbor.call(token, Method::POST, path, Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &"invalid_spec".into()), "{path}: {told}");
    let fields: Vec<&str> = told["errors"].as_array().expect("a list").iter().map(|error| word(&error["field"])).collect();
    assert_eq!(fields, [field], "{told}");
}

/// An admin's app that is open to other machines.
fn open() -> Value {
    json!({"command": ["sleep", "600"], "ports": [80], "publish_on": "0.0.0.0"})
}

async fn what_only_admins_may_do_ends_with_their_rights(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = person(&harbor, "ada", Role::Admin).await;
    let all = token(&harbor, &ada, Permissions::of_role(Role::Admin), None).await;
    harbor.app(&all, "open", open()).await;
    let run = harbor.start_app(&all, "open").await;
    harbor.runs(&all, &run).await;
    let (start, restart) = (format!("/api/v1/containers/{}/start", id(&run)), format!("/api/v1/containers/{}/restart", id(&run)));
    let few = token(&harbor, &ada, without(Role::Admin, Permission::Admin), None).await;
    refused(&harbor, &few, "/api/v1/apps/open/runs", "publish_on").await;
    refused(&harbor, &few, &restart, "publish_on").await;
    harbor.runs(&all, &run).await;
    harbor.done(&harbor.token, Method::PATCH, "/api/v1/users/ada", json!({"role": "user"})).await;
    refused(&harbor, &all, "/api/v1/apps/open/runs", "publish_on").await;
    harbor.done(&all, Method::POST, &format!("/api/v1/containers/{}/stop?grace=0s", id(&run)), Value::Null).await;
    refused(&harbor, &all, &start, "publish_on").await;
    // Without it the app is as anybody's.
    harbor.done(&all, Method::PATCH, "/api/v1/apps/open", json!({"publish_on": null})).await;
    let run = harbor.start_app(&all, "open").await;
    harbor.runs(&all, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_admins_may_do_ends_with_their_rights_with_the_embedded_store() {
    what_only_admins_may_do_ends_with_their_rights(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_admins_may_do_ends_with_their_rights_with_redis() {
    what_only_admins_may_do_ends_with_their_rights(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_heir_who_is_no_admin_runs_nothing_that_only_admins_may() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, heir) = (person(&harbor, "ada", Role::Admin).await, harbor.user("heir").await);
    let all = token(&harbor, &ada, Permissions::of_role(Role::Admin), None).await;
    harbor.app(&all, "open", open()).await;
    harbor.done(&harbor.token, Method::DELETE, "/api/v1/users/ada?objects=transfer:heir", Value::Null).await;
    refused(&harbor, &heir, "/api/v1/apps/open/runs", "publish_on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_from_more_generous_days_comes_down_to_the_rules_of_now() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let app = harbor.app(&ada, "old", json!({"command": ["true"], "ports": [80]})).await;
    let stored: Object<App> = harbor.store.object(&Scope::All, Kind::App, id(&app)).await.expect("the store").expect("an app");
    for (field, change) in [
        ("memory", (|app: &mut App| app.spec.memory_bytes = 1 << 50) as fn(&mut App)),
        ("cpus", |app| app.spec.milli_cpus = 1_000_000),
        ("ports[0].host", |app| app.spec.ports[0].host = Some(22)),
    ] {
        let mut app = stored.body.clone();
        change(&mut app);
        harbor.store.commit(&[Write::put(Kind::App, id_of(&app), &app.owner, Expect::Anything, &app)]).await.expect("written");
        refused(&harbor, &ada, "/api/v1/apps/old/runs", field).await;
    }
}

fn id_of(app: &App) -> String {
    app.id.to_string()
}
