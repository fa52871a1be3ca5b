//! `reuse=true`: the very same build is joined, or answered with its result.

use reqwest::multipart::Form;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::on_both_stores;
use crate::accounts::people::quiet;
use crate::support::service::{self, Backend, Running, context, docker, dockerfile, id, tar};
use crate::support::{registry, unique};

on_both_stores!(the_same_that_is_under_way_is_joined_by_its_owner_alone, what_is_done_and_still_there_is_answered);

async fn sent(answer: Response) -> (StatusCode, Option<&'static str>, Value) {
    let says = ["joined", "reused"].into_iter().find(|says| answer.headers().contains_key(format!("dockwright-{says}")));
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    (status, says, serde_json::from_str(&text).expect("JSON"))
}

async fn post(service: &Running, form: Form) -> (StatusCode, Option<&'static str>, Value) {
    sent(service.post(form).await).await
}

async fn the_same_that_is_under_way_is_joined_by_its_owner_alone(backend: Backend) {
    let service = quiet(backend).await;
    let image = format!("127.0.0.1:1/{}:latest", unique("same"));
    let files = || tar(&[("Dockerfile", "FROM busybox\nCOPY a /a\n"), ("a", &image)]);
    let form = || context(files()).text("image", image.clone()).text("build_arg", "A=1");
    let reuse = |form: Form| form.text("reuse", "true");
    let first = service.submit(form()).await;
    let (status, says, joined) = post(&service, reuse(form()).text("priority", "3").text("timeout", "5m")).await;
    assert_eq!((status, says, &joined["id"]), (StatusCode::ACCEPTED, Some("joined"), &first["id"]), "{joined}");
    assert_eq!((&joined["joined"], &joined["state"]), (&true.into(), &"queued".into()));
    let kept = std::fs::read_dir(service.config.data_dir.join("contexts")).expect("a folder").count();
    assert_eq!(kept, 1, "its context is not kept twice");

    // Who does not ask gets a build, and so does whoever asks for anything else.
    let anew = service.submit(form()).await;
    assert!(anew["id"] != first["id"] && anew["joined"].is_null(), "{anew}");
    let (_, _, newest) = post(&service, reuse(form())).await;
    assert_eq!(newest["id"], anew["id"], "the younger of two that are the same");
    for other in [form().text("target", "0"), form().text("no_cache", "true"), form().text("image", format!("{image}-2"))] {
        let (status, says, build) = post(&service, reuse(other)).await;
        assert_eq!((status, says), (StatusCode::ACCEPTED, None), "{build}");
    }
    // One of these goes to the same tag and is younger: joining an older one would leave the tag to it.
    assert_eq!(post(&service, reuse(form())).await.1, None);
    let bob = service.user("bob").await;
    let request = service.request_as(&bob, reqwest::Method::POST, "/api/v1/builds").multipart(reuse(form()));
    let (status, says, build) = sent(request.send().await.expect("an answer")).await;
    assert_eq!((status, says, &build["owner"]), (StatusCode::ACCEPTED, None, &"bob".into()), "{build}");

    // Of many at once one makes the build, and all are told of it.
    let text = format!("FROM busybox\nLABEL a={image}\n");
    let at_once = (0..6).map(|_| post(&service, reuse(dockerfile(&text)).text("push", "false")));
    let answers = futures::future::join_all(at_once).await;
    assert_eq!(answers.iter().filter(|(_, says, _)| says.is_none()).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _, build)| status.is_success() && build["id"] == answers[0].2["id"]), "{answers:?}");
}

async fn what_is_done_and_still_there_is_answered(backend: Backend) {
    let service = service::start(backend).await;
    let name = unique("reuse");
    let image = format!("{}/{name}:latest", registry());
    // A base of its own, which can be moved.
    let base = format!("dockwright-test/{name}:base");
    docker(&["tag", "busybox", &base]);
    let form = || dockerfile(&format!("FROM {base}\nRUN echo {name} > /x\n")).text("reuse", "true");
    let pushed = || form().text("image", image.clone());
    let local = || form().text("push", "false");
    let published = service.ended(&post(&service, pushed()).await.2).await;
    assert_eq!(published["state"], "published", "{published}");
    let built = service.ended(&post(&service, local()).await.2).await;
    for (form, done) in [(pushed(), &published), (local(), &built)] {
        let (status, says, reused) = post(&service, form).await;
        assert_eq!((status, says, &reused["id"]), (StatusCode::OK, Some("reused"), &done["id"]), "{reused}");
        assert_eq!((&reused["reused"], &reused["state"]), (&true.into(), &done["state"]));
    }
    // What is not there any more is made again: a tag that names something else, an image that is gone.
    docker(&["tag", "busybox", &image]);
    docker(&["push", &image]);
    docker(&["rmi", &image]);
    docker(&["rmi", &format!("dockwright.local/build:{}", id(&built))]);
    let mut anew = Vec::new();
    for form in [pushed(), local()] {
        let (status, says, build) = post(&service, form).await;
        assert_eq!((status, says), (StatusCode::ACCEPTED, None), "{build}");
        anew.push(service.ended(&build).await);
    }
    assert_eq!(post(&service, pushed()).await.1, Some("reused"));
    assert_eq!(post(&service, local().text("no_cache", "true")).await.1, None, "who wants it built anew gets that");
    // A base that is another today makes another image.
    docker(&["tag", id_of_other_base(&anew[0]), &base]);
    let (status, says, build) = post(&service, pushed()).await;
    assert_eq!((status, says), (StatusCode::ACCEPTED, None), "{build}");
    assert_eq!(service.ended(&build).await["state"], "published");
    docker(&["rmi", &base]);
}

/// Any other image that the engine has.
fn id_of_other_base(build: &Value) -> &str {
    build["image_id"].as_str().expect("an id")
}
