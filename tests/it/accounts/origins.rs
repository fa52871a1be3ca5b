//! Pages elsewhere, and names that are made to point here, can do nothing with a browser's session.

use dockwright::http::access::{Need, RULES};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::people::{PASSWORD, log_in, nobody, quiet, send, with_password};
use crate::support::service::{Backend, Running, start_with};

/// A request with headers of its own.
async fn ask(service: &Running, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut asked = nobody(service, method.clone(), path);
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    if method == Method::POST {
        asked = asked.json(&json!({"name": "made by a page"}));
    }
    send(asked).await
}

fn refused(answer: &(StatusCode, Value), code: &str) {
    assert_eq!((answer.0.as_u16(), &answer.1["code"]), (403, &code.into()), "{}", answer.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_changes_nothing() {
    let service = quiet(Backend::Sqlite).await;
    with_password(&service, "ada", "user").await;
    let cookie = log_in(&service, "ada").await;
    let cookie = ("cookie", cookie.as_str());
    let (own, port) = (service.url(""), service.address.port());
    let neighbour = format!("http://127.0.0.1:{}", port ^ 1);
    let sibling = format!("http://sibling.localhost:{port}");
    let behind = format!("{own}.evil.example");
    for origin in ["http://evil.example", "null", "", &neighbour, &sibling, &behind, "https://127.0.0.1", "http://localhost"] {
        for (method, path) in [
            (Method::POST, "/api/v1/tokens"),
            (Method::POST, "/api/v1/builds"),
            (Method::DELETE, "/api/v1/session"),
            (Method::PUT, "/api/v1/me/password"),
            (Method::PUT, "/api/v1/registries/r"),
        ] {
            refused(&ask(&service, method, path, &[cookie, ("origin", origin)]).await, "foreign_origin");
        }
    }
    refused(&ask(&service, Method::POST, "/api/v1/tokens", &[cookie]).await, "foreign_origin");
    for site in ["cross-site", "same-site", "none"] {
        refused(&ask(&service, Method::POST, "/api/v1/tokens", &[cookie, ("sec-fetch-site", site)]).await, "foreign_origin");
    }
    let tokens = ask(&service, Method::GET, "/api/v1/tokens", &[cookie]).await;
    assert_eq!(tokens.1["items"], json!([]), "nothing was made, and the session lives on");
    for good in [("origin", own.as_str()), ("sec-fetch-site", "same-origin")] {
        assert_eq!(ask(&service, Method::POST, "/api/v1/tokens", &[cookie, good]).await.0, StatusCode::CREATED);
    }
}

/// A browser sends a password that it was once asked for by itself, as it does a cookie.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_does_not_use_a_browsers_password_or_log_in() {
    let service = quiet(Backend::Sqlite).await;
    with_password(&service, "ada", "user").await;
    let basic = |origin: Option<&str>| {
        let sent = nobody(&service, Method::POST, "/api/v1/tokens").basic_auth("ada", Some(PASSWORD));
        let sent = if let Some(origin) = origin { sent.header("origin", origin) } else { sent };
        send(sent.json(&json!({"name": "x"})))
    };
    for origin in ["http://evil.example", "null"] {
        refused(&basic(Some(origin)).await, "foreign_origin");
        let form = json!({"name": "ada", "password": PASSWORD});
        let log_in = nobody(&service, Method::POST, "/api/v1/session").header("origin", origin).json(&form);
        refused(&send(log_in).await, "foreign_origin");
    }
    assert_eq!(basic(Some(&service.url(""))).await.0, StatusCode::CREATED);
    assert_eq!(basic(None).await.0, StatusCode::CREATED, "who is no browser says nothing of origins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_points_here_is_not_ours() {
    let service = start_with(Backend::Sqlite, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        settings.public_hosts = Some(vec!["ci.example".into()]);
    })
    .await;
    with_password(&service, "ada", "user").await;
    let cookie = log_in(&service, "ada").await;
    let cookie = ("cookie", cookie.as_str());
    let port = service.address.port();
    for (name, known) in [
        ("evil.example", false),
        ("ci.example.evil.example", false),
        ("notci.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("ci.example", true),
        ("CI.example", true),
        ("localhost", true),
        ("[::1]", true),
    ] {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            let got = ask(&service, Method::GET, "/api/v1/me", &[cookie, ("host", &host)]).await;
            let origin = format!("http://{host}");
            let post = ask(&service, Method::POST, "/api/v1/tokens", &[cookie, ("host", &host), ("origin", &origin)]).await;
            if known {
                assert_eq!((got.0.as_u16(), post.0.as_u16()), (200, 201), "{host}: {} {}", got.1, post.1);
            } else {
                refused(&got, "host_not_allowed");
                refused(&post, "host_not_allowed");
            }
        }
    }
    // A token is no browser's, and may be used under any name that leads here.
    let token = service.request(Method::GET, "/api/v1/me").header("host", "build.internal");
    assert_eq!(send(token).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_another_origin_is_refused_on_every_route() {
    let service = quiet(Backend::Sqlite).await;
    with_password(&service, "ada", "user").await;
    let cookie = log_in(&service, "ada").await;
    let (own, bearer) = (service.url(""), format!("Bearer {}", service.token));
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    for rule in RULES.iter().filter(|rule| rule.method == "GET" && rule.need != Need::Nothing) {
        let path = rule.path.replace("{id}", &uuid::Uuid::now_v7().to_string()).replace("{name}", "x");
        for origin in ["http://evil.example", "null"] {
            for shown in [("cookie", cookie.as_str()), ("authorization", bearer.as_str())] {
                let headers = [&upgrade[..], &[shown, ("origin", origin)]].concat();
                refused(&ask(&service, Method::GET, &path, &headers).await, "foreign_origin");
            }
        }
    }
    let headers = [&upgrade[..], &[("cookie", cookie.as_str())]].concat();
    refused(&ask(&service, Method::GET, "/api/v1/me", &headers).await, "foreign_origin");
    let headers = [&upgrade[..], &[("cookie", cookie.as_str()), ("origin", &own)]].concat();
    assert_eq!(ask(&service, Method::GET, "/api/v1/me", &headers).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_keep_pages_in() {
    let service = quiet(Backend::Sqlite).await;
    for path in ["/healthz", "/api/v1/me", "/api/docs/", "/nowhere", "/api/openapi.json", "/api/v1/builds"] {
        for request in [service.request(Method::GET, path), nobody(&service, Method::GET, path)] {
            let answer = request.send().await.expect("an answer");
            let header =
                |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let csp = header("content-security-policy");
            assert!(csp.contains("default-src 'self'") && csp.contains("frame-ancestors 'none'"), "{path}: {csp}");
            assert!(!csp.contains("unsafe"), "{path}: {csp}");
            assert_eq!(
                (header("x-content-type-options"), header("x-frame-options")),
                ("nosniff".into(), "DENY".into()),
                "{path}"
            );
            assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
            assert_eq!(header("strict-transport-security"), "", "only behind TLS");
        }
    }
}
