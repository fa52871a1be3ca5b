//! A Redis that is killed again and again while builds come in and are built.

use std::time::Duration;

use serde_json::Value;

use super::{some_moment, times};
use crate::support::redis::RedisServer;
use crate::support::service::{self, Backend, Running, docker, dockerfile, id};

/// Submits one after the other until told to stop; what was accepted. Anything but that must be a 503 that says when to come back.
async fn submit_all_along(service: &Running, stop: &tokio_util::sync::CancellationToken) -> Vec<Value> {
    let mut accepted = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(60));
    while !stop.is_cancelled() {
        pace.tick().await;
        let answer = service.post(dockerfile("FROM busybox\n").text("push", "false")).await;
        let (status, again) = (answer.status(), answer.headers().contains_key("retry-after"));
        let said: Value = answer.json().await.expect("JSON");
        if status == 202 {
            accepted.push(said);
        } else {
            assert_eq!((status.as_u16(), again), (503, true), "{said}");
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_killed_under_load_loses_nothing_that_was_acknowledged() {
    let mut redis = RedisServer::start().await;
    let service = service::start_with(Backend::Redis, |s| s.store = Some(redis.url())).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let restarts = times(4, 100);
    let chaos = async {
        for _ in 0..restarts {
            some_moment(900).await;
            redis.kill();
            some_moment(900).await;
            redis.restart().await;
        }
        stop.cancel();
    };
    let (first, second, ()) = tokio::join!(submit_all_along(&service, &stop), submit_all_along(&service, &stop), chaos);
    let accepted = [first, second].concat();
    println!("{restarts} restarts, {} accepted", accepted.len());
    assert!(accepted.len() >= restarts, "it takes builds in between: {}", accepted.len());
    for build in &accepted {
        let ended = service.ended(build).await;
        assert_eq!(ended["state"], "built", "{ended}\n{}", service.log(build).await);
    }
    // What was not acknowledged may have been taken all the same; it is built too, and nothing is stuck.
    service.idle().await;
    let mut tags: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = service.get(&format!("/api/v1/builds?limit=200{cursor}")).await;
        tags.extend(page["items"].as_array().expect("items").iter().map(|build| format!("dockwright.local/build:{}", id(build))));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(tags.len() >= accepted.len());
    for some in tags.chunks(100) {
        docker(&[&["rmi"], some.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    }
}
