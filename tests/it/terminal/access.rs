//! Who may open a terminal, and for how long.

use dockwright::domain::{Permission, Role};
use reqwest::Method;
use serde_json::json;

use super::socket::{open, open_as, try_as};
use super::{IDLE, ada_with};
use crate::accounts::people::{log_in, send, token, with_password, without};
use crate::support::container::Container;
use crate::support::service::docker;
use crate::support::{seen, unique, watch};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_its_owners_and_the_admins() {
    let (service, container, ada) = ada_with("60s").await;
    let bob = service.user("bob").await;
    let path = format!("{}/exec?cmd=cat", container.name);
    let mut hers = open_as(&service, &ada, &path).await;
    let back = format!("{}/exec?session={}", container.name, hers.session);
    for path in [&path, &back, &format!("{}/exec", container.id), &format!("{}/exec", container.run)] {
        let (status, told) = try_as(&service, &bob, path).await.err().expect("refused");
        assert_eq!((status, &told["code"]), (404, &json!("not_found")), "{path}");
        assert_eq!(open(&service, path, &[]).await.err().map(|refused| refused.0), Some(401), "{path}");
    }
    // An admin may be in her container, and not at her terminal.
    assert_eq!(try_as(&service, &service.token, &back).await.err().map(|refused| refused.0), Some(404));
    let mut admins = open_as(&service, &service.token, &format!("{}/exec?cmd=echo&cmd=admin", container.name)).await;
    admins.until("admin").await;
    // Her own terminal of another container is none of this one.
    let other = Container::of(&service, &ada, IDLE).await;
    let elsewhere = format!("{}/exec?session={}", other.name, hers.session);
    assert_eq!(try_as(&service, &ada, &elsewhere).await.err().map(|refused| refused.0), Some(404));
    let owner = "ada".parse().expect("a name");
    let reader = token(&service, &owner, without(Role::User, Permission::AppsWrite), None).await;
    let (status, told) = try_as(&service, &reader, &path).await.err().expect("refused");
    assert_eq!((status, &told["code"]), (403, &json!("missing_scope")));
    hers.send("still here\n").await;
    hers.until("still here").await;
    let plain = service.request_as(&ada, Method::GET, &format!("/api/v1/containers/{path}"));
    let (status, told) = send(plain).await;
    assert_eq!((status.as_u16(), &told["code"]), (426, &json!("upgrade_required")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_other_containers_are_nobodys() {
    let (service, _container, ada) = ada_with("60s").await;
    let name = unique("foreign");
    docker(&["run", "-d", "--network", "none", "--name", &name, "busybox", "sleep", "1000"]);
    let looked = seen("the admin sees it", async || {
        let refused = try_as(&service, &service.token, &format!("{name}/exec")).await.err().expect("refused");
        (refused.0 != 404).then_some(refused)
    });
    let (status, told) = looked.await;
    let hers = try_as(&service, &ada, &format!("{name}/exec")).await.err().map(|refused| refused.0);
    docker(&["rm", "-f", &name]);
    assert_eq!((status, &told["code"], hers), (403, &json!("not_ours"), Some(404)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_elsewhere_opens_no_terminal() {
    let (service, _, _) = ada_with("60s").await;
    with_password(&service, "eve", "user").await;
    let token = service.token_of("eve").await;
    let container = Container::of(&service, &token, IDLE).await;
    let cookie = log_in(&service, "eve").await;
    let path = format!("{}/exec?cmd=echo&cmd=mine", container.name);
    let own = service.url("");
    for origin in [None, Some("http://evil.example"), Some("null"), Some("http://127.0.0.1:1")] {
        let headers: Vec<(&'static str, &str)> =
            [Some(("cookie", cookie.as_str())), origin.map(|origin| ("origin", origin))].into_iter().flatten().collect();
        let (status, told) = open(&service, &path, &headers).await.err().expect("refused");
        assert_eq!((status, &told["code"]), (403, &json!("foreign_origin")), "{origin:?}");
    }
    let rebound = [("cookie", cookie.as_str()), ("origin", "http://evil.example"), ("host", "evil.example")];
    assert_eq!(open(&service, &path, &rebound).await.err().expect("refused").1["code"], "host_not_allowed");
    let mut own_page = open(&service, &path, &[("cookie", &cookie), ("origin", &own)]).await.expect("opens");
    own_page.until("mine").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_ends_takes_the_terminal_along() {
    let (service, container, ada) = ada_with("60s").await;
    for way in ["revoked", "disabled"] {
        let made = send(service.request_as(&ada, Method::POST, "/api/v1/tokens").json(&json!({"name": way}))).await.1;
        let text = made["token"].as_str().expect("a token");
        let mark = unique(way);
        let mut terminal = open_as(&service, text, &format!("{}/exec?cmd=sh&cmd=-c&cmd=cat;%20:%20{mark}", container.name)).await;
        terminal.send("typed\n").await;
        terminal.until("typed\r\ntyped").await;
        let ended = match way {
            "revoked" => {
                let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
                service.request_as(&ada, Method::DELETE, &path)
            }
            _ => service.request(Method::PATCH, "/api/v1/users/ada").json(&json!({"disabled": true})),
        };
        assert!(send(ended).await.0.is_success());
        let (_, code, why) = terminal.end().await;
        assert_eq!((code, why.contains("right")), (4401, true), "{why}");
        watch("its process is gone", || container.processes(&mark) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_has_no_terminal() {
    let (service, container, ada) = ada_with("60s").await;
    let mut open = open_as(&service, &ada, &format!("{}/exec?cmd=cat", container.name)).await;
    docker(&["kill", &container.id]);
    let (_, code, _) = open.end().await;
    assert!(matches!(code, 1000 | 1011), "a terminal ends with its container: {code}");
    let refused = seen("its end is seen", async || {
        let refused = try_as(&service, &ada, &format!("{}/exec?cmd=true", container.name)).await.err();
        refused.filter(|(_, told)| told["code"] == "not_running")
    });
    let (status, told) = refused.await;
    assert!(status == 409 && told["detail"].as_str().is_some_and(|why| why.contains("not run")), "{told}");
    assert_eq!(try_as(&service, &ada, "nothing-like-this/exec").await.err().map(|refused| refused.0), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_has_the_command_and_nothing_that_was_typed() {
    let (service, container, ada) = ada_with("60s").await;
    let canary = unique("canary");
    let mut terminal = open_as(&service, &ada, &format!("{}/exec?cmd=sh&cmd=-c&cmd=cat%20-", container.name)).await;
    terminal.send(format!("{canary}\n")).await;
    terminal.until(&canary).await;
    terminal.leave().await;
    let audit = service.get("/api/v1/audit").await;
    let entry = audit["items"].as_array().expect("a list").iter().find(|entry| entry["action"] == "container.exec");
    let entry = entry.unwrap_or_else(|| panic!("no entry: {audit}"));
    let object = format!("containers/{}/exec?cmd=sh&cmd=-c&cmd=cat%20-", container.name);
    assert_eq!((&entry["actor"], &entry["object"], &entry["status"]), (&json!("ada"), &json!(object), &json!(101)));
    assert!(!audit.to_string().contains(&canary));
}
