//! The engine or the store goes away, and comes back.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::engine::OwnEngine;
use crate::support::redis::RedisServer;
use crate::support::service::{self, Backend, Running, dockerfile, id};
use crate::support::{seen, unique, watch};

async fn ready(service: &Running) -> (StatusCode, Value) {
    let answer = service.request(Method::GET, "/readyz").send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// Watches `/readyz` until it says this of a part; everything it then says.
pub async fn until_ready(service: &Running, part: &str, ok: bool) -> (StatusCode, Value) {
    let what = format!("{part} becomes {ok}");
    seen(&what, async || Some(ready(service).await).filter(|(_, said)| said["checks"][part]["ok"] == ok)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_wait_while_the_engine_is_away() {
    let mut engine = OwnEngine::start().await;
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some(engine.address())).await;
    let mark = unique("mark");
    let step = format!("FROM busybox\nRUN echo {mark} && sleep 3\n");
    let broken = service.submit(dockerfile(&step).text("push", "false").text("network", "none")).await;
    service.logged(&broken, &format!("{mark}\n")).await;
    engine.stop();
    let (status, said) = until_ready(&service, "engine", false).await;
    assert_eq!((status, &said["checks"]["store"]["ok"]), (StatusCode::SERVICE_UNAVAILABLE, &true.into()), "{said}");
    let waits = service.submit(dockerfile("FROM busybox\nLABEL a=b\n").text("push", "false")).await;
    service.until(&broken, |now| now["state"] == "queued").await;
    let waiting = service.get(&format!("/api/v1/builds/{}", id(&waits))).await;
    assert_eq!(waiting["state"], "queued", "{waiting}");
    engine.restart().await;
    for build in [&broken, &waits] {
        let ended = service.ended(build).await;
        assert_eq!(ended["state"], "built", "{ended}\n{}", service.log(build).await);
        assert_eq!(ended["attempt"], if id(build) == id(&broken) { 2 } else { 1 });
        assert_eq!(service.delete(build).await.json::<Value>().await.expect("JSON")["record"], "removed");
    }
    assert_eq!(until_ready(&service, "engine", true).await.0, StatusCode::OK);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_in_a_step_keeps_nothing_of_the_build() {
    let mut engine = OwnEngine::start().await;
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some(engine.address())).await;
    let mark = unique("mark");
    // The limit asks for the classic builder, whose steps are containers of the engine's.
    let step = format!("FROM busybox\nENV a=b\nRUN echo {mark} && sleep 600\n");
    let form = dockerfile(&step).text("push", "false").text("network", "none").text("memory", "64m").text("no_cache", "true");
    let build = service.submit(form).await;
    service.logged(&build, &format!("{mark}\n")).await;
    engine.kill();
    service.until(&build, |now| now["state"] == "queued").await;
    service.cancel(&build).await;
    assert_eq!(service.ended(&build).await["state"], "cancelled");
    engine.restart().await;
    watch("no container is left", || engine.prints(&["ps", "--all", "--quiet"]).is_empty()).await;
    let images = || engine.prints(&["images", "--all", "--format", "{{.Repository}}"]);
    watch("no image is left", || images() == "busybox").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_build_settles_when_redis_is_back() {
    let mut redis = RedisServer::start().await;
    let service = service::start_with(Backend::Redis, |s| {
        s.store = Some(redis.url());
        s.lease = Some("20s".parse().expect("a span"));
    })
    .await;
    let mark = unique("mark");
    let text = format!("FROM busybox\nRUN echo {mark}-1 && sleep 3 && echo {mark}-2 && true\n");
    let build = service.submit(dockerfile(&text).text("push", "false")).await;
    service.logged(&build, &format!("{mark}-1\n")).await;
    redis.kill();
    let own = format!("/api/v1/builds/{}", id(&build));
    for (method, path) in [(Method::GET, &*own), (Method::GET, "/api/v1/builds"), (Method::POST, &format!("{own}/cancel"))] {
        let began = std::time::Instant::now();
        let answer = service.request(method, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(answer.headers().contains_key("retry-after"));
        assert!(began.elapsed().as_secs() < 5, "{path} was held for {:?}", began.elapsed());
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "unavailable");
    }
    let refused = service.post(dockerfile("FROM busybox\n").text("push", "false")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "nothing is acknowledged that is not kept");
    let (status, said) = ready(&service).await;
    assert_eq!((status, &said["checks"]["store"]["ok"]), (StatusCode::SERVICE_UNAVAILABLE, &false.into()), "{said}");
    // The step goes on, and ends, while there is no store.
    watch("the step ends", || !crate::options::runs(&mark)).await;
    redis.restart().await;
    assert_eq!(until_ready(&service, "store", true).await.1["checks"]["store"]["ok"], true);
    let ended = service.ended(&build).await;
    let log = service.log(&build).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &1.into()), "{ended}\n{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with(&mark)).collect();
    assert_eq!(lines, [format!("{mark}-1"), format!("{mark}-2")], "no line is lost or told twice: {log}");
    assert_eq!(service.delete(&build).await.status(), StatusCode::OK);
    assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]), "and what was refused does not exist");
}
