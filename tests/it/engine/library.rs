//! Pulls, and the images there are.

use std::io::Write;
use std::process::{Command, Stdio};

use dockwright::domain::{Credentials, ErrorKind, ImageRef};
use dockwright::engine::containers::{Library, PullProgress};
use dockwright::engine::{EngineError, Images, Pass};
use secrecy::SecretString;
use tokio::sync::mpsc;

use super::docker;
use crate::support::gate::{Behind, Gate};
use crate::support::{private_registry, registry, unique};

/// Imports an image of one small file under this name, whose layer is in no cache.
fn import(image: &ImageRef) {
    let mut tar = tar::Builder::new(Vec::new());
    let text = unique("content");
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", text.as_bytes()).expect("memory takes it");
    let mut command = Command::new("docker")
        .args(["import", "-", &image.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("docker's command runs");
    let tar = tar.into_inner().expect("memory takes it");
    command.stdin.take().expect("piped").write_all(&tar).expect("writes");
    assert!(command.wait().expect("ends").success());
}

/// An image at the registry, and nowhere else: its name there, and its digest.
async fn published(host: &str, credentials: Option<&Credentials>) -> (ImageRef, String) {
    let image: ImageRef = format!("{host}/{}:1", unique("engine/pull")).parse().expect("an image");
    import(&image);
    let (lines, mut told) = mpsc::channel(64);
    let docker = docker();
    let pass = credentials.cloned().map(Pass::Password);
    let (digest, ()) = tokio::join!(docker.push(&image, pass.as_ref(), lines), async { while told.recv().await.is_some() {} });
    docker.untag(&image.to_string()).await.expect("goes");
    (image, digest.expect("pushes").to_string())
}

async fn pull(reference: &str, credentials: Option<&Credentials>) -> (Result<(), EngineError>, Vec<PullProgress>) {
    let (progress, mut told) = mpsc::channel(16);
    let read = async {
        let mut all = Vec::new();
        while let Some(one) = told.recv().await {
            all.push(one);
        }
        all
    };
    let docker = docker();
    tokio::join!(docker.pull(reference, credentials, progress), read)
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let (image, digest) = published(&registry(), None).await;
    let by_digest = format!("{}@{digest}", image.repository());
    for reference in [image.to_string(), by_digest.clone()] {
        assert_eq!(docker().image(&reference).await.expect("answers"), None);
        let (done, progress) = pull(&reference, None).await;
        done.unwrap_or_else(|e| panic!("{reference}: {e:?}"));
        assert!(progress.iter().any(|one| one.layer.len() == 12 && one.status == "Pull complete"), "{progress:#?}");
        assert!(progress.iter().any(|one| one.layer.is_empty() && one.status.starts_with("Status: Downloaded")), "{progress:#?}");
        let found = docker().image(&reference).await.expect("answers").expect("is there");
        assert!(found.digests.contains(&by_digest), "{found:?}");
        assert!(found.size_bytes > 10 && found.created_at.as_millis() > 0, "{found:?}");
        assert_eq!(found.tags.contains(&image.to_string()), reference == image.to_string(), "{found:?}");
        assert_eq!(docker().image(found.id.as_str()).await.expect("answers").as_ref().map(|one| &one.id), Some(&found.id));
        let all = docker().images().await.expect("lists");
        let listed = all.iter().find(|one| one.id == found.id).expect("is in it");
        assert_eq!((&listed.tags, &listed.digests, listed.size_bytes), (&found.tags, &found.digests, found.size_bytes));
        assert!(all.iter().flat_map(|one| one.tags.iter().chain(&one.digests)).all(|name| !name.contains("<none>")));
        super::cli(&["rmi", &reference]);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_nothing_up() {
    let (image, _) = published(&registry(), None).await;
    let (progress, _kept) = mpsc::channel(1);
    docker().pull(&image.to_string(), None, progress).await.expect("pulls");
    let (progress, _) = mpsc::channel(1);
    docker().pull(&image.to_string(), None, progress).await.expect("pulls, though nobody reads");
    docker().untag(&image.to_string()).await.expect("goes");
}

#[tokio::test]
async fn what_cannot_be_pulled_has_its_code() {
    let nowhere = format!("{}/{}:1", registry(), unique("none"));
    let digest = format!("{}/{}@sha256:{}", registry(), unique("none"), "0".repeat(64));
    for (reference, code, kind, transient) in [
        (nowhere.as_str(), "image_not_found", ErrorKind::User, false),
        (&digest, "image_not_found", ErrorKind::User, false),
        ("127.0.0.1:1/a:1", "registry_unreachable", ErrorKind::Registry, true),
        ("A B", "image_invalid", ErrorKind::User, false),
        ("dockwright.local/build:x", "image_invalid", ErrorKind::User, false),
    ] {
        let error = pull(reference, None).await.0.expect_err(reference);
        assert_eq!((error.code, error.kind, error.transient), (code, kind, transient), "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_with_a_password_gives_to_the_right_one_only() {
    let (host, user, password) = private_registry();
    let with = |password: &str| Credentials::new(&host, &user, SecretString::from(password.to_owned()));
    let (right, wrong) = (with(&password), with("wrong"));
    let foreign = Credentials::new("other.example", &user, SecretString::from(password.clone()));
    let (image, _) = published(&host, Some(&right)).await;
    for credentials in [None, Some(&wrong), Some(&foreign)] {
        let error = pull(&image.to_string(), credentials).await.0.expect_err("is refused");
        assert_eq!((error.code, error.kind), ("registry_auth", ErrorKind::Auth), "{error:?}");
    }
    pull(&image.to_string(), Some(&right)).await.0.expect("pulls");
    docker().untag(&image.to_string()).await.expect("goes");
}

/// A registry that answers everything with 429.
async fn limited() -> std::net::SocketAddr {
    const BODY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let answer = || async { (axum::http::StatusCode::TOO_MANY_REQUESTS, [("content-type", "application/json")], BODY) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    address
}

#[tokio::test]
async fn a_limit_of_the_registry_is_told_in_its_words() {
    let error = pull(&format!("{}/a:1", limited().await), None).await.0.expect_err("is refused");
    assert_eq!((error.code, error.transient), ("rate_limited", true), "{error:?}");
    assert!(error.message.contains("You have reached your pull rate limit."), "{error:?}");
}

#[tokio::test]
async fn dropping_a_pull_stops_it() {
    let (image, _) = published(&registry(), None).await;
    let gate = Gate::before(Behind::Tcp(registry()), "/blobs/", 0).await;
    let held = format!("{}/{}:1", gate.address, image.path());
    let (progress, _told) = mpsc::channel(1);
    let docker = docker();
    let mut pulling = Box::pin(docker.pull(&held, None, progress));
    tokio::select! {
        done = &mut pulling => panic!("{done:?}"),
        () = gate.reached() => {}
    }
    drop(pulling);
    gate.open();
    // One that went on would be done in a moment.
    let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
    for _ in 0..20 {
        look.tick().await;
        assert_eq!(docker.image(&held).await.expect("answers"), None);
    }
}
