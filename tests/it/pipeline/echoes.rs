//! A registry that says back what it was sent.

use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::json;

use super::on_both_stores;
use crate::accounts::canaries::everything;
use crate::credentials::{assert_not_in_folder, assert_nowhere, forms, login};
use crate::hooks::receiver::Receiver;
use crate::hooks::{make, open};
use crate::registry::proxy::{Act, Proxy};
use crate::support::redis::RedisServer;
use crate::support::service::{Backend, dockerfile, id, start_with};
use crate::support::{registry, unique};

on_both_stores!(what_a_registry_says_back_of_the_password_is_redacted_everywhere);

/// Asks for a password, and refuses it in its own words.
fn echo(_: &Method, _: &str, headers: &HeaderMap) -> Act {
    let Some(sent) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        let asks = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, "Basic realm=\"r\"".parse().expect("a header"))]);
        return Act::Answer(StatusCode::UNAUTHORIZED, asks, String::new());
    };
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.decode(sent.trim_start_matches("Basic ")).expect("base64");
    let said = format!("you sent {sent}, which is {}", String::from_utf8_lossy(&pair));
    Act::Answer(StatusCode::FORBIDDEN, HeaderMap::new(), json!({"errors": [{"code": "DENIED", "message": said}]}).to_string())
}

async fn what_a_registry_says_back_of_the_password_is_redacted_everywhere(backend: Backend) {
    let redis = match backend {
        Backend::Redis => Some(RedisServer::start().await),
        Backend::Sqlite => None,
    };
    let liar = Proxy::by_headers(&registry(), echo).await;
    let service = start_with(backend, |settings| {
        open(settings);
        settings.store = redis.as_ref().map(RedisServer::url);
    })
    .await;
    let receiver = Receiver::willing().await;
    make(&service, &service.token, json!({"url": receiver.url(), "events": ["build.failed"]})).await;
    let canary = unique("Canary");
    let form =
        dockerfile("FROM busybox\n").text("image", format!("{}/a/x:1", liar.host)).text("image", format!("{}/a/y:1", liar.host));
    let ended = service.ended(&service.submit(login(form, "robot", &canary)).await).await;
    assert_eq!((&ended["state"], &ended["error"]["kind"]), (&"failed".into(), &"auth".into()), "{ended}");
    for error in [&ended["error"], &ended["destinations"][0]["error"], &ended["destinations"][1]["error"]] {
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("you sent Basic [redacted], which is robot:[redacted]"), "{message}");
    }
    let all = forms("robot", &canary);
    let told = receiver.hears(1).await;
    assert_nowhere(&all, told[0].body.as_bytes(), "the webhook");
    let path = format!("/api/v1/builds/{}/logs", id(&ended));
    let events = service.request(reqwest::Method::GET, &path).header("accept", "text/event-stream").send().await;
    for text in [ended.to_string(), service.log(&ended).await, events.expect("an answer").text().await.expect("text")] {
        assert_nowhere(&all, text.as_bytes(), "what is told of the build");
    }
    assert!(assert_not_in_folder(&all, &service.config.data_dir) > 1);
    if let Some(redis) = &redis {
        assert_nowhere(&all, &everything(&redis.url()), "a key of Redis");
    }
    service.delete(&ended).await;
}
