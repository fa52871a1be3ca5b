//! An engine that is restarted again and again while it builds.

use super::super::parts::until_ready;
use super::{any, some_moment, times};
use crate::support::engine::OwnEngine;
use crate::support::service::{self, Backend, dockerfile, id};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn builds_outlive_the_restarts_of_their_engine() {
    let mut engine = OwnEngine::start().await;
    let service = service::start_with(Backend::Sqlite, |s| {
        s.engine = Some(engine.address());
        s.workers = Some(2);
    })
    .await;
    let (restarts, mut builds) = (times(2, 20), Vec::new());
    for n in 0..restarts * 4 {
        // Some for each of the builders.
        let text = format!("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x && sleep 0.{}\n", any(10));
        let form = dockerfile(&text).text("push", "false").text("network", "none").text("no_cache", "true");
        builds.push(service.submit(if n % 4 == 3 { form.text("memory", "64m") } else { form }).await);
    }
    for _ in 0..restarts {
        some_moment(2000).await;
        engine.stop();
        until_ready(&service, "engine", false).await;
        engine.restart().await;
    }
    for build in &builds {
        let ended = service.ended(build).await;
        assert_eq!(ended["state"], "built", "{ended}\n{}", service.log(build).await);
        assert!(ended["attempt"].as_u64() <= Some(restarts as u64 + 1), "{ended}");
    }
    assert_eq!(until_ready(&service, "engine", true).await.0, 200);
    assert_eq!(engine.prints(&["ps", "--all", "--quiet"]), "", "no container is left");
    for build in &builds {
        assert_eq!(service.delete(build).await.status(), 200, "{}", id(build));
    }
    assert_eq!(engine.prints(&["images", "--all", "--format", "{{.Repository}}"]), "busybox", "no image is left");
    service.stop().await;
}
