//! The very same build again: its work is joined, and with `reuse=true` it is answered with that build, or with its result.

use dockwright::domain::{BuildRecord, Quota, Scope, Timestamp};
use dockwright::store::NewBuild;
use reqwest::multipart::Form;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::on_both_stores;
use crate::accounts::people::quiet;
use crate::support::gate::Gate;
use crate::support::service::{self, Backend, Running, context, docker, dockerfile, has_local_tag, id, tag_digest, tar};
use crate::support::{registry, unique};

on_both_stores!(
    the_same_that_is_under_way_is_joined_by_its_owner_alone,
    what_runs_on_other_bases_or_has_a_younger_rival_is_not_joined,
    what_is_done_and_still_there_is_answered,
    the_work_is_done_once_for_two_that_run,
    who_waits_for_another_builds_when_that_one_ends_without_an_image,
);

/// Whether the document tells of the headers that such an answer has.
async fn assert_told(service: &Running, answer: &Response) {
    let api = service.get("/api/openapi.json").await;
    let status = answer.status().as_u16().to_string();
    let told = api["paths"]["/api/v1/builds"]["post"]["responses"][&status]["headers"].as_object().expect("headers");
    let told: Vec<String> = told.keys().map(|name| name.to_ascii_lowercase()).collect();
    for name in answer
        .headers()
        .keys()
        .filter(|name| ["location", "etag"].contains(&name.as_str()) || name.as_str().starts_with("dockwright-"))
    {
        assert!(told.iter().any(|one| one == name.as_str()), "{status} has {name}, and the document tells only of {told:?}");
    }
}

async fn sent(answer: Response) -> (StatusCode, Option<&'static str>, Value) {
    let says = ["joined", "reused"].into_iter().find(|says| answer.headers().contains_key(format!("dockwright-{says}")));
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    (status, says, serde_json::from_str(&text).expect("JSON"))
}

