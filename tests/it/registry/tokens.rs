//! A registry that asks for tokens: the engine pushes and pulls with them, and never holds the password behind them.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use dockwright::domain::{BuilderKind, Credentials};
use secrecy::SecretString;

use super::proxy::{Act, Proxy};
use super::{built, client, image, publish};
use crate::engine::{build, request};
use crate::support::registry;

/// What was asked, and how the one who asked has shown who it is.
struct Heard {
    path: String,
    agent: String,
    authorization: Option<String>,
}

/// The open registry behind a token server of its own. Each token it gives out ends at once by its word; the manifest is taken only
/// with a token from the `taken`th on.
async fn with_tokens(taken: usize) -> (Proxy, Credentials, Arc<Mutex<Vec<Heard>>>) {
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let (notes, given) = (Arc::clone(&heard), Mutex::new(0));
    let proxy = Proxy::by_headers(&registry(), move |method, path, headers| {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        let authorization = text("authorization");
        let agent = text("user-agent").unwrap_or_default();
        notes.lock().expect("no panic").push(Heard { path: path.to_owned(), agent, authorization: authorization.clone() });
        let mut given = given.lock().expect("no panic");
        if path == "/token" && authorization.as_deref() == Some("Basic cm9ib3Q6Y2FuYXJ5") {
            *given += 1;
            return Act::Answer(StatusCode::OK, HeaderMap::new(), format!(r#"{{"token":"t-{given}","expires_in":0}}"#));
        }
        let token = authorization.as_deref().and_then(|shown| shown.strip_prefix("Bearer t-")?.parse::<usize>().ok());
        let manifest = *method == Method::PUT && path.contains("/manifests/");
        if token.is_some_and(|token| token <= *given && (token >= taken || !manifest)) {
            return Act::Pass;
        }
        let host = text("host").expect("a host");
        let challenge = HeaderValue::try_from(format!(r#"Bearer realm="http://{host}/token",service="it""#)).expect("a header");
        let said = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Act::Answer(StatusCode::UNAUTHORIZED, HeaderMap::from_iter([(header::WWW_AUTHENTICATE, challenge)]), said.into())
    })
    .await;
    let own = Credentials::new(&proxy.host, "robot", SecretString::from("canary"));
    (proxy, own, heard)
}

/// The engine came, and nobody but the service has shown the password, to the token server alone.
fn only_tokens_came_from_the_engine(heard: &Mutex<Vec<Heard>>) {
    let heard = heard.lock().expect("no panic");
    let engine = |one: &&Heard| !one.agent.starts_with("dockwright/");
    assert!(heard.iter().filter(engine).any(|one| one.authorization.as_ref().is_some_and(|shown| shown.starts_with("Bearer"))));
    for one in heard.iter().filter(|one| one.authorization.as_ref().is_some_and(|shown| shown.starts_with("Basic"))) {
        assert_eq!((&*one.path, engine(&one)), ("/token", false), "{}", one.agent);
    }
}

#[tokio::test]
async fn a_push_goes_by_a_token() {
    let done = built().await;
    let (proxy, own, heard) = with_tokens(1).await;
    let to = image(&proxy.host);
    let digest = publish(&done.image().id, &to, Some(&own)).await.0.expect("publishes");
    assert_eq!(client().manifest(&to, Some(&own)).await.expect("answers").map(|found| found.digest), Some(digest));
    only_tokens_came_from_the_engine(&heard);
    done.clean_up().await;
}

#[tokio::test]
async fn a_push_whose_token_ends_goes_on_with_another() {
    let done = built().await;
    let (proxy, own, heard) = with_tokens(2).await;
    let (digest, told) = publish(&done.image().id, &image(&proxy.host), Some(&own)).await;
    digest.unwrap_or_else(|e| panic!("{e:?}\n{told:#?}"));
    assert!(told.iter().any(|line| line.contains("the registry's token ended") && line.contains("trying again")), "{told:#?}");
    only_tokens_came_from_the_engine(&heard);
    let (proxy, own, _) = with_tokens(usize::MAX).await;
    let error = publish(&done.image().id, &image(&proxy.host), Some(&own)).await.0.expect_err("no token is good enough");
    assert_eq!(error.code, "token_ended", "{error:?}");
    done.clean_up().await;
}

#[tokio::test]
async fn buildkit_pulls_base_images_by_a_token() {
    let base = built().await;
    let (proxy, own, heard) = with_tokens(1).await;
    let from = image(&proxy.host);
    publish(&base.image().id, &from, Some(&own)).await.0.expect("publishes");
    heard.lock().expect("no panic").clear();
    let asks = dockwright::engine::BuildRequest { credentials: vec![own.clone()], pull: true, ..request(BuilderKind::Buildkit) };
    let done = build(asks, &[("Dockerfile", &format!("FROM {from}\nRUN true\n"))]).await;
    done.image();
    only_tokens_came_from_the_engine(&heard);
    let denied = build(request(BuilderKind::Buildkit), &[("Dockerfile", &format!("FROM {from}\nRUN echo {from}\n"))]).await;
    assert_eq!(denied.error().code, "registry_auth", "another build without credentials: {:?}", denied.error());
    for done in [base, done] {
        done.clean_up().await;
    }
}
