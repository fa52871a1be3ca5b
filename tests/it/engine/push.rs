//! What the engine pushes, and what registries say to it.

use dockwright::domain::{BuilderKind, Credentials, Digest, ErrorKind, ImageRef};
use dockwright::engine::{Builder, EngineError, Images, Pass};
use secrecy::SecretString;
use tokio::sync::mpsc;

use super::{build_dockerfile, context, docker, request};
use crate::support::{private_registry, registry, unique};

/// A small image under this name, and its id.
async fn tagged(image: &ImageRef) -> Digest {
    let done = build_dockerfile(BuilderKind::Buildkit, &format!("FROM busybox\nRUN echo {} > /x\n", unique("push"))).await;
    let id = done.image().id.clone();
    docker().tag(&id, &image.to_string()).await.expect("tags");
    done.clean_up().await;
    id
}

async fn push(image: &ImageRef, credentials: Option<&Pass>) -> (Result<Digest, EngineError>, Vec<String>) {
    let (lines, mut told) = mpsc::channel::<dockwright::domain::LogLine>(16);
    let docker = docker();
    let read = async {
        let mut all = Vec::new();
        while let Some(line) = told.recv().await {
            all.push(line.text);
        }
        all
    };
    tokio::join!(docker.push(image, credentials, lines), read)
}

fn image(host: &str) -> ImageRef {
    format!("{host}/{}:1", unique("engine/push")).parse().expect("an image")
}

#[tokio::test]
async fn a_push_answers_the_digest_that_the_tag_then_names() {
    let image = image(&registry());
    tagged(&image).await;
    assert_eq!(docker().remote_digest(&image, None).await.expect("answers"), None);
    let (digest, lines) = push(&image, None).await;
    let digest = digest.expect("pushes");
    assert!(lines.iter().any(|line| line.contains("Pushed") || line.contains("Mounted")), "{lines:#?}");
    assert_eq!(docker().remote_digest(&image, None).await.expect("answers"), Some(digest));
    docker().untag(&image.to_string()).await.expect("goes");
}

#[tokio::test]
async fn a_registry_with_a_password_takes_the_right_one_only() {
    let (host, user, password) = private_registry();
    let image = image(&host);
    tagged(&image).await;
    let with = |password: &str| Pass::Password(Credentials::new(&host, &user, SecretString::from(password.to_owned())));
    let (right, wrong) = (with(&password), with("wrong"));
    let foreign = Pass::Password(Credentials::new("other.example", &user, SecretString::from(password.clone())));
    for (what, credentials) in [("none", None), ("wrong", Some(&wrong)), ("of another host", Some(&foreign))] {
        let error = push(&image, credentials).await.0.expect_err(what);
        assert_eq!((error.code, error.kind, error.transient), ("registry_auth", ErrorKind::Auth, false), "{what}: {error:?}");
        let error = docker().remote_digest(&image, credentials).await.expect_err(what);
        assert_eq!((error.code, error.kind), ("registry_auth", ErrorKind::Auth), "{what}: {error:?}");
    }
    let digest = push(&image, Some(&right)).await.0.expect("pushes");
    assert_eq!(docker().remote_digest(&image, Some(&right)).await.expect("answers"), Some(digest));
    docker().untag(&image.to_string()).await.expect("goes");

    // And as a base image, with either builder.
    for builder in [BuilderKind::Buildkit, BuilderKind::Classic] {
        let file = format!("FROM {image}\nRUN echo {}\n", unique("based"));
        let refused = build_dockerfile(builder, &file).await;
        assert_eq!(refused.error().code, "registry_auth", "{builder:?}: {:?}", refused.error());
        let mut asked = request(builder);
        let tag = dockwright::domain::local_tag(asked.id);
        asked.credentials = vec![Credentials::new(&host, &user, SecretString::from(password.clone()))];
        let (lines, mut told) = mpsc::channel(16);
        let docker = docker();
        let (built, ()) = tokio::join!(docker.build(asked, context(&[("Dockerfile", &file)]), lines), async {
            while told.recv().await.is_some() {}
        });
        built.unwrap_or_else(|e| panic!("{builder:?}: {e:?}"));
        docker.untag(&tag).await.expect("goes");
    }
    docker().untag(&image.to_string()).await.expect("goes");
}

#[tokio::test]
async fn failures_of_a_push_have_their_codes() {
    let away = image("127.0.0.1:1");
    tagged(&away).await;
    let error = push(&away, None).await.0.expect_err("nobody is there");
    assert_eq!((error.code, error.kind, error.transient), ("registry_unreachable", ErrorKind::Registry, true), "{error:?}");
    docker().untag(&away.to_string()).await.expect("goes");

    let missing = image(&registry());
    let error = push(&missing, None).await.0.expect_err("there is no such image");
    assert_eq!((error.code, error.kind), ("image_missing", ErrorKind::Engine), "{error:?}");
}
