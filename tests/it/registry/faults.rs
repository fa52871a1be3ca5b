//! Registries that are away, slow, overloaded or lying, and pushes that are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use dockwright::domain::{Digest, ErrorKind, ImageRef};
use dockwright::engine::Images;
use dockwright::registry::{Publisher, Settled};
use tokio::sync::mpsc;

use super::proxy::{Act, Proxy, first};
use super::{POLICY, built, client, image, local, publish, publisher};
use crate::engine::docker;
use crate::support::registry;

#[tokio::test]
async fn a_registry_that_is_down_is_tried_again_and_then_told() {
    let done = built().await;
    let to = image("127.0.0.1:1");
    let (result, lines) = publish(&done.image().id, &to, None).await;
    let error = result.expect_err("nobody is there");
    assert_eq!((error.code, error.kind, error.transient), ("registry_unreachable", ErrorKind::Registry, true), "{error:?}");
    let said = lines.iter().filter(|line| line.contains("trying again")).count();
    assert_eq!(said, POLICY.attempts - 1, "{lines:#?}");
    assert_eq!(local(&to).await, None);
    done.clean_up().await;
}

#[tokio::test]
async fn a_registry_that_never_answers_ends_in_a_timeout() {
    let done = built().await;
    let hung = Proxy::before(&registry(), |_, _| Act::Hang).await;
    let to = image(&hung.host);
    let error = publish(&done.image().id, &to, None).await.0.expect_err("nothing comes");
    assert_eq!((error.code, error.kind, error.transient), ("registry_timeout", ErrorKind::Registry, true), "{error:?}");

    // It may also hang in the middle, where the engine would wait for ever.
    let hung =
        Proxy::before(
            &registry(),
            |method, path| {
                if *method == Method::PUT && path.contains("/manifests/") { Act::Hang } else { Act::Pass }
            },
        )
        .await;
    let to = image(&hung.host);
    let error = publish(&done.image().id, &to, None).await.0.expect_err("nothing comes");
    assert_eq!((error.code, error.transient), ("registry_timeout", true), "{error:?}");
    assert!(*hung.manifests.borrow() >= POLICY.attempts, "it was tried again");
    assert_eq!(local(&to).await, None);
    done.clean_up().await;
}

#[tokio::test]
async fn an_overloaded_registry_is_given_time() {
    let done = built().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let proxy = Proxy::before(&registry(), move |method, path| {
        let first = *method == Method::POST && path.ends_with("/blobs/uploads/") && count.fetch_add(1, Ordering::SeqCst) < 2;
        match (first, count.load(Ordering::SeqCst)) {
            (true, 1) => Act::status(StatusCode::SERVICE_UNAVAILABLE),
            (true, _) => {
                let headers = HeaderMap::from_iter([(axum::http::header::RETRY_AFTER, HeaderValue::from_static("1"))]);
                Act::Answer(StatusCode::TOO_MANY_REQUESTS, headers, String::new())
            }
            _ => Act::Pass,
        }
    })
    .await;
    let started = Instant::now();
    let (digest, lines) = publish(&done.image().id, &image(&proxy.host), None).await;
    digest.unwrap_or_else(|e| panic!("{e:?} {lines:#?}"));
    assert!(lines.iter().any(|line| line.contains("503") && line.contains("trying again")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("429") && line.contains("trying again in 1.0 s")), "{lines:#?}");
    assert!(started.elapsed() >= Duration::from_secs(1), "the registry's own word for when is kept");
    done.clean_up().await;
}

#[tokio::test]
async fn a_refused_push_is_not_tried_again() {
    let done = built().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let proxy = Proxy::before(&registry(), move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Act::Answer(StatusCode::FORBIDDEN, HeaderMap::new(), body.into())
    })
    .await;
    let error = publish(&done.image().id, &image(&proxy.host), None).await.0.expect_err("is refused");
    assert_eq!((error.code, error.kind, error.transient), ("push_denied", ErrorKind::Auth, false), "{error:?}");
    assert!(error.message.contains("requested access to the resource is denied"), "{error:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    done.clean_up().await;
}

