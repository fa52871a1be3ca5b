//! What registries are asked directly, and what they never get.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use dockwright::domain::{Credentials, ErrorKind, ImageRef};
use dockwright::egress::Egress;
use dockwright::registry::{RegistryClient, RemoteDelete};
use secrecy::SecretString;

use super::proxy::{Act, Proxy};
use super::{TIMEOUTS, built, client, image, login, publish};
use crate::engine::build_dockerfile;
use crate::support::{private_registry, registry, unique};

#[tokio::test]
async fn asking_leaves_nothing_at_the_registry() {
    let to = image(&registry());
    client().may_push(&to, None).await.expect("an open registry takes it");
    assert_eq!(client().manifest(&to, None).await.expect("answers"), None);
    let (host, _, password) = private_registry();
    let private = image(&host);
    client().may_push(&private, Some(&login(&password))).await.expect("the right password");
    assert_eq!(client().may_push(&private, Some(&login("wrong"))).await.expect_err("the wrong one").error.code, "registry_auth");
}

/// Answers everything with this challenge, and keeps what it was sent.
async fn challenger(challenge: &'static str) -> (Proxy, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let proxy = Proxy::before(&registry(), move |method, path| {
        log.lock().expect("no panic").push(format!("{method} {path}"));
        let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]);
        Act::Answer(StatusCode::UNAUTHORIZED, headers, r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#.into())
    })
    .await;
    (proxy, seen)
}

#[tokio::test]
async fn a_foreign_realm_gets_no_credentials() {
    let (proxy, _) = challenger(r#"Bearer realm="https://harvest.invalid/token",service="x""#).await;
    let to = image(&proxy.host);
    let own = Credentials::new(&proxy.host, "u", SecretString::from("canary"));
    let error = client().may_push(&to, Some(&own)).await.expect_err("is refused").error;
    assert_eq!((error.code, error.kind, error.transient), ("foreign_realm", ErrorKind::Auth, false), "{error:?}");
    assert!(error.message.contains("harvest.invalid") && !error.message.contains("canary"), "{error:?}");
}

#[tokio::test]
async fn credentials_of_another_host_are_not_sent() {
    let (proxy, seen) = challenger("Basic realm=\"x\"").await;
    let other = Credentials::new("other.example", "u", SecretString::from("canary"));
    let error = client().may_push(&image(&proxy.host), Some(&other)).await.expect_err("is refused").error;
    assert_eq!(error.code, "registry_auth");
    assert_eq!(seen.lock().expect("no panic").len(), 1, "there was nothing to ask again with");
}

#[tokio::test]
async fn registries_are_only_where_the_operator_says() {
    let (proxy, seen) = challenger("Basic realm=\"x\"").await;
    let (_, port) = proxy.host.split_once(':').expect("a port");
    let by_name = image(&format!("localhost:{port}"));
    let refused = async |egress: Egress, to: &ImageRef| {
        RegistryClient::new(TIMEOUTS, egress).may_push(to, None).await.expect_err("refused").error
    };
    let elsewhere = || Egress::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    for to in [&image(&proxy.host), &by_name] {
        let error = refused(elsewhere(), to).await;
        assert_eq!((error.code, error.kind, error.transient), ("registry_host_refused", ErrorKind::User, false), "{error:?}");
    }
    assert!(seen.lock().expect("no panic").is_empty(), "nothing was asked");
    let named = Egress::new(vec!["localhost".parse().expect("a host")]);
    assert_eq!(refused(named, &by_name).await.code, "registry_auth", "it was asked");
    assert_eq!(refused(Egress::near(), &image("169.254.169.254")).await.code, "registry_host_refused");
    // A token server is held to it as well.
    let (proxy, _) = challenger(r#"Bearer realm="http://169.254.169.254/token",service="x""#).await;
    assert_eq!(refused(Egress::near(), &image(&proxy.host)).await.code, "registry_host_refused");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let hits = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&hits);
    let elsewhere = Proxy::before(&registry(), move |_, _| {
        *counted.lock().expect("no panic") += 1;
        Act::Pass
    })
    .await;
    let target = HeaderValue::from_str(&format!("http://{}/v2/x/manifests/1", elsewhere.host)).expect("a header");
    let proxy = Proxy::before(&registry(), move |_, _| {
        Act::Answer(StatusCode::TEMPORARY_REDIRECT, HeaderMap::from_iter([(header::LOCATION, target.clone())]), String::new())
    })
    .await;
    let error = client().manifest(&image(&proxy.host), None).await.expect_err("is no answer").error;
    assert_eq!((error.code, error.kind), ("registry_error", ErrorKind::Registry), "{error:?}");
    assert_eq!(*hits.lock().expect("no panic"), 0);
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says_if_that_is_its_own() {
    let proxy = Proxy::before(&registry(), |_, path| match path {
        "/token" => Act::Answer(StatusCode::OK, HeaderMap::new(), r#"{"token":"abc"}"#.into()),
        _ => Act::Pass,
    })
    .await;
    let realm = format!(r#"Bearer realm="http://{}/token",service="x""#, proxy.host);
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let front = Proxy::before(&registry(), move |method, path| {
        let mut asked = count.lock().expect("no panic");
        *asked += 1;
        if *asked > 1 || *method != Method::POST || !path.ends_with("/blobs/uploads/") {
            return Act::Pass;
        }
        let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_str(&realm).expect("a header"))]);
        Act::Answer(StatusCode::UNAUTHORIZED, headers, String::new())
    })
    .await;
    let own = Credentials::new(&front.host, "u", SecretString::from("pw"));
    client().may_push(&image(&front.host), Some(&own)).await.expect("with the token it may");
    assert!(*asked.lock().expect("no panic") >= 3, "asked, asked again, and taken back");
}

#[tokio::test]
async fn a_tag_is_removed_only_while_it_names_our_digest() {
    let (one, two) = (built().await, built().await);
    let to = image(&registry());
    let digest = publish(&one.image().id, &to, None).await.0.expect("publishes");
    let moved = publish(&two.image().id, &to, None).await.0.expect("publishes");
    assert_eq!(client().delete(&to, &digest, None).await.expect("answers"), RemoteDelete::Changed);
    assert_eq!(client().delete(&image(&registry()), &digest, None).await.expect("answers"), RemoteDelete::Absent);
    let outcome = client().delete(&to, &moved, None).await.expect("answers");
    let left = client().manifest(&to, None).await.expect("answers").is_some();
    assert!(
        matches!((outcome, left), (RemoteDelete::Removed, false) | (RemoteDelete::Unsupported, true)),
        "{outcome:?}, left: {left}"
    );
    for done in [one, two] {
        done.clean_up().await;
    }
}

#[tokio::test]
async fn a_manifest_that_another_tag_names_is_not_removed() {
    let done =
        build_dockerfile(dockwright::domain::BuilderKind::Buildkit, &format!("FROM busybox\nRUN echo {} >/x\n", unique("d")))
            .await;
    let to = image(&registry());
    let also: ImageRef = format!("{}:also", to.repository()).parse().expect("an image");
    let digest = publish(&done.image().id, &to, None).await.0.expect("publishes");
    publish(&done.image().id, &also, None).await.0.expect("publishes");
    let outcome = client().delete(&to, &digest, None).await.expect("answers");
    assert!(matches!(outcome, RemoteDelete::Shared | RemoteDelete::Removed), "{outcome:?}");
    assert!(client().manifest(&also, None).await.expect("answers").is_some(), "the other tag is left");
    done.clean_up().await;
}
