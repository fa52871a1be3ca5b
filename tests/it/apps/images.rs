//! Images: an owner's own, and what is told when they cannot be had.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, docker, dockerfile, id, tag_digest};
use crate::support::{private_registry, published_image, registry, unique};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_told_in_the_registrys_words() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let image = format!("{}/{}:1", registry(), unique("missing"));
    let run = harbor.run(&ada, json!({"image": image})).await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["state"], &over["error"]["code"]), (&"failed".into(), &"image_not_found".into()), "{over}");
    assert!(word(&over["error"]["message"]).contains("manifest"), "{over}");
    assert!(harbor.run_log(&ada, &run).await.contains(word(&over["error"]["message"])));
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"image_not_found".into()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_shown_and_removed() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = published_image("shown");
    // Told as it goes.
    let asked = harbor.request_as(&ada, Method::POST, "/api/v1/images/pull").header("accept", "text/event-stream");
    let told = asked.json(&json!({"image": image})).send().await.expect("an answer").text().await.expect("text");
    assert!(told.contains("event: progress") && told.contains("Pull complete") && told.contains("event: done"), "{told}");
    let shown = harbor.read(&ada, &format!("/api/v1/images/{image}")).await;
    assert_eq!(
        (&shown["reference"], &shown["private"], &shown["used_by"]["containers"]),
        (&image.clone().into(), &false.into(), &json!([]))
    );
    assert!(shown["size_bytes"].as_u64() > Some(1000), "{shown}");
    assert_eq!(harbor.call(&bob, Method::GET, &format!("/api/v1/images/{image}"), Value::Null).await.0, StatusCode::NOT_FOUND);
    let run = harbor.run(&ada, json!({"image": image, "command": ["cat", "/made-of"], "network": "none"})).await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!(harbor.output(&ada, &run).await, format!("{image}\n"));
    let (status, told) = harbor.call(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"image_in_use".into()));
    assert!(word(&told["detail"]).contains(word(&over["container_name"])), "{told}");
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(&run)), Value::Null).await;
    // Under another name, and to the registry under that.
    let other = format!("{}/{}:2", registry(), unique("other"));
    harbor.done(&ada, Method::POST, "/api/v1/images/tag", json!({"image": image, "tag": other})).await;
    let pushed = harbor.done(&ada, Method::POST, "/api/v1/images/push", json!({"image": other})).await;
    assert_eq!(tag_digest(&other, None).await.as_deref(), Some(word(&pushed["digest"])));
    assert_eq!(tag_digest(&image, None).await, tag_digest(&other, None).await);
    let theirs = harbor.call(&bob, Method::POST, "/api/v1/images/push", json!({"image": other})).await;
    assert_eq!(theirs.0, StatusCode::NOT_FOUND, "{theirs:?}");
    for name in [&image, &other] {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{name}"), Value::Null).await;
        assert_eq!(docker(&["images", "-q", name]), "");
    }
    assert_eq!(harbor.read(&ada, "/api/v1/images").await["items"], json!([]));
}

/// An image at the registry with a password, and not on the engine, whose credentials this account keeps. Its name is in `/secret`.
async fn private_image(harbor: &Harbor, token: &str) -> String {
    let (host, user, password) = private_registry();
    let image = format!("{host}/{}:1", unique("private"));
    let file = format!("FROM busybox\nRUN echo {image} > /secret\n");
    let form = dockerfile(&file).text("image", image.clone()).text("username", user.clone()).text("password", password.clone());
    let build = harbor.submit(form).await;
    assert_eq!(harbor.ended(&build).await["state"], "published");
    harbor.delete(&build).await;
    let kept = json!({"server": host, "username": user, "password": password});
    harbor.done(token, Method::PUT, "/api/v1/registries/private", kept).await;
    image
}