#[tokio::test]
async fn a_tag_that_names_something_else_afterwards_is_told() {
    let done = built().await;
    let proxy = Proxy::before(&registry(), |method, path| {
        if *method == Method::GET && path.ends_with("/manifests/1") {
            Act::Answer(StatusCode::OK, HeaderMap::new(), r#"{"schemaVersion":2}"#.into())
        } else {
            Act::Pass
        }
    })
    .await;
    let error = publish(&done.image().id, &image(&proxy.host), None).await.0.expect_err("is seen");
    assert_eq!((error.code, error.kind), ("digest_mismatch", ErrorKind::Registry), "{error:?}");
    done.clean_up().await;
}

fn is_manifest(method: &Method, path: &str) -> bool {
    *method == Method::PUT && path.contains("/manifests/")
}

/// A proxy that is slow with what the rule says.
async fn slow(delay: Duration, with: fn(&Method, &str) -> bool) -> Proxy {
    Proxy::before(&registry(), move |method, path| if with(method, path) { Act::Delay(delay) } else { Act::Pass }).await
}

/// Publishes until the slow request has come, then drops the publish and answers how it was settled, and how fast.
async fn cancelled(proxy: &Proxy, id: &Digest, to: &ImageRef) -> (Settled, Duration) {
    let publisher = publisher();
    let (lines, mut told) = mpsc::channel(64);
    let mut push = Box::pin(publisher.publish(id, to, None, &lines));
    let read = async { while told.recv().await.is_some() {} };
    tokio::select! {
        result = &mut push => panic!("{result:?}"),
        () = read => panic!("it has nothing more to say"),
        () = first(&proxy.delayed) => {}
    }
    assert_eq!(local(to).await.as_ref(), Some(id), "the name is borrowed while it is pushed");
    let cancelled = Instant::now();
    drop(push);
    let settled = publisher.settle_after_cancel(id, to, None).await.expect("the registry answers");
    let took = cancelled.elapsed();
    assert_eq!(local(to).await, None, "the name is given back by then");
    (settled, took)
}

#[tokio::test]
async fn a_cancelled_push_moves_no_tag_and_leaves_no_name() {
    let done = built().await;
    let proxy = slow(Duration::from_secs(2), |method, path| {
        [Method::PATCH, Method::PUT].contains(method) && path.contains("/blobs/uploads/")
    })
    .await;
    let to = image(&proxy.host);
    let (settled, took) = cancelled(&proxy, &done.image().id, &to).await;
    assert_eq!(settled, Settled::NotPushed);
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The engine does not hang up on the request that is under way, but must not go on after it.
    first(&proxy.over).await;
    // Another push, which begins now, goes its whole way: the cancelled one had less left.
    publish(&done.image().id, &image(&registry()), None).await.0.expect("published");
    assert_eq!(*proxy.manifests.borrow(), 0);
    assert_eq!(client().manifest(&to, None).await.expect("answers"), None);
    done.clean_up().await;
}

#[tokio::test]
async fn a_cancel_that_comes_too_late_is_told_as_pushed() {
    let done = built().await;
    let proxy = slow(Duration::from_secs(1), is_manifest).await;
    let to = image(&proxy.host);
    let (settled, _) = cancelled(&proxy, &done.image().id, &to).await;
    let found = client().manifest(&to, None).await.expect("answers").expect("the engine had sent it");
    assert_eq!(settled, Settled::Pushed(found.digest));
    done.clean_up().await;
}

#[tokio::test]
async fn a_name_that_a_killed_process_left_borrowed_is_found_and_given_back() {
    let (theirs, done) = (built().await, built().await);
    let id = done.image().id.clone();
    let proxy = slow(Duration::from_secs(3), is_manifest).await;
    let to = image(&proxy.host);
    docker().tag(&theirs.image().id, &to.to_string()).await.expect("tags");
    // A runtime that is shut down does none of the clean-up, as a killed process does none.
    let (killed_id, killed_to) = (id.clone(), to.clone());
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    killed.spawn(async move {
        let (lines, _told) = mpsc::channel(64);
        let publisher = Publisher::new(Arc::new(docker()), client(), POLICY, "tests");
        publisher.publish(&killed_id, &killed_to, None, &lines).await
    });
    first(&proxy.manifests).await;
    killed.shutdown_background();
    assert_eq!(local(&to).await.as_ref(), Some(&id));
    let publisher = publisher();
    let others = Publisher::new(Arc::new(docker()), client(), POLICY, "another installation");
    assert!(!others.interrupted().await.expect("answers").contains(&to), "another installation's push is none of its business");
    assert!(publisher.interrupted().await.expect("answers").contains(&to));
    publisher.recover(&to).await.expect("gives back");
    assert_eq!(local(&to).await.as_ref(), Some(&theirs.image().id));
    assert!(!publisher.interrupted().await.expect("answers").contains(&to));
    docker().untag(&to.to_string()).await.expect("goes");
    for one in [theirs, done] {
        one.clean_up().await;
    }
}
