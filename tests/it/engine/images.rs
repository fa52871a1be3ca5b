//! Tags: ours go, everybody else's stay.

use dockwright::domain::{BuilderKind, local_tag};
use dockwright::engine::{Images, Untagged};

use super::{build_dockerfile, cli, docker};
use crate::support::unique;

async fn built() -> (super::Outcome, String) {
    let done = build_dockerfile(BuilderKind::Buildkit, &format!("FROM busybox\nRUN echo {} > /x\n", unique("img"))).await;
    let tag = local_tag(done.id);
    done.image();
    (done, tag)
}

#[tokio::test]
async fn the_last_tag_takes_the_image_with_it() {
    let (done, tag) = built().await;
    assert!(docker().local_builds().await.expect("lists").contains(&done.id));
    assert_eq!(docker().untag(&tag).await.expect("goes"), Untagged::Removed);
    assert_eq!(docker().image_id(done.image().id.as_str()).await.expect("answers"), None);
    assert_eq!(docker().untag(&tag).await.expect("is no error"), Untagged::Absent);
    assert!(!docker().local_builds().await.expect("lists").contains(&done.id));
}

#[tokio::test]
async fn another_tag_keeps_the_image() {
    let (done, tag) = built().await;
    let other = format!("{}/{}:1", "other.example:5000", unique("other"));
    docker().tag(&done.image().id, &other).await.expect("tags");
    assert_eq!(docker().untag(&tag).await.expect("goes"), Untagged::Kept);
    assert_eq!(docker().image_id(&other).await.expect("answers").as_ref(), Some(&done.image().id));
    assert_eq!(docker().image_id(&tag).await.expect("answers"), None);
    assert_eq!(docker().untag(&other).await.expect("goes"), Untagged::Removed);
}

#[tokio::test]
async fn a_bare_from_is_the_base_image_and_leaves_it_alone() {
    let base = docker().image_id("busybox:latest").await.expect("answers").expect("the base image is there");
    for builder in [BuilderKind::Buildkit, BuilderKind::Classic] {
        let done = build_dockerfile(builder, "FROM busybox:latest\n").await;
        let left = docker().untag(&local_tag(done.id)).await.expect("goes");
        // BuildKit may write an imported base's configuration anew, which gives it another id; the classic builder does not.
        if builder == BuilderKind::Classic {
            assert_eq!((&done.image().id, left), (&base, Untagged::Kept));
        }
        assert_eq!(docker().image_id("busybox:latest").await.expect("answers").as_ref(), Some(&base));
    }
}

#[tokio::test]
async fn a_container_keeps_its_image_when_the_tag_goes() {
    for start in [false, true] {
        let (done, tag) = built().await;
        let id = done.image().id.to_string();
        let name = unique("holder");
        cli(&["create", "--name", &name, &tag, "sleep", "1000"]);
        if start {
            cli(&["start", &name]);
        }
        assert_eq!(docker().untag(&tag).await.expect("goes"), Untagged::Kept, "running: {start}");
        assert_eq!(docker().image_id(&tag).await.expect("answers"), None);
        assert_eq!(docker().image_id(&id).await.expect("answers"), Some(done.image().id.clone()), "running: {start}");
        assert_eq!(cli(&["inspect", "-f", "{{.Image}}", &name]), id);
        cli(&["rm", "-f", &name]);
        cli(&["rmi", &id]);
    }
}

#[tokio::test]
async fn nothing_is_known_of_an_image_that_is_not_there() {
    assert_eq!(docker().image_id(&format!("{}:1", unique("none"))).await.expect("answers"), None);
    let missing = format!("sha256:{}", "0".repeat(64)).parse().expect("a digest");
    let error = docker().tag(&missing, &format!("{}:1", unique("none"))).await.expect_err("cannot");
    assert_eq!(error.code, "image_missing", "{error:?}");
}