/// What somebody's credentials brought here is in nobody else's build, with either builder.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_of_one_is_no_base_for_another() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = private_image(&harbor, &ada).await;
    let pulled = harbor.done(&ada, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
    assert_eq!((&pulled["private"], &pulled["reference"]), (&true.into(), &image.clone().into()));
    let from = format!("FROM {image}\nRUN cat /secret\n");
    let copied = format!("FROM busybox\nCOPY --from={image} /secret /mine\nRUN cat /mine\n");
    let mounted = format!("FROM busybox\nRUN --mount=from={image},target=/m cat /m/secret\n");
    let limited = |file: &str| dockerfile(file).text("memory", "256m");
    for form in [dockerfile(&from), dockerfile(&copied), dockerfile(&mounted), limited(&from), limited(&copied)] {
        let build = harbor.submit_as(&bob, form.text("push", "false")).await;
        let ended = harbor.ended(&build).await;
        assert_eq!((&ended["state"], &ended["error"]["kind"]), (&"failed".into(), &"auth".into()), "{ended}");
    }
    // The owner builds from it, with the same credentials.
    let build = harbor.submit_as(&ada, dockerfile(&from).text("push", "false").text("registry", "private")).await;
    let ended = harbor.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}");
    // What the classic builder pulls with them loses its name again, and BuildKit's cache asks for credentials.
    let form = limited(&from).text("push", "false").text("registry", "private");
    let classic = harbor.submit_as(&ada, form).await;
    let ended = harbor.ended(&classic).await;
    assert_eq!((&ended["state"], &ended["builder"]), (&"built".into(), &"classic".into()), "{ended}");
    crate::support::watch("the base has no name", || docker(&["images", "-q", &image]).is_empty()).await;
    for form in [dockerfile(&from), limited(&from)] {
        let build = harbor.submit_as(&bob, form.text("push", "false")).await;
        let ended = harbor.ended(&build).await;
        assert_eq!((&ended["state"], &ended["error"]["kind"]), (&"failed".into(), &"auth".into()), "{ended}");
    }
    harbor.delete(&build).await;
    harbor.delete(&classic).await;
    let id = word(&pulled["image_id"]);
    assert!(!docker(&["images", "-q", "--no-trunc"]).is_empty() && docker(&["images", "-q", "--no-trunc"]).contains(id));
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
    assert!(!docker(&["images", "-aq", "--no-trunc"]).contains(id), "the image goes with its last owner");
}

