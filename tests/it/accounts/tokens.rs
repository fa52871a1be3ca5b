//! Tokens: what they may do, for how long, and that it is never more than their maker may.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::people::{log_in, nobody, queued, quiet, send, with_password};
use crate::support::service::{Backend, Running, dockerfile, id};
use crate::support::watch;

async fn make(service: &Running, token: &str, form: Value) -> (StatusCode, Value) {
    send(service.request_as(token, Method::POST, "/api/v1/tokens").json(&form)).await
}

async fn made(service: &Running, token: &str, form: Value) -> String {
    let (status, told) = make(service, token, form).await;
    assert_eq!(status, StatusCode::CREATED, "{told}");
    told["token"].as_str().expect("a token").to_owned()
}

async fn submit(service: &Running, token: &str, image: &str) -> (StatusCode, Value) {
    let form = dockerfile("FROM busybox\n").text("image", image.to_owned());
    send(service.request_as(token, Method::POST, "/api/v1/builds").multipart(form)).await
}

async fn a_token_does_what_it_was_made_for(backend: Backend) {
    let service = quiet(backend).await;
    let ada = service.user("ada").await;
    let build = queued(&service, &ada).await;
    let reader = made(&service, &ada, json!({"name": "reader", "scopes": ["builds:read"]})).await;
    let path = format!("/api/v1/builds/{build}");
    assert_eq!(send(service.request_as(&reader, Method::GET, &path)).await.0, StatusCode::OK);
    for (method, path) in [(Method::DELETE, path.clone()), (Method::POST, format!("{path}/cancel"))] {
        let (status, told) = send(service.request_as(&reader, method, &path)).await;
        assert_eq!((status.as_u16(), &told["code"]), (403, &"missing_scope".into()), "{told}");
    }
    // Never more than its maker: no other scopes, no longer list of images, no password.
    for form in [json!({"name": "x", "scopes": ["builds:read", "builds:write"]}), json!({"name": "x", "scopes": ["admin"]})] {
        let (status, told) = make(&service, &reader, form).await;
        assert_eq!((status.as_u16(), &told["code"]), (403, &"beyond_own".into()), "{told}");
    }
    assert_eq!(make(&service, &ada, json!({"name": "x", "scopes": ["admin"]})).await.0, StatusCode::FORBIDDEN);
    let heirs = make(&service, &reader, json!({"name": "heir"})).await.1;
    assert_eq!(heirs["scopes"], json!(["builds:read"]));
    let password = service.request_as(&reader, Method::PUT, "/api/v1/me/password");
    assert_eq!(send(password.json(&json!({"new_password": "correct horse battery"}))).await.0, StatusCode::FORBIDDEN);
    for bad in [
        json!({"name": ""}),
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["builds"]}),
        json!({"name": "x", "expires_in": 0}),
        json!({"name": "x", "expires_in": "soon"}),
        json!({"name": "x", "images": ["team*"]}),
        json!({"name": "x", "role": "admin"}),
    ] {
        assert_eq!(make(&service, &ada, bad.clone()).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let (_, list) = send(service.request_as(&ada, Method::GET, "/api/v1/tokens")).await;
    let reader_now = list["items"].as_array().expect("a list").iter().find(|one| one["name"] == "reader").expect("it").clone();
    assert!(reader_now["last_used_at"].is_string() && reader_now.get("token").is_none(), "{reader_now}");
    assert!(!list.to_string().contains(&reader) && !list.to_string().contains("hash"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_was_made_for_with_the_embedded_store() {
    a_token_does_what_it_was_made_for(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_was_made_for_with_redis() {
    a_token_does_what_it_was_made_for(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_some_images_builds_no_others() {
    let service = quiet(Backend::Sqlite).await;
    let ada = service.user("ada").await;
    let form = json!({"name": "ci", "images": ["127.0.0.1:1/team/*", "127.0.0.1:1/one/app"]});
    let limited = made(&service, &ada, form).await;
    for good in ["127.0.0.1:1/team/app:7", "127.0.0.1:1/team/deep/app", "127.0.0.1:1/one/app:x"] {
        assert_eq!(submit(&service, &limited, good).await.0, StatusCode::ACCEPTED, "{good}");
    }
    for bad in ["127.0.0.1:1/teammates/app", "127.0.0.1:2/team/app", "127.0.0.1:1/one/app2", "team/app", "127.0.0.1:1/team"] {
        let (status, told) = submit(&service, &limited, bad).await;
        assert_eq!((status.as_u16(), &told["code"]), (400, &"image_not_allowed".into()), "{bad}: {told}");
    }
    let both = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app").text("image", "127.0.0.1:1/other/app");
    let both = service.request_as(&limited, Method::POST, "/api/v1/builds").multipart(both);
    assert_eq!(send(both).await.1["code"], "image_not_allowed", "one of them is none of its");
    let older = dockerfile("FROM busybox\n").text("docker_repo", "127.0.0.1:1/other/app");
    let older = service.request_as(&limited, Method::POST, "/api/dockerfile-build/").multipart(older);
    assert_eq!(send(older).await.1["code"], "image_not_allowed", "by the older path neither");
    for images in [json!([]), json!(["127.0.0.1:1/*"]), json!(["127.0.0.1:1/team/*", "127.0.0.1:1/x/y"])] {
        let (status, told) = make(&service, &limited, json!({"name": "wider", "images": images})).await;
        assert_eq!((status.as_u16(), &told["code"]), (403, &"beyond_own".into()), "{told}");
    }
    let some = made(&service, &limited, json!({"name": "some", "images": ["127.0.0.1:1/one/app"]})).await;
    assert_eq!(submit(&service, &some, "127.0.0.1:1/team/app").await.1["code"], "image_not_allowed");
}

/// Of the builds of its account it changes those for its destinations, and reads all.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_some_images_changes_no_builds_for_others() {
    for backend in [Backend::Sqlite, Backend::Redis] {
        let service = quiet(backend).await;
        let ada = service.user("ada").await;
        let limited = made(&service, &ada, json!({"name": "ci", "images": ["127.0.0.1:1/team/*"]})).await;
        let both = dockerfile("FROM busybox\n").text("image", "127.0.0.1:1/team/app").text("image", "127.0.0.1:1/other/app");
        let mixed = id(&service.submit_as(&ada, both).await).to_owned();
        let other = id(&submit(&service, &ada, "127.0.0.1:1/other/app").await.1).to_owned();
        let unpublished = dockerfile("FROM busybox\n").text("push", "false");
        let unpublished = id(&service.submit_as(&ada, unpublished).await).to_owned();
        for build in [&mixed, &other] {
            for (method, path) in [
                (Method::POST, format!("/api/v1/builds/{build}/cancel")),
                (Method::DELETE, format!("/api/v1/builds/{build}")),
                (Method::DELETE, format!("/api/dockerfile-build/?dockerfile_build_id={build}")),
            ] {
                let (status, told) = send(service.request_as(&limited, method, &path)).await;
                assert_eq!((status.as_u16(), &told["code"]), (403, &"image_not_allowed".into()), "{path}: {told}");
            }
            let (status, told) = send(service.request_as(&limited, Method::GET, &format!("/api/v1/builds/{build}"))).await;
            assert_eq!((status, &told["state"]), (StatusCode::OK, &"queued".into()), "{told}");
        }
        for build in [&queued(&service, &ada).await, &unpublished] {
            let cancel = service.request_as(&limited, Method::POST, &format!("/api/v1/builds/{build}/cancel"));
            assert_eq!(send(cancel).await.1["state"], "cancelled");
            let delete = service.request_as(&limited, Method::DELETE, &format!("/api/v1/builds/{build}"));
            assert_eq!(send(delete).await.0, StatusCode::OK);
        }
    }
}

/// Names and ids of the tokens that somebody sees, oldest first.
async fn seen(service: &Running, token: &str, more: &str) -> Vec<(String, String)> {
    let (status, page) = send(service.request_as(token, Method::GET, &format!("/api/v1/tokens{more}"))).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let text = |one: &Value, field: &str| one[field].as_str().expect("text").to_owned();
    page["items"].as_array().expect("a list").iter().rev().map(|one| (text(one, "name"), text(one, "id"))).collect()
}

async fn a_token_manages_none_that_can_do_more(backend: Backend) {
    let service = quiet(backend).await;
    with_password(&service, "ada", "user").await;
    let cookie = log_in(&service, "ada").await;
    let ada = service.token_of("ada").await;
    let images = json!(["127.0.0.1:1/team/*"]);
    let reader = made(&service, &ada, json!({"name": "reader", "scopes": ["builds:read"]})).await;
    let limited = made(&service, &ada, json!({"name": "limited", "images": images})).await;
    made(&service, &limited, json!({"name": "narrow", "scopes": ["builds:read"], "images": ["127.0.0.1:1/team/app"]})).await;
    let names = |seen: &[(String, String)]| seen.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&seen(&service, &reader, "").await), ["reader", "narrow"]);
    assert_eq!(names(&seen(&service, &limited, "").await), ["limited", "narrow"]);
    let all = seen(&service, &ada, "").await;
    assert_eq!(names(&all), ["test", "reader", "limited", "narrow"]);
    let in_person = nobody(&service, Method::GET, "/api/v1/tokens").header("cookie", &cookie);
    assert_eq!(send(in_person).await.1["items"].as_array().map(Vec::len), Some(4));
    assert_eq!(seen(&service, &service.token, "?owner=ada").await.len(), 4, "an admin's token administers all");
    // Pages are full, whatever lies between.
    let (_, page) = send(service.request_as(&reader, Method::GET, "/api/v1/tokens?limit=1")).await;
    assert_eq!(page["items"][0]["name"], "narrow");
    let next = format!("/api/v1/tokens?limit=1&cursor={}", page["next_cursor"].as_str().expect("a cursor"));
    let (_, page) = send(service.request_as(&reader, Method::GET, &next)).await;
    assert_eq!((&page["items"][0]["name"], &page["next_cursor"]), (&"reader".into(), &Value::Null), "{page}");

    let revoke = async |token: &str, name: &str| {
        let id = &all.iter().find(|(known, _)| known == name).expect("made").1;
        send(service.request_as(token, Method::DELETE, &format!("/api/v1/tokens/{id}"))).await.0.as_u16()
    };
    assert_eq!((revoke(&reader, "test").await, revoke(&reader, "limited").await), (404, 404));
    assert_eq!((revoke(&limited, "test").await, revoke(&limited, "reader").await), (404, 404));
    assert_eq!(
        (revoke(&reader, "narrow").await, revoke(&limited, "limited").await, revoke(&ada, "reader").await),
        (204, 204, 204)
    );
    assert_eq!(names(&seen(&service, &ada, "").await), ["test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_manages_none_that_can_do_more_with_the_embedded_store() {
    a_token_manages_none_that_can_do_more(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_manages_none_that_can_do_more_with_redis() {
    a_token_manages_none_that_can_do_more(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_it_was_to_and_not_before() {
    let service = quiet(Backend::Sqlite).await;
    let ada = service.user("ada").await;
    let short = made(&service, &ada, json!({"name": "short", "expires_in": 2})).await;
    let long = made(&service, &ada, json!({"name": "long", "expires_in": "90d"})).await;
    let began = std::time::Instant::now();
    let me = async |token: &str| service.request_as(token, Method::GET, "/api/v1/me").send().await.expect("an answer").status();
    assert_eq!(me(&short).await, StatusCode::OK);
    // What is remembered of a caller outlives its token in no case.
    watch("two seconds have passed", || began.elapsed().as_millis() > 2050).await;
    assert_eq!((me(&short).await, me(&long).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    for way in ["basic", "bearer"] {
        let asked = nobody(&service, Method::GET, "/api/v1/me");
        let asked = if way == "basic" { asked.basic_auth("anybody", Some(&long)) } else { asked.bearer_auth(&long) };
        assert_eq!(send(asked).await.1["by"], "token", "{way}");
    }
    let in_url = nobody(&service, Method::GET, &format!("/api/v1/me?token={long}&access_token={long}"));
    assert_eq!(send(in_url).await.0, StatusCode::UNAUTHORIZED, "never in a URL");
}
