//! What a container uses.

use std::time::Duration;

use dockwright::engine::containers::{Containers, Stats};
use futures::StreamExt;

use super::own::Own;

#[tokio::test]
async fn a_busy_container_shows_until_it_ends() {
    let own = Own::new().await;
    let mut request = own.request(&["sh", "-c", "head -c 8000000 /dev/zero > /dev/shm/x; sleep 1000 & while :; do :; done"]);
    request.milli_cpus = 500;
    request.network = Some("bridge".into());
    let id = own.start(request).await.expect("starts");
    let mut stats = own.docker.stats(&id).await.expect("answers");
    let mut seen: Vec<Stats> = Vec::new();
    while seen.len() < 3 {
        seen.push(stats.next().await.expect("goes on").expect("a sample"));
    }
    for sample in &seen {
        assert!((100..=700).contains(&sample.milli_cpus), "half a CPU at most: {sample:?}");
        assert!(sample.memory_bytes > 8_000_000 && sample.memory_bytes < sample.memory_limit_bytes, "{sample:?}");
        assert_eq!((sample.memory_limit_bytes, sample.pids), (64 << 20, 3), "{sample:?}");
    }
    assert!(seen.windows(2).all(|pair| pair[0].at < pair[1].at), "{seen:?}");
    own.docker.kill(&id, "SIGKILL").await.expect("ends");
    let rest = tokio::time::timeout(Duration::from_secs(20), stats.collect::<Vec<_>>()).await.expect("the samples end");
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
}