/// A name that somebody gives is nobody else's, and nothing that the engine would resolve.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_one_gives_means_nothing_to_others() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = published_image("named");
    harbor.done(&ada, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
    let alias = format!("{}/{}:1", registry(), unique("alias"));
    let told = harbor.done(&ada, Method::POST, "/api/v1/images/tag", json!({"image": image, "tag": alias})).await;
    assert_eq!(told["reference"], alias.as_str());
    let fields = json!({"image": alias, "command": ["cat", "/made-of"], "network": "none"});
    assert_eq!(harbor.prints(&ada, fields.clone()).await, format!("{image}\n"));
    assert_eq!(docker(&["images", "-q", &alias]), "", "no name that others' builds would find");
    let over = harbor.over(&bob, &harbor.run(&bob, fields.clone()).await).await;
    assert_eq!((&over["state"], &over["error"]["code"]), (&"failed".into(), &"image_not_found".into()), "{over}");
    let build = harbor.submit_as(&bob, dockerfile(&format!("FROM {alias}\n")).text("push", "false")).await;
    assert_eq!(harbor.ended(&build).await["state"], "failed");
    // Both may have the same name, for different images.
    let other = published_image("other");
    harbor.done(&bob, Method::POST, "/api/v1/images/pull", json!({"image": other})).await;
    harbor.done(&bob, Method::POST, "/api/v1/images/tag", json!({"image": other, "tag": alias})).await;
    assert_eq!(harbor.prints(&bob, fields.clone()).await, format!("{other}\n"));
    assert_eq!(harbor.prints(&ada, fields).await, format!("{image}\n"));
    // What is pushed is the owner's; the engine's name is only borrowed for it.
    let pushed = harbor.done(&ada, Method::POST, "/api/v1/images/push", json!({"image": alias})).await;
    assert_eq!(tag_digest(&image, None).await.as_deref(), Some(word(&pushed["digest"])));
    assert_eq!(docker(&["images", "-q", &alias]), "");
    // A registry takes images by tag: what a digest would be pushed as is nobody's wish.
    let exact = format!("{}@{}", image.trim_end_matches(":1"), word(&pushed["digest"]));
    harbor.done(&ada, Method::POST, "/api/v1/images/pull", json!({"image": exact})).await;
    let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/images/push", json!({"image": exact})).await;
    assert_eq!((status, word(&told["errors"][0]["field"])), (StatusCode::BAD_REQUEST, "image"), "{told}");
    assert_eq!(tag_digest(&image.replace(":1", ":latest"), None).await, None, "nothing was pushed under another tag");
    for token in [&ada, &bob] {
        for run in harbor.read(token, "/api/v1/runs").await["items"].as_array().expect("a list") {
            harbor.done(token, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
        }
        for one in harbor.read(token, "/api/v1/images").await["items"].as_array().expect("a list") {
            harbor.done(token, Method::DELETE, &format!("/api/v1/images/{}", word(&one["reference"])), Value::Null).await;
        }
    }
}

/// A name goes from the engine with the last who needs it, if it came by a pull of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_others_use_stays() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let pull =
        async |token: &str, image: &str| harbor.done(token, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
    let remove = async |token: &str, image: &str| {
        harbor.done(token, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await
    };
    let is_there = |image: &str| !docker(&["images", "-q", image]).is_empty();
    let operators = published_image("operators");
    docker(&["pull", &operators]);
    pull(&ada, &operators).await;
    pull(&ada, &operators).await;
    remove(&ada, &operators).await;
    assert!(is_there(&operators), "it was there before anybody pulled it here");
    docker(&["rmi", &operators]);
    let shared = published_image("shared");
    for token in [&ada, &bob] {
        pull(token, &shared).await;
    }
    remove(&ada, &shared).await;
    assert!(is_there(&shared), "bob has it");
    remove(&bob, &shared).await;
    assert!(!is_there(&shared));
    let run = published_image("run");
    pull(&ada, &run).await;
    let runs = harbor.run(&bob, json!({"image": run, "command": ["true"], "network": "none"})).await;
    harbor.over(&bob, &runs).await;
    remove(&ada, &run).await;
    assert!(is_there(&run), "bob's container is made from it");
    harbor.done(&bob, Method::DELETE, &format!("/api/v1/runs/{}", id(&runs)), Value::Null).await;
    docker(&["rmi", &run]);
}

/// Which build has made an image is told to its owner alone, who may name it and push it under that name.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_build_is_its_owners_to_name() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = format!("{}/{}:1", registry(), unique("made"));
    let file = format!("FROM busybox\nRUN echo {image} > /made-of\n");
    let build = harbor.submit_as(&ada, dockerfile(&file).text("image", image.clone())).await;
    assert_eq!(harbor.ended(&build).await["state"], "published");
    for (token, made_by) in [(&ada, &build["id"]), (&bob, &Value::Null)] {
        let pulled = harbor.done(token, Method::POST, "/api/v1/images/pull", json!({"image": image})).await;
        assert_eq!(&pulled["used_by"]["build"], made_by, "{pulled}");
        assert_eq!(&harbor.read(token, "/api/v1/images").await["items"][0]["used_by"]["build"], made_by);
    }
    let name = format!("{}/{}:2", registry(), unique("own"));
    let asked = json!({"build": build["id"], "tag": name});
    assert_eq!(harbor.call(&bob, Method::POST, "/api/v1/images/tag", asked.clone()).await.0, StatusCode::NOT_FOUND);
    let named = harbor.done(&ada, Method::POST, "/api/v1/images/tag", asked).await;
    assert_eq!((&named["reference"], &named["used_by"]["build"]), (&name.clone().into(), &build["id"]), "{named}");
    let pushed = harbor.done(&ada, Method::POST, "/api/v1/images/push", json!({"image": name})).await;
    assert_eq!(tag_digest(&name, None).await.as_deref(), Some(word(&pushed["digest"])));
    assert_eq!(tag_digest(&name, None).await, tag_digest(&image, None).await);
    // A token for other destinations pushes to none but those.
    let form = json!({"name": "narrow", "scopes": ["apps:write"], "images": ["127.0.0.1:5000/elsewhere/*"]});
    let narrow = harbor.done(&ada, Method::POST, "/api/v1/tokens", form).await;
    let refused = harbor.call(word(&narrow["token"]), Method::POST, "/api/v1/images/push", json!({"image": name})).await;
    assert_eq!((refused.0, &refused.1["code"]), (StatusCode::FORBIDDEN, &"image_not_allowed".into()), "{}", refused.1);
    for asked in [json!({"tag": name}), json!({"image": image, "build": build["id"], "tag": name})] {
        let (status, told) = harbor.call(&ada, Method::POST, "/api/v1/images/tag", asked).await;
        assert_eq!((status, word(&told["errors"][0]["field"])), (StatusCode::BAD_REQUEST, "image"), "{told}");
    }
    for (token, name) in [(&ada, &image), (&ada, &name), (&bob, &image)] {
        harbor.done(token, Method::DELETE, &format!("/api/v1/images/{name}"), Value::Null).await;
    }
    harbor.delete(&build).await;
    assert!(!docker(&["images", "-aq", "--no-trunc"]).contains(word(&named["image_id"])));
}

/// The classic builder takes a name for the beginning of an id, and anybody's image has one.
#[tokio::test(flavor = "multi_thread")]
async fn no_build_begins_with_the_id_of_an_image() {
    let harbor = harbor(Backend::Sqlite).await;
    let bob = harbor.user("bob").await;
    let full = docker(&["images", "-q", "--no-trunc", "busybox:latest"]);
    let short = full.trim_start_matches("sha256:")[..7].to_owned();
    let files = [format!("FROM {short}\n"), format!("FROM {full}\n"), format!("ARG B=x\nFROM ${{B/x/{short}}}\n")];
    let copied = format!("FROM busybox\nCOPY --from=a{short} /bin/busybox /x\n");
    for file in files.into_iter().chain([copied]) {
        let form = dockerfile(&file).text("push", "false").text("memory", "256m");
        let answer = harbor.request_as(&bob, Method::POST, "/api/v1/builds").multipart(form).send().await.expect("an answer");
        let (status, told) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &"image_by_id".into()), "{file}{told}");
    }
    // The other builder knows names alone.
    let build = harbor.submit_as(&bob, dockerfile(&format!("FROM {short}\n")).text("push", "false")).await;
    assert_eq!(harbor.ended(&build).await["state"], "failed");
}

