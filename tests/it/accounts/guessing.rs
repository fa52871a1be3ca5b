//! Guessing passwords is slow, keeps nobody else out, and learns nothing from how long an answer takes.

use std::time::{Duration, Instant};

use dockwright::domain::Scope;
use dockwright::store::objects::Kind;
use futures::StreamExt;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::people::{PASSWORD, with_password};
use crate::support::service::{Backend, Running, start_with};

/// A service that believes a proxy on this machine about who its clients are.
async fn behind_a_proxy(backend: Backend) -> Running {
    let service = start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        settings.trusted_proxies = Some(vec!["127.0.0.0/8".parse().expect("a network")]);
    })
    .await;
    with_password(&service, "ada", "user").await;
    service
}

/// Somebody who tries a password from an address: the status, and for how long to wait.
async fn attempt(client: &reqwest::Client, service: &Running, from: &str, name: &str, password: &str) -> (u16, Option<u64>) {
    let asked = client.get(service.url("/api/v1/me")).basic_auth(name, Some(password)).header("x-forwarded-for", from);
    let answer = asked.send().await.expect("an answer");
    let wait = answer.headers().get(RETRY_AFTER).map(|wait| wait.to_str().expect("text").parse().expect("seconds"));
    (answer.status().as_u16(), wait)
}

/// A thousand attempts, fifty at once; how many were looked at.
async fn a_thousand(service: &Running, from: &str, name: impl Fn(usize) -> String) -> usize {
    let client = crate::support::http();
    let attempts = futures::stream::iter((0..1000).map(|number| {
        let (client, name) = (&client, name(number));
        async move { attempt(client, service, from, &name, &format!("wrong password {number}")).await }
    }));
    let answers: Vec<(u16, Option<u64>)> = attempts.buffer_unordered(50).collect().await;
    for (status, wait) in &answers {
        assert!(matches!((status, wait), (401, None) | (429, Some(1..=900))), "{status} {wait:?}");
    }
    answers.iter().filter(|(status, _)| *status == 401).count()
}

async fn a_thousand_guesses(backend: Backend) {
    let service = behind_a_proxy(backend).await;
    let client = crate::support::http();
    let looked_at = a_thousand(&service, "192.0.2.1", |_| "ada".into()).await;
    // Five are free, and those beyond wait 1, 2, 4 … seconds.
    assert!((1..=12).contains(&looked_at), "{looked_at} of a thousand guesses at one name were looked at");
    let (status, wait) = attempt(&client, &service, "192.0.2.1", "ada", PASSWORD).await;
    assert_eq!(status, 429, "locked at that address");
    assert!(wait.is_some_and(|seconds| seconds >= 1), "{wait:?}");
    assert_eq!(attempt(&client, &service, "192.0.2.2", "ada", PASSWORD).await, (200, None), "served at another");
    // At many names from one address.
    let looked_at = a_thousand(&service, "192.0.2.3", |number| format!("name-{number}")).await;
    assert!((1..=30).contains(&looked_at), "{looked_at} of a thousand names were looked at");
    assert_eq!(attempt(&client, &service, "192.0.2.4", "ada", PASSWORD).await, (200, None));
    let kept = service.store.all_objects::<Value>(&Scope::All, Kind::Lockout).await.expect("the store").len();
    assert!(kept <= 40, "{kept} counts are kept of two thousand attempts");
    let token = client.get(service.url("/api/v1/me")).bearer_auth(&service.token).header("x-forwarded-for", "192.0.2.1");
    assert_eq!(token.send().await.expect("an answer").status(), 200, "a token is no guess");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_are_slowed_with_the_embedded_store() {
    a_thousand_guesses(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_are_slowed_with_redis() {
    a_thousand_guesses(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_account_does_not_wipe_out_the_guesses_at_others() {
    let service = behind_a_proxy(Backend::Sqlite).await;
    let client = crate::support::http();
    let mut looked_at = 0;
    for number in 0..60 {
        if number % 10 == 9 {
            attempt(&client, &service, "192.0.2.9", "ada", PASSWORD).await;
        }
        looked_at += usize::from(attempt(&client, &service, "192.0.2.9", &format!("name-{number}"), "a guess").await.0 == 401);
    }
    assert!((15..=30).contains(&looked_at), "{looked_at} of sixty guesses were looked at");
}

/// Whoever has got hold of a token or a session cannot try passwords any faster for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_password_is_guessed_no_faster_than_at_a_log_in() {
    let service = behind_a_proxy(Backend::Sqlite).await;
    let client = crate::support::http();
    let made =
        client.post(service.url("/api/v1/tokens")).basic_auth("ada", Some(PASSWORD)).json(&serde_json::json!({"name": "x"}));
    let made: Value = made.send().await.expect("an answer").json().await.expect("JSON");
    let token = made["token"].as_str().expect("a token");
    let mut statuses = Vec::new();
    for number in 0..12 {
        let form =
            serde_json::json!({"old_password": format!("a guess {number}"), "new_password": "another horse with a battery"});
        let change = client.put(service.url("/api/v1/me/password")).bearer_auth(token).json(&form);
        statuses.push(change.header("x-forwarded-for", "192.0.2.77").send().await.expect("an answer").status().as_u16());
    }
    assert!(statuses.starts_with(&[400]) && statuses.contains(&429), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_proxy_is_not_believed_about_its_address() {
    let service = start_with(Backend::Sqlite, |settings| settings.engine = Some("unix:///nonexistent/engine".into())).await;
    with_password(&service, "ada", "user").await;
    let client = crate::support::http();
    let mut statuses = Vec::new();
    for number in 0..12 {
        statuses.push(attempt(&client, &service, &format!("192.0.2.{number}"), "ada", "a guess").await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_an_unknown_name_takes_as_long_as_a_wrong_password() {
    let service = behind_a_proxy(Backend::Sqlite).await;
    let client = crate::support::http();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..31 {
        for (kind, name) in ["ada", "nobody", "Not A Name"].into_iter().enumerate() {
            // Each from an address of its own, so that none is slowed.
            let began = Instant::now();
            let answer = attempt(&client, &service, &format!("198.51.{kind}.{number}"), name, "a wrong password").await;
            assert_eq!(answer, (401, None));
            times[kind].push(began.elapsed());
        }
    }
    let [known, unknown, impossible] = times.map(median);
    for other in [unknown, impossible] {
        assert!(known < other * 2 && other < known * 2, "known {known:?}, unknown {unknown:?}, impossible {impossible:?}");
    }
}
