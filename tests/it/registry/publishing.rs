//! What publishing does to the registry, and what it leaves of the engine's names.

use dockwright::domain::{Credentials, ErrorKind, local_tag};
use dockwright::engine::Images;
use dockwright::engine::Pass;
use secrecy::SecretString;

use super::{built, client, image, local, login, publish};
use crate::engine::{cli, docker};
use crate::support::{private_registry, registry, unique};

#[tokio::test]
async fn the_tag_names_the_digest_that_was_answered_and_no_local_name_is_left() {
    let done = built().await;
    let id = &done.image().id;
    let to = image(&registry());
    let (digest, lines) = publish(id, &to, None).await;
    let digest = digest.expect("publishes");
    let found = client().manifest(&to, None).await.expect("answers").expect("is there");
    assert_eq!((found.digest, found.config.as_ref()), (digest, Some(id)));
    assert!(lines.iter().any(|line| line.contains("digest: sha256:")), "{lines:#?}");
    assert_eq!(local(&to).await, None);
    let tag = local_tag(done.id);
    let tags = cli(&["image", "inspect", "-f", "{{join .RepoTags \" \"}}", id.as_str()]);
    assert_eq!(tags, tag, "only the build's own name is left");
    done.clean_up().await;
    assert_eq!(cli(&["run", "--rm", &to.to_string(), "ls", "/x"]), "/x", "it can be pulled and run");
    cli(&["rmi", &to.to_string()]);
}

#[tokio::test]
async fn credentials_right_wrong_and_none() {
    let done = built().await;
    let id = &done.image().id;
    let (host, user, password) = private_registry();
    let to = image(&host);
    let foreign = Credentials::new("other.example", user, SecretString::from(password.clone()));
    for (credentials, words) in
        [(None, "asks for credentials"), (Some(login("wrong")), "does not accept"), (Some(foreign), "asks for credentials")]
    {
        let error = publish(id, &to, credentials.as_ref()).await.0.expect_err("is refused");
        assert_eq!((error.code, error.kind, error.transient), ("registry_auth", ErrorKind::Auth, false), "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
        assert!(error.message.contains("authentication required"), "the registry's own words are told: {error:?}");
        assert!(!error.message.contains(&password));
        assert_eq!(local(&to).await, None, "who may not push never gets the name");
    }
    let right = login(&password);
    let digest = publish(id, &to, Some(&right)).await.0.expect("publishes");
    assert_eq!(docker().remote_digest(&to, Some(&Pass::Password(right))).await.expect("answers"), Some(digest));
    done.clean_up().await;
}

#[tokio::test]
async fn a_local_name_means_afterwards_what_it_meant_before() {
    let (theirs, ours) = (built().await, built().await);
    let to = image(&registry());
    docker().tag(&theirs.image().id, &to.to_string()).await.expect("tags");
    docker().untag(&local_tag(theirs.id)).await.expect("goes");
    publish(&ours.image().id, &to, None).await.0.expect("publishes");
    assert_eq!(local(&to).await.as_ref(), Some(&theirs.image().id));
    // Also when it names the very image that is published.
    publish(&theirs.image().id, &to, None).await.0.expect("publishes");
    assert_eq!(local(&to).await.as_ref(), Some(&theirs.image().id));
    let ours_left = cli(&["images", "--format", "{{.Repository}} {{.ID}}", "--no-trunc"]);
    let marks =
        ours_left.lines().filter(|line| line.starts_with("dockwright.local/") && line.contains(theirs.image().id.as_str()));
    assert_eq!(marks.count(), 0, "{ours_left}");
    docker().untag(&to.to_string()).await.expect("goes");
    ours.clean_up().await;
}

#[tokio::test]
async fn forty_tags_of_one_repository_at_once() {
    let done = built().await;
    let repository = format!("{}/{}", registry(), unique("publish/many"));
    let pushes = (0..40).map(|n| {
        let (id, to) = (done.image().id.clone(), format!("{repository}:{n}").parse().expect("an image"));
        async move { publish(&id, &to, None).await.0 }
    });
    let digests = futures::future::join_all(pushes).await;
    for digest in &digests {
        assert_eq!(digest.as_ref().expect("publishes"), digests[0].as_ref().expect("publishes"));
    }
    done.clean_up().await;
}