/// What somebody's credentials brought here is for nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_of_one_is_not_there_for_another() {
    let harbor = harbor(Backend::Sqlite).await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = private_image(&harbor, &ada).await;
    let fields = json!({"image": image, "command": ["cat", "/secret"], "network": "none"});
    assert_eq!(harbor.prints(&ada, fields.clone()).await, format!("{image}\n"));
    assert_eq!(harbor.read(&ada, &format!("/api/v1/images/{image}")).await["private"], true);
    let run = harbor.run(&bob, fields.clone()).await;
    let over = harbor.over(&bob, &run).await;
    assert_eq!(
        (&over["state"], &over["error"]["kind"], &over["error"]["code"]),
        (&"failed".into(), &"auth".into(), &"registry_auth".into()),
        "{over}"
    );
    // Nor by its id, nor by another name for it.
    let by_id = word(&harbor.read(&ada, &format!("/api/v1/images/{image}")).await["image_id"]).to_owned();
    let tag = harbor.call(&bob, Method::POST, "/api/v1/images/tag", json!({"image": image, "tag": "mine:1"})).await;
    assert_eq!(tag.0, StatusCode::NOT_FOUND, "{tag:?}");
    let by_id = harbor.call(&bob, Method::POST, "/api/v1/containers", json!({"image": by_id})).await;
    assert_eq!(by_id.0, StatusCode::BAD_REQUEST, "{by_id:?}");
    for run in harbor.read(&ada, "/api/v1/runs").await["items"].as_array().expect("a list") {
        harbor.done(&ada, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    harbor.done(&ada, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_for_many_runs_is_one() {
    let gate = crate::support::gate::Gate::engine("/images/create?", 0).await;
    let harbor = crate::support::harbor::harbor_with(Backend::Sqlite, |settings| {
        settings.engine = Some(format!("tcp://{}", gate.address));
    })
    .await;
    let (ada, bob) = (harbor.user("ada").await, harbor.user("bob").await);
    let image = published_image("once");
    let fields = json!({"image": image, "command": ["true"], "network": "none"});
    let mut runs = Vec::new();
    for token in [&ada, &bob, &ada, &bob] {
        let run = harbor.run(token, fields.clone()).await;
        runs.push((token, harbor.run_until(token, &run, |run| run["state"] == "pulling").await));
    }
    gate.reached().await;
    gate.open();
    for (token, run) in &runs {
        let over = harbor.over(token, run).await;
        assert_eq!(over["state"], "exited", "{over}");
        assert!(word(&over["image"]).contains("@sha256:"), "{over}");
        let log = harbor.run_log(token, run).await;
        assert!(log.contains("Pulling from") && log.contains("has pulled"), "{log}");
    }
    assert_eq!(
        gate.requests("POST ").iter().filter(|line| line.contains("/images/create?")).count(),
        1,
        "{:?}",
        gate.requests("POST")
    );
    for (token, run) in &runs {
        harbor.done(token, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    }
    for token in [&ada, &bob] {
        harbor.done(token, Method::DELETE, &format!("/api/v1/images/{image}"), Value::Null).await;
    }
    assert_eq!(docker(&["images", "-q", &image]), "");
}