async fn post(service: &Running, form: Form) -> (StatusCode, Option<&'static str>, Value) {
    let answer = service.post(form).await;
    assert_told(service, &answer).await;
    sent(answer).await
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
    assert_eq!(joined["joins"].as_array().map(Vec::len), Some(1), "the build itself says so: {joined}");
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
    let cold = || form().text("image", format!("{image}-3")).text("no_cache", "true");
    let anew = [post(&service, reuse(cold())).await, post(&service, reuse(cold())).await];
    assert!(
        anew.iter().all(|(_, says, _)| says.is_none()),
        "who wants it built anew does not join one that began before: {anew:?}"
    );
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

async fn what_runs_on_other_bases_or_has_a_younger_rival_is_not_joined(backend: Backend) {
    let gate = Gate::engine("held-at-the-gate", 0).await;
    let service = service::start_with(backend, |s| s.engine = Some(format!("tcp://{}", gate.address))).await;
    let name = unique("bases");
    let (base, image) = (format!("dockwright-test/{name}:base"), format!("{}/{name}:latest", registry()));
    let other = service.submit(dockerfile(&format!("FROM busybox\nLABEL a={name}\n")).text("push", "false")).await;
    let other = service.ended(&other).await;
    docker(&["tag", "busybox", &base]);
    let form = || {
        let form = dockerfile(&format!("FROM {base}\nLABEL a=b\n")).text("label", "speed=held-at-the-gate");
        form.text("image", image.clone()).text("reuse", "true")
    };
    let running = post(&service, form()).await.2;
    gate.reached().await;
    assert_eq!(post(&service, form()).await.1, Some("joined"));
    // What runs has begun with what the base was then.
    docker(&["tag", &format!("dockwright.local/build:{}", id(&other)), &base]);
    let (status, says, anew) = post(&service, form()).await;
    assert_eq!((status, says), (StatusCode::ACCEPTED, None), "{anew}");
    assert_ne!(anew["id"], running["id"]);
    // Another for the same tag, whose id was made before, is accepted after it.
    let stored = service.store.get(&Scope::All, id(&running).parse().expect("an id")).await.expect("read").expect("there");
    let mut rival = BuildRecord::new(
        stored.record.id,
        stored.record.owner.clone(),
        stored.record.spec.clone(),
        stored.record.context.clone(),
        None,
        Timestamp::from_millis(0),
    );
    rival.id = "01900000-0000-7000-8000-000000000000".parse().expect("an id");
    let new = NewBuild { record: rival, dockerfile: b"FROM busybox\n".to_vec(), sealed: None, quota: Quota::default() };
    service.store.submit(&new).await.expect("accepted");
    assert_eq!(post(&service, form()).await.1, None, "the rival would have the tag in the end");
    gate.open();
    service.idle().await;
    docker(&["rmi", &base]);
}

/// Two of the very same: the first is held at the engine's door, the second has joined it.
async fn two_of_the_same(backend: Backend, gate: &Gate, image: &str) -> (Running, [Value; 2]) {
    let service = service::start_with(backend, |s| {
        s.engine = Some(format!("tcp://{}", gate.address));
        s.workers = Some(3);
    })
    .await;
    let text = format!("FROM busybox\nRUN echo {image} > /x\n");
    let form = || dockerfile(&text).text("label", "speed=held-at-the-gate").text("image", image.to_owned());
    let first = service.submit(form()).await;
    gate.reached().await;
    let second = service.submit(form()).await;
    assert_ne!(first["id"], second["id"], "each has an id of its own");
    let joined = service.until(&second, |now| !now["joined_to"].is_null()).await;
    assert_eq!((&joined["joined_to"], &joined["state"]), (&first["id"], &"building".into()), "{joined}");
    service.logged(&second, "waiting for its image").await;
    // Who is not the same does not wait for it.
    let other = service.submit(dockerfile(&format!("FROM busybox\nLABEL a={image}\n")).text("push", "false")).await;
    assert_eq!(service.ended(&other).await["state"], "built");
    (service, [first, second])
}

/// How many builds the engine was asked for under the gate's label.
fn asked(gate: &Gate) -> usize {
    gate.requests("POST ").iter().filter(|request| request.contains("held-at-the-gate")).count()
}

async fn the_work_is_done_once_for_two_that_run(backend: Backend) {
    let gate = Gate::engine("held-at-the-gate", 0).await;
    let image = format!("{}/{}:latest", registry(), unique("twins"));
    let (service, [first, second]) = two_of_the_same(backend, &gate, &image).await;
    gate.open();
    let first = service.ended(&first).await;
    // The younger one needs nothing of the older one any more once it has its image under its own name.
    let second = service.ended(&second).await;
    for ended in [&first, &second] {
        assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(ended).await);
    }
    assert_eq!(asked(&gate), 1, "the engine built once");
    for part in ["image_id", "size_bytes", "layers", "builder"] {
        assert_eq!(first[part], second[part], "{part}");
    }
    assert_eq!(first["destinations"][0]["digest"], second["destinations"][0]["digest"]);
    assert_eq!((&first["joined_to"], &second["joined_to"]), (&Value::Null, &first["id"]));
    assert_eq!(service.delete(&first).await.status(), 200);
    assert!(has_local_tag(&second), "each has the image under its own name");
    assert_eq!(service.delete(&second).await.json::<Value>().await.expect("JSON")["image"], "removed");
    // What begins when nothing of the same runs is built.
    let alone = service.submit(dockerfile("FROM busybox\nLABEL a=b\n").text("push", "false")).await;
    assert_eq!(service.ended(&alone).await["joined_to"], Value::Null);
}

async fn who_waits_for_another_builds_when_that_one_ends_without_an_image(backend: Backend) {
    let gate = Gate::engine("held-at-the-gate", 0).await;
    let image = format!("{}/{}:latest", registry(), unique("twins"));
    let (service, [first, second]) = two_of_the_same(backend, &gate, &image).await;
    service.cancel(&first).await;
    assert_eq!(service.ended(&first).await["state"], "cancelled", "a cancel ends one of them");
    gate.open();
    let ended = service.ended(&second).await;
    assert_eq!(
        (&ended["state"], &ended["joined_to"]),
        (&"published".into(), &Value::Null),
        "{ended}\n{}",
        service.log(&ended).await
    );
    assert_eq!(asked(&gate), 2);
    assert_eq!(ended["destinations"][0]["digest"].as_str(), tag_digest(&image, None).await.as_deref());
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
