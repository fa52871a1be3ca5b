//! Base images that are named by digest.

use serde_json::Value;

use crate::credentials::login;
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, dockerfile, id, tar};
use crate::support::{private_registry, unique};

async fn of(service: &Running, token: &str, text: &str, credentials: Option<(&str, &str)>) -> Value {
    let mut form = service::context(tar(&[("Dockerfile", text)])).text("push", "false");
    if let Some((user, password)) = credentials {
        let (host, ..) = private_registry();
        form = login(form.text("image", format!("{host}/x")), user, password);
    }
    let ended = service.ended(&service.submit_as(token, form).await).await;
    service.delete(&ended).await;
    ended
}

on_both_stores!(a_private_image_is_not_given_for_its_digest);

/// Whoever knows a digest has not got the image: not by its own name, and not by one of a registry that says it had it.
async fn a_private_image_is_not_given_for_its_digest(backend: Backend) {
    let service = service::start(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let (host, user, password) = private_registry();
    let image = format!("{host}/{}", unique("private"));
    let form = dockerfile(&format!("FROM busybox\nRUN echo {image} >/private\n")).text("image", format!("{image}:1"));
    let pushed = service.ended(&service.submit_as(&ada, login(form, &user, &password)).await).await;
    let digest = pushed["destinations"][0]["digest"].as_str().unwrap_or_else(|| panic!("{pushed}")).to_owned();
    let exact = format!("{image}@{digest}");
    let hers = of(&service, &ada, &format!("FROM {exact}\nRUN cat /private\n"), Some((&user, &password))).await;
    assert_eq!(hers["state"], "built", "{hers}");
    let nobody = format!("{}/x@{digest}", crate::support::registry());
    for (text, kind) in [
        (format!("FROM {exact}\nRUN cat /private\n"), "auth"),
        (format!("FROM busybox\nCOPY --from={exact} /private /\n"), "auth"),
        (format!("ARG X={image}\nFROM ${{X}}@{digest}\n"), "auth"),
        (format!("FROM {nobody}\n"), "user"),
        (format!("FROM 127.0.0.1:1/x@{digest}\n"), "registry"),
    ] {
        let his = of(&service, &bob, &text, None).await;
        assert_eq!((&his["state"], &his["error"]["kind"]), (&"failed".into(), &kind.into()), "{}: {his}", id(&his));
    }
    service.delete(&pushed).await;
}
